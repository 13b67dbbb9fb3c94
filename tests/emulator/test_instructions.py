"""Arithmetic, conversions and comparisons of the emulator, against exact references.

Integers are compared with Python's, which do not overflow; floats with rational numbers that are
rounded once. What threads do together is in test_emulator_threads.py, matrices are in
test_emulator_matrices.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import ml_dtypes
import numpy as np
import pytest
from support.ptx_programs import elementwise, run

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

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
    """The values at which integer arithmetic goes wrong, and random ones."""
    dtype = INTEGERS[type_name]
    bits = 8 * dtype.itemsize
    edges = [0, 1, 2, 3, 7, 8, 31, 32, 33, 255, -1, -2, -3, -7, -32, 1 << bits - 1]
    edges += [(1 << bits - 1) - 1, (1 << bits - 1) + 1, 1 << bits // 2, 0x1234567890ABCDEF]
    rng = np.random.default_rng(bits)
    drawn = [int(n) for n in rng.integers(0, 1 << 63, max(count - len(edges), 0))]
    values = [value % (1 << bits) for value in (edges + drawn)[:count]]
    return np.array(values, f"u{dtype.itemsize}").view(dtype)


def combinations(*columns: np.ndarray) -> list[np.ndarray]:
    """Every value of each with every value of the others."""
    return [grid.ravel() for grid in np.meshgrid(*columns, indexing="ij")]


def wrapped(value: int, dtype: np.dtype) -> int:
    bits = 8 * dtype.itemsize
    value %= 1 << bits
    return value - (1 << bits) if dtype.kind == "i" and value >> bits - 1 else value


def quotient(a: int, b: int) -> int:
    """Towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def unsigned(value: int, bits: int = 32) -> int:
    return value % (1 << bits)


def bfi(a: int, b: int, position: int, length: int) -> int:
    # PTX ISA, 9.7.1.21
    position, length = position & 255, length & 255
    for i in range(length):
        if position + i < 32:
            b = (b & ~(1 << position + i)) | (a >> i & 1) << position + i
    return b


def bfe(a: int, position: int, length: int, bits: int, is_signed: bool) -> int:
    # PTX ISA, 9.7.1.20
    position, length = position & 255, length & 255
    a = unsigned(a, bits)
    sign_bit = 0
    if is_signed and length > 0:
        sign_bit = a >> min(position + length - 1, bits - 1) & 1
    result = 0
    for i in range(bits):
        inside = i < length and position + i < bits
        result |= (a >> position + i & 1 if inside else sign_bit) << i
    return result


def prmt(a: int, b: int, selector: int) -> int:
    table = a.to_bytes(4, "little") + b.to_bytes(4, "little")
    result = 0
    for i in range(4):
        select = selector >> 4 * i & 15
        byte = table[select & 7]
        if select & 8:
            byte = 0xFF if byte & 0x80 else 0
        result |= byte << 8 * i
    return result


def lop3(a: int, b: int, c: int, table: int) -> int:
    return sum(
        (table >> (4 * (a >> i & 1) + 2 * (b >> i & 1) + (c >> i & 1)) & 1) << i for i in range(32)
    )


def funnel(low: int, high: int, by: int, left: bool, clamp: bool) -> int:
    by = min(by, 32) if clamp else by & 31
    whole = high << 32 | low
    return whole << by >> 32 if left else whole >> by


def highest_bit(a: int) -> int:
    return (~a if a < 0 else a).bit_length() - 1


@dataclass(frozen=True)
class Operation:
    """``code`` computes %d from %a, %b, %c; ``types``: of the operands and, last, of %d."""

    code: str
    types: str
    expected: Callable[..., int]

    @property
    def id(self) -> str:
        opcode, *operands = self.code.rstrip(";").replace(",", "").split()
        return "-".join([opcode, *(word for word in operands if word[0] != "%")])


