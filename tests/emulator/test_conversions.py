"""Conversions between number types on the emulator, against exact references."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from support.ptx_numbers import (
    FLOATS,
    INTEGERS,
    assert_same_floats,
    floats,
    integers,
    rounded,
)
from support.ptx_programs import elementwise

pytestmark = pytest.mark.emulator

ALL_HALVES = np.arange(1 << 16, dtype=np.uint16)


@pytest.mark.parametrize("t", ["f16", "bf16"])
def test_every_half_is_widened_exactly(t: str) -> None:
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
def test_narrowing_to_every_half_and_every_tie(t: str) -> None:
    x = neighbours_of_halves(t)
    got = elementwise(f"cvt.rn.{t}.f32 %d, %a;", FLOATS[t], x)
    with np.errstate(over="ignore"):
        assert_same_floats(got, x.astype(FLOATS[t]), x)  # NumPy's and ml_dtypes' own rounding
    few = np.random.default_rng(0).choice(x[np.isfinite(x)], 2000)
    got = elementwise(f"cvt.rn.{t}.f32 %d, %a;", FLOATS[t], few)
    exact = [rounded(Fraction(float(value)), t) for value in few]
    np.testing.assert_array_equal(got.astype(np.float64), exact)


@pytest.mark.parametrize("t", ["f16", "bf16"])
def test_two_floats_are_narrowed_at_once(t: str) -> None:
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
