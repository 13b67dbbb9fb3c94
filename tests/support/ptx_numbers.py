"""Numbers at which PTX arithmetic goes wrong, and exact rounding by rational numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np

INTEGERS = {
    f"{letter}{bits}": np.dtype(f"{kind}{bits // 8}")
    for letter, kind in (("u", "u"), ("s", "i"), ("b", "u"))
    for bits in (16, 32, 64)
}
FLOATS = {
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
}
TYPES = INTEGERS | FLOATS


def integers(type_name: str, count: int = 64) -> np.ndarray:
    """Return values at which integer arithmetic goes wrong, and random ones."""
    dtype = INTEGERS[type_name]
    bits = 8 * dtype.itemsize
    edges = [0, 1, 2, 3, 7, 8, 31, 32, 33, 255, -1, -2, -3, -7, -32, 1 << bits - 1]
    edges += [(1 << bits - 1) - 1, (1 << bits - 1) + 1, 1 << bits // 2, 0x1234567890ABCDEF]
    rng = np.random.default_rng(bits)
    drawn = [int(n) for n in rng.integers(0, 1 << 63, max(count - len(edges), 0))]
    values = [value % (1 << bits) for value in (edges + drawn)[:count]]
    return np.array(values, f"u{dtype.itemsize}").view(dtype)


def combinations(*columns: np.ndarray) -> list[np.ndarray]:
    """Combine every value of each column with every value of the others."""
    return [grid.ravel() for grid in np.meshgrid(*columns, indexing="ij")]


def wrapped(value: int, dtype: np.dtype) -> int:
    bits = 8 * dtype.itemsize
    value %= 1 << bits
    return value - (1 << bits) if dtype.kind == "i" and value >> bits - 1 else value


def unsigned(value: int, bits: int = 32) -> int:
    return value % (1 << bits)


FORMATS = {"f16": (11, -24, 65504.0), "bf16": (8, -133, float(ml_dtypes.finfo("bfloat16").max)),
           "f32": (24, -149, float(np.finfo(np.float32).max)),
           "f64": (53, -1074, float(np.finfo(np.float64).max))}  # fmt: skip
"""Significant bits, exponent of the smallest subnormal number, largest number."""


def rounded(value: Fraction, type_name: str, mode: str = "rn") -> float:
    """Round to nearest even (rn), down (rm), up (rp) or towards zero (rz)."""
    digits, smallest, greatest = FORMATS[type_name]
    if value == 0:
        return 0.0
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    unit = Fraction(2) ** max(exponent - digits + 1, smallest)
    steps, rest = divmod(size, unit)
    up = {"rn": rest * 2 > unit or (rest * 2 == unit and steps % 2 == 1),
          "rz": False, "rm": value < 0, "rp": value > 0}[mode]  # fmt: skip
    size = (steps + (up and rest != 0)) * unit
    if size > Fraction(greatest):
        number = (
            math.inf if mode == "rn" or up or mode == ("rm" if value < 0 else "rp") else greatest
        )
    else:
        number = float(size)
    return number if value > 0 else -number


def floats(type_name: str, count: int = 64) -> np.ndarray:
    """Return zeros, infinities, NaN, subnormal, large and neighbouring numbers, and random bits."""
    dtype = FLOATS[type_name]
    digits, smallest, greatest = FORMATS[type_name]
    step = 2.0 ** (1 - digits)
    normal = 2.0 ** (smallest + digits - 1)
    edges = [0.0, 1.0, 1 + step, 1 - step / 2, 2.0, 3.0, 0.5, 1.5, 2.5, 7.0, 0.1, greatest,
             math.inf, 2.0**smallest, 3 * 2.0**smallest, normal, normal - 2.0**smallest,
             greatest / 2, 2.0 ** (digits - 1), 2.0 ** -digits]  # fmt: skip
    edges = [sign * value for value in edges for sign in (1.0, -1.0)] + [math.nan]
    bits = np.random.default_rng(digits).integers(0, 256, (max(count, 1), dtype.itemsize), np.uint8)
    values = np.concatenate([np.array(edges).astype(dtype), bits.view(dtype).ravel()])
    return values[:count]


def assert_same_floats(got: np.ndarray, expected: np.ndarray, *operands: np.ndarray) -> None:
    """Check equality, including signs of zeros; every NaN equals every other."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        got64, expected64 = got.astype(np.float64), expected.astype(np.float64)
    same = (got64 == expected64) & (np.signbit(got64) == np.signbit(expected64))
    same |= np.isnan(got64) & np.isnan(expected64)
    worst = int(np.argmin(same))
    assert same.all(), (
        f"{(~same).sum()} of {same.size} differ; of {[operand[worst] for operand in operands]}: "
        f"got {got64[worst].hex()}, expected {expected64[worst].hex()}"
    )


def exact_sum(product_of: tuple[float, float], c: float, to: str, mode: str = "rn") -> float:
    """Return a b + c with one rounding."""
    a, b = product_of
    with np.errstate(all="ignore"):
        ieee = float(np.float64(a) * np.float64(b) + np.float64(c))  # inf, NaN, the sign of zero
    if not all(map(math.isfinite, (a, b, c))):
        return ieee
    value = Fraction(a) * Fraction(b) + Fraction(c)
    if value == 0:
        negative = math.copysign(1, a) * math.copysign(1, b) < 0
        both = negative == (math.copysign(1, c) < 0) and (a == 0 or b == 0) and c == 0
        return math.copysign(0.0, (-1 if negative else 1) if both else (-1 if mode == "rm" else 1))
    return rounded(value, to, mode)