def integer_operations() -> list[Operation]:
    operations = []

    def add(opcode: str, types: str, expected: Callable[..., int]) -> None:
        count = len(types.split())
        operands = ", ".join(["%d", *("%" + name for name in "abc"[: count - 1])])
        operations.append(Operation(f"{opcode} {operands};", types, expected))

    for t in ("u16", "s16", "u32", "s32", "u64", "s64"):
        bits, sign = int(t[1:]), t[0]
        add(f"add.{t}", f"{t} {t} {t}", lambda a, b: a + b)
        add(f"sub.{t}", f"{t} {t} {t}", lambda a, b: a - b)
        add(f"mul.lo.{t}", f"{t} {t} {t}", lambda a, b: a * b)
        add(f"mul.hi.{t}", f"{t} {t} {t}", lambda a, b, n=bits: a * b >> n)
        add(f"mad.lo.{t}", f"{t} {t} {t} {t}", lambda a, b, c: a * b + c)
        add(f"mad.hi.{t}", f"{t} {t} {t} {t}", lambda a, b, c, n=bits: (a * b >> n) + c)
        if bits < 64:
            wide = f"{sign}{2 * bits}"
            add(f"mul.wide.{t}", f"{t} {t} {wide}", lambda a, b: a * b)
            add(f"mad.wide.{t}", f"{t} {t} {wide} {wide}", lambda a, b, c: a * b + c)
        # Division by zero is undefined: not tested.
        add(f"div.{t}", f"{t} {t} {t}", lambda a, b: quotient(a, b) if b else None)
        add(f"rem.{t}", f"{t} {t} {t}", lambda a, b: a - b * quotient(a, b) if b else None)
        add(f"min.{t}", f"{t} {t} {t}", min)
        add(f"max.{t}", f"{t} {t} {t}", max)
        add(f"shr.{t}", f"{t} u32 {t}", lambda a, b: a >> min(b, 64))
        if sign == "s":
            add(f"neg.{t}", f"{t} {t}", lambda a: -a)
            add(f"abs.{t}", f"{t} {t}", abs)
    for t in ("b16", "b32", "b64"):
        add(f"and.{t}", f"{t} {t} {t}", lambda a, b: a & b)
        add(f"or.{t}", f"{t} {t} {t}", lambda a, b: a | b)
        add(f"xor.{t}", f"{t} {t} {t}", lambda a, b: a ^ b)
        add(f"not.{t}", f"{t} {t}", lambda a: ~a)
        add(f"shl.{t}", f"{t} u32 {t}", lambda a, b: a << min(b, 64))
        add(f"shr.{t}", f"{t} u32 {t}", lambda a, b: a >> min(b, 64))
    for left, clamp in product((True, False), repeat=2):
        add(
            f"shf.{'l' if left else 'r'}.{'clamp' if clamp else 'wrap'}.b32",
            "b32 b32 u32 b32",
            lambda a, b, c, left=left, clamp=clamp: funnel(a, b, c, left, clamp),
        )
    for t in ("u32", "s32", "u64", "s64"):
        bits, sign = int(t[1:]), t[0] == "s"
        add(f"bfe.{t}", f"{t} u32 u32 {t}", lambda a, b, c, n=bits, s=sign: bfe(a, b, c, n, s))
    add("prmt.b32", "b32 b32 b32 b32", prmt)
    add("popc.b32", "b32 u32", int.bit_count)
    add("popc.b64", "b64 u32", int.bit_count)
    add("clz.b32", "b32 u32", lambda a: 32 - a.bit_length())
    add("clz.b64", "b64 u32", lambda a: 64 - a.bit_length())
    add("brev.b32", "b32 b32", lambda a: int(f"{a:032b}"[::-1], 2))
    add("bfind.u32", "u32 u32", highest_bit)
    add("bfind.s32", "s32 u32", highest_bit)
    add("add.sat.s32", "s32 s32 s32", lambda a, b: min(max(a + b, -(2**31)), 2**31 - 1))
    operations += [
        Operation(
            f"lop3.b32 %d, %a, %b, %c, {table};",
            "b32 b32 b32 b32",
            lambda a, b, c, table=table: lop3(a, b, c, table),
        )
        for table in (0x00, 0x80, 0xFE, 0x96, 0xE8, 0xCA, 0x1B, 0xFF)
    ]
    places = ((0, 0), (0, 32), (4, 8), (28, 8), (31, 1), (32, 4), (0, 200), (255, 1))
    operations += [
        Operation(
            f"bfi.b32 %d, %a, %b, {position}, {length};",
            "b32 b32 b32",
            lambda a, b, p=position, n=length: bfi(a, b, p, n),
        )
        for position, length in places
    ]
    return operations


@pytest.mark.parametrize("operation", integer_operations(), ids=lambda operation: operation.id)
def test_integers(operation: Operation) -> None:
    *types, to = operation.types.split()
    operands = combinations(*(integers(t, {1: 400, 2: 40, 3: 20}[len(types)]) for t in types))
    got = elementwise(operation.code, INTEGERS[to], *operands)
    for row in zip(*(column.tolist() for column in (*operands, got)), strict=True):
        expected = operation.expected(*row[:-1])
        if expected is not None:
            assert row[-1] == wrapped(expected, INTEGERS[to]), row[:-1]


