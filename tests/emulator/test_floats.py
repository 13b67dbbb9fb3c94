"""Floating-point arithmetic of the emulator, against rational numbers rounded once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from support.ptx_numbers import (
    FLOATS,
    FORMATS,
    TYPES,
    assert_same_floats,
    combinations,
    exact_sum,
    floats,
)
from support.ptx_programs import elementwise

pytestmark = pytest.mark.emulator

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
def test_packed_halves_are_independent(t: str, name: str) -> None:
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
def test_fma_keeps_the_smallest_addend(t: str) -> None:
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


def test_ftz_flushes_subnormals_to_signed_zeros() -> None:
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
def test_neg_and_abs_change_only_the_sign(t: str) -> None:
    a = floats(t, 200)
    bits = f"u{a.itemsize}"
    sign = np.array(1 << 8 * a.itemsize - 1, bits)
    negated = elementwise(f"neg.{t} %d, %a;", bits, a)
    np.testing.assert_array_equal(negated, a.view(bits) ^ sign)
    absolute = elementwise(f"abs.{t} %d, %a;", bits, a)
    np.testing.assert_array_equal(absolute, a.view(bits) & ~sign)


def test_saturation_to_one() -> None:
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
def test_approximations_are_accurate(
    opcode: str, exact: Callable, interval: tuple[float, float], ulps: float
) -> None:
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
def test_approximations_of_special_values(
    opcode: str, values: list[float], expected: list[float]
) -> None:
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