def test_a_guard_leaves_the_register_of_other_threads_alone() -> None:
    a = np.arange(100, dtype=np.uint32)
    code = (
        "mov.u32 %d, 7; setp.gt.u32 %p1, %a, 50; @%p1 add.u32 %d, %a, 1; @!%p1 add.u32 %d, %d, 2;"
    )
    np.testing.assert_array_equal(elementwise(code, np.uint32, a), np.where(a > 50, a + 1, 9))


@pytest.mark.parametrize(
    ("a", "b"), list(product((1, 2, 4, 8), repeat=2)), ids=lambda size: f"{8 * size}"
)
@pytest.mark.parametrize("signs", ["uu", "us", "su", "ss"])
def test_integer_conversions(a: int, b: int, signs: str) -> None:
    """Between 8, 16, 32 and 64 bits; 8-bit values live in wider registers."""
    source = integers("u64", 200) if a == 8 else integers(f"u{max(16, 8 * a)}", 200)
    to, frm = f"{signs[1]}{8 * b}", f"{signs[0]}{8 * a}"
    dtype = np.dtype(f"u{max(b, 2)}")
    got = elementwise(f"cvt.{to}.{frm} %d, %a;", dtype, source)
    kinds = {"u": "u", "s": "i"}
    for value, result in zip(source.tolist(), got.tolist(), strict=True):
        narrow = wrapped(value, np.dtype(f"{kinds[signs[0]]}{a}"))
        # A register that is wider than the type is extended by the type's sign.
        expected = wrapped(narrow, np.dtype(f"{kinds[signs[1]]}{b}"))
        assert result == unsigned(expected, 8 * dtype.itemsize), (value, to, frm)


# ---- Rounding, done with rational numbers ----

FORMATS = {"f16": (11, -24, 65504.0), "bf16": (8, -133, float(ml_dtypes.finfo("bfloat16").max)),
           "f32": (24, -149, float(np.finfo(np.float32).max)),
           "f64": (53, -1074, float(np.finfo(np.float64).max))}  # fmt: skip
"""Digits, exponent of the smallest subnormal number, greatest number."""


def rounded(value: Fraction, type_name: str, mode: str = "rn") -> float:
    """To the nearest number of that type (rn, ties to even), the one below, above, inside."""
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
    """Zeros, infinities, NaN, subnormal, great and neighbouring numbers, random bits."""
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
    """To the bit, signs of zeros included; any NaN is as good as another."""
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
    """a b + c, rounded once."""
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


FLOAT_OPERATIONS: dict[str, Callable[..., tuple[tuple[float, float], float]]] = {
    "add": lambda a, b: ((a, 1.0), b),
    "sub": lambda a, b: ((a, 1.0), -b),
    "mul": lambda a, b: ((a, b), math.copysign(0.0, math.copysign(1, a) * math.copysign(1, b))),
    "fma": lambda a, b, c: ((a, b), c),
}


@pytest.mark.parametrize(
    "opcode",
    [
        "add.f32", "add.rn.f32", "sub.f32", "mul.f32", "fma.rn.f32",
        "add.rm.f32", "add.rp.f32", "add.rz.f32", "mul.rz.f32", "mul.rp.f32", "sub.rm.f32",
        "fma.rm.f32", "fma.rp.f32", "fma.rz.f32",
        "add.f64", "mul.rn.f64", "fma.rn.f64",
        "add.f16", "sub.f16", "mul.f16", "fma.rn.f16",
        "add.bf16", "sub.bf16", "mul.bf16", "fma.rn.bf16",
    ],
)  # fmt: skip
def test_floats_are_rounded_once(opcode: str) -> None:
    name, *middle, t = opcode.split(".")
    mode = middle[0] if middle else "rn"
    count = 3 if name == "fma" else 2
    operands = combinations(*[floats(t, 16 if count == 3 else 60)] * count)
    if name == "fma":  # subnormal numbers, NaN and random bits, a few of each with all others
        more = combinations(floats(t, 60)[36:], floats(t, 10), floats(t, 60)[30:])
        operands = [np.concatenate(pair) for pair in zip(operands, more, strict=True)]
    registers = ", ".join(["%d", "%a", "%b", "%c"][: count + 1])
    got = elementwise(f"{opcode} {registers};", TYPES[t], *operands)
    expected = [
        exact_sum(*FLOAT_OPERATIONS[name](*row), t, mode)
        for row in zip(*(column.astype(np.float64).tolist() for column in operands), strict=True)
    ]
    assert_same_floats(got, np.array(expected), *operands)


@pytest.mark.parametrize("t", ["f16", "bf16"])
@pytest.mark.parametrize("name", ["add", "mul", "fma.rn"])
def test_pairs_of_halves_are_computed_apart(t: str, name: str) -> None:
    rng = np.random.default_rng(0)
    count = 3 if name == "fma.rn" else 2
    operands = [rng.standard_normal(512, np.float32).astype(FLOATS[t]) for _ in range(count)]
    registers = ", ".join(["%d", "%a", "%b", "%c"][: count + 1])
    single = elementwise(f"{name}.{t} {registers};", FLOATS[t], *operands)
    both = elementwise(
        f"{name}.{t}x2 {registers};", np.uint32, *(operand.view(np.uint32) for operand in operands)
    )
    np.testing.assert_array_equal(both.view(np.uint16), single.view(np.uint16))


def test_fma_does_not_round_the_product() -> None:
    a = np.array([1 + 2**-12, 1 + 2**-23], np.float32)
    c = -(a * a)  # float32: rounded
    fused = elementwise("fma.rn.f32 %d, %a, %a, %b;", np.float32, a, c)
    np.testing.assert_array_equal(fused, [2**-24, 2**-46])
    apart = elementwise("mul.f32 %d, %a, %a; add.f32 %d, %d, %b;", np.float32, a, c)
    np.testing.assert_array_equal(apart, [0, 0])


@pytest.mark.parametrize("t", FORMATS)
def test_fma_sees_the_smallest_addend(t: str) -> None:
    """The product lies half-way between two numbers: the addend decides, however small."""
    digits, smallest, _ = FORMATS[t]
    step = 2.0 ** (1 - digits)
    tiny = 2.0**smallest
    a, b, c = (
        np.array(column).astype(FLOATS[t])
        for column in ([1 + step] * 3, [1.5] * 3, [tiny, 0.0, -tiny])
    )
    got = elementwise(f"fma.rn.{t} %d, %a, %b, %c;", FLOATS[t], a, b, c)
    below, above = 1.5 + step, 1.5 + 2 * step
    np.testing.assert_array_equal(got.astype(np.float64), [above, above, below])


def test_ftz_makes_subnormal_numbers_zeros_of_the_same_sign() -> None:
    tiny = np.float32(1e-40)
    a = np.array([tiny, -tiny, 1e-38, -1e-38, 1], np.float32)
    flushed = elementwise("mul.ftz.f32 %d, %a, %b;", np.float32, a, np.full(5, 1e-3, np.float32))
    assert_same_floats(flushed, np.array([0.0, -0.0, 0.0, -0.0, np.float32(1e-3)]))
    kept = elementwise("mul.f32 %d, %a, %b;", np.float32, a, np.ones(5, np.float32))
    assert_same_floats(kept, a)
    sums = elementwise("add.ftz.f32 %d, %a, %b;", np.float32, a[:2], np.full(2, tiny))
    assert_same_floats(sums, np.zeros(2))


@pytest.mark.parametrize("t", ["f16", "bf16", "f32"])
@pytest.mark.parametrize("which", ["min", "max"])
@pytest.mark.parametrize("nan", ["", ".NaN"], ids=["number_wins", "nan_wins"])
def test_min_and_max(t: str, which: str, nan: str) -> None:
    a, b = combinations(floats(t, 60), floats(t, 60))
    got = elementwise(f"{which}{nan}.{t} %d, %a, %b;", FLOATS[t], a, b)
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    # -0 is less than +0.
    lower = (a64 < b64) | ((a64 == b64) & np.signbit(a64))
    expected = np.where(lower == (which == "min"), a64, b64)
    expected = np.where(np.isnan(a64), b64, np.where(np.isnan(b64), a64, expected))
    if nan:
        expected = np.where(np.isnan(a64) | np.isnan(b64), np.nan, expected)
    assert_same_floats(got, expected, a, b)


@pytest.mark.parametrize("t", ["f16", "bf16", "f32"])
def test_neg_and_abs_only_touch_the_sign(t: str) -> None:
    a = floats(t, 200)
    bits = f"u{a.itemsize}"
    sign = np.array(1 << 8 * a.itemsize - 1, bits)
    negated = elementwise(f"neg.{t} %d, %a;", bits, a)
    np.testing.assert_array_equal(negated, a.view(bits) ^ sign)
    absolute = elementwise(f"abs.{t} %d, %a;", bits, a)
    np.testing.assert_array_equal(absolute, a.view(bits) & ~sign)


def test_saturation() -> None:
    a = np.array([-1, -0.0, 0.25, 1, 1.5, np.inf, -np.inf, np.nan], np.float32)
    expected = np.array([0, 0, 0.25, 1, 1, 1, 0, 0], np.float32)
    np.testing.assert_array_equal(elementwise("cvt.sat.f32.f32 %d, %a;", np.float32, a), expected)
    one = np.ones_like(a)
    got = elementwise("mul.sat.f32 %d, %a, %b;", np.float32, a, one)
    np.testing.assert_array_equal(got, expected)
    got = elementwise("fma.rn.sat.f32 %d, %a, %b, %c;", np.float32, a, one, 0 * one)
    np.testing.assert_array_equal(got, expected)


# Instructions that hardware computes within so many units in the last place (PTX ISA, 9.7.3).
ACCURACY = [
    ("rcp.approx.ftz.f32", lambda x: 1 / x, (1e-3, 1e3), 1),
    ("rcp.rn.f32", lambda x: 1 / x, (-1e3, 1e3), 0.5),
    ("sqrt.approx.ftz.f32", np.sqrt, (0, 1e6), 2),
    ("sqrt.rn.f32", np.sqrt, (0, 1e6), 0.5),
    ("rsqrt.approx.ftz.f32", lambda x: 1 / np.sqrt(x), (1e-3, 1e6), 2),
    ("ex2.approx.ftz.f32", np.exp2, (-120, 120), 2),
    ("lg2.approx.ftz.f32", np.log2, (2, 1e6), 2),
]


@pytest.mark.parametrize(
    ("opcode", "exact", "interval", "ulps"), ACCURACY, ids=[row[0] for row in ACCURACY]
)
def test_accuracy(opcode: str, exact: Callable, interval: tuple[float, float], ulps: float) -> None:
    x = np.random.default_rng(0).uniform(*interval, 20000).astype(np.float32)
    got = elementwise(f"{opcode} %d, %a;", np.float32, x).astype(np.float64)
    expected = exact(x.astype(np.float64))
    unit = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(got - expected) / unit) <= ulps * (1 + 1e-6)


@pytest.mark.parametrize(
    ("opcode", "values", "expected"),
    [
        ("rcp.approx.ftz.f32", [0.0, -0.0, math.inf, -math.inf], [math.inf, -math.inf, 0.0, -0.0]),
        (
            "ex2.approx.ftz.f32",
            [0.0, -math.inf, math.inf, -200, 200],
            [1, 0, math.inf, 0, math.inf],
        ),
        ("lg2.approx.ftz.f32", [0.0, 1.0, math.inf, -1.0], [-math.inf, 0, math.inf, math.nan]),
        ("sqrt.rn.f32", [-0.0, math.inf, -1.0], [-0.0, math.inf, math.nan]),
        ("rsqrt.approx.f32", [0.0, math.inf, -1.0], [math.inf, 0, math.nan]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_special_values(opcode: str, values: list[float], expected: list[float]) -> None:
    got = elementwise(f"{opcode} %d, %a;", np.float32, np.array(values, np.float32))
    assert_same_floats(got, np.array(expected))


@pytest.mark.parametrize("opcode", ["div.rn.f32", "div.full.f32", "div.approx.f32"])
def test_division(opcode: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-100, 100, (2, 5000)).astype(np.float32)
    got = elementwise(f"{opcode} %d, %a, %b;", np.float32, a, b).astype(np.float64)
    expected = a.astype(np.float64) / b
    unit = np.spacing(np.abs(expected).astype(np.float32))
    assert np.max(np.abs(got - expected) / unit) <= (0.5 if ".rn" in opcode else 2) * (1 + 1e-6)


# ---- Conversions ----

ALL_HALVES = np.arange(1 << 16, dtype=np.uint16)


@pytest.mark.parametrize("t", ["f16", "bf16"])
def test_every_half_widened(t: str) -> None:
    wide = elementwise(f"cvt.f32.{t} %d, %a;", np.float32, ALL_HALVES)
    assert_same_floats(wide, ALL_HALVES.view(FLOATS[t]), ALL_HALVES)


def neighbours_of_halves(t: str) -> np.ndarray:
    """float32: every number of the type, those between two, and those beside these."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        finite = ALL_HALVES.view(FLOATS[t]).astype(np.float64)
    finite = np.unique(finite[np.isfinite(finite)])
    ties = (finite[1:] + finite[:-1]) / 2
    beyond = finite[-1] + (finite[-1] - finite[-2]) / 2  # the tie between the greatest and infinity
    ties = np.concatenate([ties, [beyond, -beyond]]).astype(np.float32)
    infinite = np.float32(np.inf)
    more = [np.nextafter(ties, infinite), np.nextafter(ties, -infinite)]
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e38, -1e38], np.float32)
    return np.concatenate([finite.astype(np.float32), ties, *more, special])


@pytest.mark.parametrize("t", ["f16", "bf16"])
def test_narrowed_to_every_half_and_from_every_tie(t: str) -> None:
    x = neighbours_of_halves(t)
    got = elementwise(f"cvt.rn.{t}.f32 %d, %a;", FLOATS[t], x)
    with np.errstate(over="ignore"):
        assert_same_floats(got, x.astype(FLOATS[t]), x)  # NumPy's and ml_dtypes' own rounding
    few = np.random.default_rng(0).choice(x[np.isfinite(x)], 2000)
    got = elementwise(f"cvt.rn.{t}.f32 %d, %a;", FLOATS[t], few)
    exact = [rounded(Fraction(float(value)), t) for value in few]
    np.testing.assert_array_equal(got.astype(np.float64), exact)


@pytest.mark.parametrize("t", ["f16", "bf16"])
def test_two_narrowed_at_once(t: str) -> None:
    """The first operand goes to the high half."""
    x = floats("f32", 400)
    a, b = x, x[::-1].copy()
    got = elementwise(f"cvt.rn.{t}x2.f32 %d, %a, %b;", np.uint32, a, b)
    with np.errstate(over="ignore"):
        for half, source in (
            (got >> 16, a),
            (got & 0xFFFF, b),
        ):
            narrow = half.astype(np.uint16).view(FLOATS[t])
            assert_same_floats(narrow, source.astype(FLOATS[t]), source)


def test_to_tf32_rounds_ties_away_from_zero() -> None:
    unit = np.float32(2**-10)
    x = np.array([1, 1 + unit / 2, 1 + unit / 4, 1 + unit * 1.5, -1 - unit / 2, np.inf], np.float32)
    got = elementwise("cvt.rna.tf32.f32 %d, %a;", np.float32, x)
    np.testing.assert_array_equal(got, [1, 1 + unit, 1, 1 + 2 * unit, -1 - unit, np.inf])


ROUND: dict[str, Callable[[float], float]] = {
    "rni": lambda x: float(round(x)),  # Python's ties go to even, too
    "rzi": lambda x: float(math.trunc(x)),
    "rmi": lambda x: float(math.floor(x)),
    "rpi": lambda x: float(math.ceil(x)),
}


@pytest.mark.parametrize("mode", ROUND)
@pytest.mark.parametrize("t", ["f16", "f32", "f64"])
@pytest.mark.parametrize("to", ["u16", "s16", "u32", "s32", "u64", "s64"])
def test_float_to_integer_saturates(mode: str, t: str, to: str) -> None:
    bits = int(to[1:])
    edges = [
        0.0,
        0.5,
        1.5,
        2.5,
        -0.5,
        -1.5,
        0.49,
        0.99,
        2.0**bits,
        2.0 ** (bits - 1),
        1e30,
        math.inf,
    ]
    with np.errstate(over="ignore"):
        edges = [sign * value for value in edges for sign in (1, -1)] + [math.nan]
        x = np.concatenate([np.array(edges).astype(FLOATS[t]), floats(t, 200)])
    info = np.iinfo(INTEGERS[to])
    got = elementwise(f"cvt.{mode}.{to}.{t} %d, %a;", INTEGERS[to], x)
    for value, integer in zip(x.astype(np.float64).tolist(), got.tolist(), strict=True):
        if math.isnan(value):
            expected = 0
        elif math.isinf(value):
            expected = info.max if value > 0 else info.min
        else:
            expected = int(min(max(int(ROUND[mode](value)), info.min), info.max))
        assert integer == expected, value


@pytest.mark.parametrize("mode", ROUND)
def test_float_to_integral_float(mode: str) -> None:
    x = floats("f32", 200)
    finite = x[np.isfinite(x)]
    got = elementwise(f"cvt.{mode}.f32.f32 %d, %a;", np.float32, finite)
    np.testing.assert_array_equal(got, [ROUND[mode](float(value)) for value in finite])


@pytest.mark.parametrize("t", ["f16", "f32", "f64"])
@pytest.mark.parametrize("frm", ["u16", "s16", "u32", "s32", "u64", "s64"])
def test_integer_to_float(t: str, frm: str) -> None:
    x = integers(frm, 300)
    got = elementwise(f"cvt.rn.{t}.{frm} %d, %a;", FLOATS[t], x)
    expected = [rounded(Fraction(int(value)), t) for value in x]
    np.testing.assert_array_equal(got.astype(np.float64), expected)


def test_between_float32_and_float64() -> None:
    x = floats("f32", 300)
    assert_same_floats(elementwise("cvt.f64.f32 %d, %a;", np.float64, x), x)
    y = floats("f64", 300)
    with np.errstate(all="ignore"):
        got = elementwise("cvt.rn.f32.f64 %d, %a;", np.float32, y)
        assert_same_floats(got, y.astype(np.float32), y)


# ---- Comparisons and predicates ----

COMPARE: dict[str, Callable[[float, float], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
AS_NUMBER = "setp.{0} %p1, %a, %b; selp.u32 %d, 1, 0, %p1;"


@pytest.mark.parametrize("t", ["u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("name", COMPARE)
def test_compare_integers(name: str, t: str) -> None:
    a, b = combinations(integers(t, 40), integers(t, 40))
    got = elementwise(AS_NUMBER.format(f"{name}.{t}"), np.uint32, a, b)
    np.testing.assert_array_equal(got, COMPARE[name](a, b))


@pytest.mark.parametrize("t", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("unordered", ["", "u"], ids=["ordered", "unordered"])
@pytest.mark.parametrize("name", COMPARE)
def test_compare_floats(name: str, unordered: str, t: str) -> None:
    a, b = combinations(floats(t, 60), floats(t, 60))
    got = elementwise(AS_NUMBER.format(f"{name}{unordered}.{t}"), np.uint32, a, b)
    nan = np.isnan(a) | np.isnan(b)
    expected = COMPARE[name](a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_array_equal(got, np.where(nan, bool(unordered), expected))


@pytest.mark.parametrize("name", ["num", "nan"])
def test_compare_for_nan(name: str) -> None:
    a, b = combinations(floats("f32", 60), floats("f32", 60))
    got = elementwise(AS_NUMBER.format(f"{name}.f32"), np.uint32, a, b)
    np.testing.assert_array_equal(got, (np.isnan(a) | np.isnan(b)) == (name == "nan"))


@pytest.mark.parametrize("combine", ["and", "or", "xor"])
def test_compare_with_a_condition_and_its_complement(combine: str) -> None:
    """p = (a < b) op c, q = !(a < b) op c."""
    a, b, c = combinations(*[np.arange(4, dtype=np.int32)] * 3)
    code = f"""setp.ne.s32 %p0, %c, 0;
    setp.lt.{combine}.s32 %p1|%p2, %a, %b, %p0;
    selp.u32 %d, 1, 0, %p1;
    @%p2 add.u32 %d, %d, 2;
    setp.lt.{combine}.s32 %p3, %a, %b, !%p0;
    @%p3 add.u32 %d, %d, 4;"""
    got = elementwise(code, np.uint32, a, b, c)
    op = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[combine]
    first, second, negated = op(a < b, c != 0), op(a >= b, c != 0), op(a < b, c == 0)
    np.testing.assert_array_equal(got, 1 * first + 2 * second + 4 * negated)


@pytest.mark.parametrize("op", ["and", "or", "xor"])
def test_logic_of_predicates(op: str) -> None:
    a, b = combinations(*[np.arange(2, dtype=np.uint32)] * 2)
    code = f"""setp.ne.u32 %p1, %a, 0; setp.ne.u32 %p2, %b, 0;
    {op}.pred %p3, %p1, %p2; not.pred %p4, %p3; mov.pred %p5, %p4;
    selp.u32 %d, 1, 0, %p3; @%p5 add.u32 %d, %d, 2;"""
    expected = {"and": a & b, "or": a | b, "xor": a ^ b}[op]
    np.testing.assert_array_equal(elementwise(code, np.uint32, a, b), np.where(expected, 1, 2))


@pytest.mark.parametrize("t", ["b16", "b32", "b64"])
def test_selp(t: str) -> None:
    a, b = integers(t, 60), integers(t, 60)[::-1].copy()
    c = np.arange(60, dtype=np.uint32)
    code = f"and.b32 %r1, %c, 1; setp.eq.u32 %p1, %r1, 1; selp.{t} %d, %a, %b, %p1;"
    got = elementwise(code, INTEGERS[t], a, b, c)
    np.testing.assert_array_equal(got, np.where(c % 2 == 1, a, b))


def test_mov_takes_registers_apart_and_together() -> None:
    a = integers("u64", 100)
    swapped = elementwise("mov.b64 {%r1, %r2}, %a; mov.b64 %d, {%r2, %r1};", np.uint64, a)
    np.testing.assert_array_equal(swapped, (a << np.uint64(32)) | (a >> np.uint64(32)))
    b = integers("u32", 100)
    swapped = elementwise("mov.b32 {%h1, %h2}, %a; mov.b32 %d, {%h2, %h1};", np.uint32, b)
    np.testing.assert_array_equal(swapped, (b << np.uint32(16)) | (b >> np.uint32(16)))
    got = elementwise(
        "mov.b64 {%h1, %h2, %h3, %h4}, %a; mov.b64 %d, {%h4, %h1, %h2, %h3};", np.uint64, a
    )
    np.testing.assert_array_equal(got.view(np.uint16).reshape(-1, 4),
                                  np.roll(a.view(np.uint16).reshape(-1, 4), 1, axis=1))  # fmt: skip


def test_constants() -> None:
    """Decimal, hexadecimal, binary, negative, and floats by their bits."""
    one = np.ones(1, np.uint32)
    assert elementwise("mov.u32 %d, 0xffffffff;", np.uint32, one)[0] == 2**32 - 1
    assert elementwise("mov.u32 %d, 0b101;", np.uint32, one)[0] == 5
    assert elementwise("mov.s32 %d, -7;", np.int32, one)[0] == -7
    assert elementwise("mov.f32 %d, 0f40490FDB;", np.float32, one)[0] == np.float32(math.pi)
    assert elementwise("mov.f64 %d, 0d400921FB54442D18;", np.float64, one)[0] == math.pi
    assert elementwise("mov.u64 %d, 0x123456789ABCDEF0;", np.uint64, one)[0] == 0x123456789ABCDEF0


# ---- What is not modelled is an error ----


@pytest.mark.parametrize(
    "instruction",
    [
        "frobnicate.u32 %r1, %r2;",
        "add.cc.u32 %r1, %r2, %r3;",
        "add.rn.sat.rz.f32 %f1, %f2, %f3;",
        "cvt.rn.e4m3x2.f32 %h1, %f1, %f2;",
        "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2}, {%r3}, "
        "{%f1,%f2,%f3,%f4};",
        "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.f16.f16 {%f1,%f2,%f3,%f4}, %rd1, %rd2, %r1;",
        "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%rd1], [%r2], 16;",
        "shfl.down.b32 %r1, %r2, 1, 31;",
        "ldmatrix.sync.aligned.m16n16.x1.shared.b8 {%r1}, [%r2];",
        "ld.global.v8.f32 {%f1,%f2,%f3,%f4,%f5,%f6,%f7,%f8}, [%rd1];",
        "atom.global.add.noftz.f16x2 %r1, [%rd1], %r2;",
        "txq.width.b32 %r1, [%rd1];",
    ],
    ids=lambda instruction: instruction.split()[0],
)
def test_an_unknown_instruction_is_named(instruction: str) -> None:
    opcode = instruction.split()[0].rstrip(";")
    body = f"mov.u32 %r2, 0;\n@!%p1 bra SKIP;\n{instruction}\nSKIP:"
    with pytest.raises(_C.EmulatorError) as error:
        run(body)
    message = str(error.value)
    assert "kernel example" in message
    assert f"`{opcode}`" in message
    assert "kernels/example.cuh:3" in message


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("add.u32 %r1, %r2;", "operands"),
        ("add.u32 %r1, %r2, %nowhere;", "%nowhere"),
        ("add.u32 %r1, %rd2, %r3;", "expected an operand of type w"),
        ("bra NOWHERE;", "NOWHERE"),
    ],
    ids=["operands", "register", "type", "label"],
)
def test_malformed_instructions(instruction: str, reason: str) -> None:
    with pytest.raises(_C.EmulatorError, match=reason):
        run(instruction)


def test_text_that_is_no_ptx() -> None:
    emulator = _C.Emulator()
    launch = {"grid": (1, 1, 1), "block": (32, 1, 1), "params": b"", "buffers": []}
    with pytest.raises(_C.EmulatorError, match="PTX"):
        emulator.launch("int main() {}", "main", **launch)
    with pytest.raises(_C.EmulatorError, match="unknown kernel other"):
        emulator.launch(".version 7.8\n.target sm_80\n", "other", **launch)
