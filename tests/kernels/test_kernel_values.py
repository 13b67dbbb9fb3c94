"""Special values in every kernel, on the emulator: NaN, infinities, tf32's rounding, padding."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernel_cases import (
    dtypes,
    precisions,
)
from support.kernel_reference import (
    accumulate,
    assert_within,
    draw,
    factors,
    im2col,
    numpy_dtype,
    rounded,
    softmax32,
)

from vgg_cuda import ops, reference
from vgg_cuda.backends import get_backend

pytestmark = pytest.mark.emulator

ON = {"device": "emulator"}


@pytest.fixture(params=dtypes())
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=precisions())
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def on(precision: str) -> dict[str, str]:
    """Return the options that select the emulator and a precision."""
    return {**ON, "dtype": precision}


@pytest.mark.parametrize(
    ("n", "h", "w", "c", "k"),
    [(1, 8, 8, 64, 64), (2, 7, 5, 3, 64), (1, 15, 6, 12, 5), (2, 4, 4, 256, 72)],
    ids=str,
)
def test_pool_in_the_epilogue_changes_no_bit(
    precision: str, n: int, h: int, w: int, c: int, k: int
) -> None:
    x, weight = draw((n, h, w, c), precision), draw((k, 3, 3, c), precision, 0.1, seed=1)
    bias = draw((k,), "float32", seed=2)
    for relu in (False, True):
        one, whole = ops.conv3x3(
            x, weight, bias, relu=relu, pool=True, return_stats=True, **on(precision)
        )
        y, apart = ops.conv3x3(x, weight, bias, relu=relu, return_stats=True, **on(precision))
        two = ops.maxpool2x2(y, **ON)
        splits = {stats["plan"]["tiling"]["split_k"] for stats in (whole, apart)}
        if len(splits) == 1:  # otherwise the order of additions differs
            assert one.tobytes() == two.tobytes()


def test_relu_follows_the_bias(precision: str) -> None:
    x = -np.ones((1, 3, 3, 8), numpy_dtype(precision))
    w = np.ones((2, 3, 3, 8), np.float32)
    y = ops.conv3x3(x, w, np.array([100, 10], np.float32), relu=True, **on(precision)).astype(
        np.float32
    )
    assert y[0, 1, 1].tolist() == [28, 0]  # -72 + bias
    assert y[0, 0, 0].tolist() == [68, 0]
    y = ops.linear(
        x.reshape(9, 8)[:1], w[:, 0, 0], np.array([100, 5.0]), relu=True, **on(precision)
    )
    assert y.astype(np.float32).tolist() == [[92, 0]]


def test_bias_in_dtype_of_x(precision: str) -> None:
    x, w = draw((2, 40), precision), draw((9, 40), precision, seed=1)
    bias = draw((9,), precision, seed=2)
    expected = ops.linear(x, w, bias.astype(np.float32), **on(precision))
    assert ops.linear(x, w, bias, **on(precision)).tobytes() == expected.tobytes()


@pytest.mark.parametrize("c", [3, 5, 16])
def test_nan_and_infinity_spread_by_the_filter(precision: str, c: int) -> None:
    x, w = draw((1, 8, 8, c), precision), draw((9, 3, 3, c), precision, seed=1)
    x[0, 2, 2, 0], x[0, 6, 6, c - 1] = np.nan, np.inf
    for relu in (False, True):
        y = ops.conv3x3(x, w, relu=relu, **on(precision)).astype(np.float32)
        assert np.isnan(y[0, 1:4, 1:4]).all()
        assert np.isinf(y[0, 5:8, 5:8]).any()
        assert not np.isfinite(y[0, 5:8, 5:8]).all() or relu
        y[0, 1:4, 1:4] = y[0, 5:8, 5:8] = 0
        assert np.isfinite(y).all()
    y = ops.conv3x3(x, w, relu=True, pool=True, **on(precision)).astype(np.float32)
    assert np.isnan(y[0, :2, :2]).all()
    for op in (ops.maxpool2x2, ops.adaptive_maxpool, ops.relu):
        assert np.isnan(op(x, **ON).astype(np.float32)).sum() == 1


@pytest.mark.parametrize("c", [3, 16])
def test_maxima_of_infinities(dtype: str, c: int) -> None:
    x = draw((1, 6, 6, c), dtype)
    x[0, :3, :3], x[0, 4, 4, 1], x[0, 5, 1, 2] = -np.inf, np.inf, np.nan
    y = ops.adaptive_maxpool(x, 2, **ON).astype(np.float32)
    np.testing.assert_array_equal(y, reference.adaptive_maxpool(x, 2))
    assert np.isneginf(y[0, 0, 0]).all()
    assert np.isposinf(y[0, 1, 1, 1])
    assert np.isnan(y).sum() == 1


@pytest.mark.parametrize("c", [3, 16])
def test_affine_of_nan_and_infinity(dtype: str, c: int) -> None:
    x, scale, shift = draw((1, 4, 4, c), dtype), np.ones(c), np.full(c, 0.5)
    x[0, 0, 0], x[0, 1, 1], x[0, 2, 2] = np.nan, np.inf, -np.inf
    scale[0], scale[1] = 0, -2
    with np.errstate(invalid="ignore"):
        expected = x.astype(np.float32) * scale.astype(np.float32) + np.float32(0.5)
    y = ops.affine(x, scale, shift, **ON).astype(np.float32)
    for kind in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(kind(y), kind(expected))
    assert np.isnan(y[0, 1, 1, 0])
    assert np.isneginf(y[0, 1, 1, 1])


def test_nan_through_linear_split(precision: str) -> None:
    x, w = draw((2, 2048), precision), draw((8, 2048), precision, seed=1)
    x[0, 2047] = np.nan
    y = ops.linear(x, w, relu=True, **on(precision)).astype(np.float32)
    assert np.isnan(y[0]).all()
    assert np.isfinite(y[1]).all()


def test_softmax_of_infinities(dtype: str) -> None:
    x = draw((4, 40), dtype)
    x[0], x[1, 3], x[2, 5], x[3, :7] = -np.inf, np.nan, np.inf, -np.inf
    y = ops.softmax(x, **ON).astype(np.float64)
    assert np.isnan(y[:3]).all()
    assert (y[3, :7] == 0).all()
    last = x[3:]
    assert_within(
        ops.softmax(last, **ON), reference.softmax(last), rounded(softmax32(last), dtype), dtype
    )


UNIT = 2.0**-10  # of the numbers from 1 to 2 in tf32
LARGEST = (2 - UNIT) * 2.0**127
TF32 = {
    1 + UNIT / 2: 1 + UNIT,  # ties round away from zero
    1 + 1.5 * UNIT: 1 + 2 * UNIT,
    1 + UNIT / 2 - 2.0**-23: 1,
    2 - UNIT / 2: 2,
    2 - UNIT / 2 - 2.0**-23: 2 - UNIT,
    LARGEST: LARGEST,
    LARGEST + UNIT / 2 * 2.0**127 - 2.0**104: LARGEST,
    LARGEST + UNIT / 2 * 2.0**127: np.inf,
    float(np.finfo(np.float32).max): np.inf,
    np.inf: np.inf,
    2.0**-126: 2.0**-126,
    2.0**-126 - 2.0**-149: 2.0**-126,
    2.0**-137: 2.0**-136,
    2.0**-137 - 2.0**-149: 0,
    0: 0,
}


@pytest.mark.skipif("tf32" not in precisions(), reason="no kernels of tf32")
@pytest.mark.parametrize("c", [1, 4])
def test_tf32_factors_are_rounded(c: int) -> None:
    """Multiply by one: the kernel rounds x, and packing rounds w."""
    given = np.array([*TF32, *(-x for x in TF32), np.nan], np.float32)
    expected = np.array([*TF32.values(), *(-y for y in TF32.values()), np.nan], np.float32)
    np.testing.assert_array_equal(factors(given, "tf32"), expected)
    one, many = np.eye(1, c, dtype=np.float32), np.zeros((given.size, c), np.float32)
    many[:, 0] = given
    np.testing.assert_array_equal(ops.linear(many, one, **on("tf32"))[:, 0], expected)
    np.testing.assert_array_equal(ops.linear(one, many, **on("tf32"))[0], expected)
    many[-1, 0] = np.uint32(0x7F800001).view(np.float32)  # a NaN by its last bit alone
    w = ops.pack_linear(get_backend("emulator"), many, None, dtype="tf32").w
    assert w.dtype == np.float32
    np.testing.assert_array_equal(w[:, 0], expected)
    images = np.zeros((given.size, 1, 1, 3), np.float32)
    images[:, 0, 0, 1] = given
    centre = np.zeros((1, 3, 3, 3), np.float32)
    centre[0, 1, 1, 1] = 1
    y = ops.conv3x3(images, centre, **on("tf32"))
    np.testing.assert_array_equal(y[:, 0, 0, 0], expected)


def test_tf32_sums_are_float32() -> None:
    """Only factors are rounded to tf32; sums and y are float32."""
    x, w = np.array([[1, UNIT]], np.float32), np.array([[1, UNIT]], np.float32)
    assert ops.linear(x, w, **on("tf32")).tolist() == [[1 + UNIT**2]]
    assert ops.linear(x, w, np.array([2.0**-23], np.float32), **on("tf32")).tolist() == [
        [1 + UNIT**2 + 2.0**-23]
    ]


def test_float16_overflows_to_infinity() -> None:
    x = np.full((1, 64), 100, np.float16)
    w = np.full((2, 64), 100, np.float16)
    w[1] *= -1
    assert ops.linear(x, w, **ON).tolist() == [[np.inf, -np.inf]]
    assert ops.linear(x, w, relu=True, **ON).tolist() == [[np.inf, 0]]
    y = ops.conv3x3(x.reshape(1, 1, 1, 64), np.broadcast_to(w[:, None, None], (2, 3, 3, 64)), **ON)
    assert y.tolist() == [[[[np.inf, -np.inf]]]]
    big = np.array([[65504, 65519.0, 65520, -1e9]], np.float32)
    assert ops.convert(big, "float16", **ON).tolist() == [[65504, 65504, np.inf, -np.inf]]


def test_padding_is_zero_after_normalization(precision: str) -> None:
    """Padding is zero after normalization, while black pixels become large numbers."""
    black, w = np.zeros((1, 4, 4, 3), np.uint8), np.ones((8, 3, 3, 3), np.float32)
    y, stats = ops.conv3x3(black, w, preset="torchvision", return_stats=True, **on(precision))
    channels = -np.array([0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = np.broadcast_to(channels, black.shape)
    expected = reference.conv3x3(x, w, np.zeros(8))
    inside = 9 * channels.sum()
    assert expected[0, :2, :2, 0].tolist() == [
        [pytest.approx(inside * 4 / 9), pytest.approx(inside * 6 / 9)],
        [pytest.approx(inside * 6 / 9), pytest.approx(inside)],
    ]
    low = factors(x.astype(np.float32), precision)
    same = accumulate(im2col(low), w.reshape(8, -1), stats["plan"]["tiling"])
    assert_within(y, expected, rounded(same.reshape(expected.shape), precision), precision)


def test_unaligned_addresses_give_same_bits(precision: str) -> None:
    x, w = draw((1, 6, 6, 16), precision), draw((8, 3, 3, 16), precision, seed=1)
    expected = ops.conv3x3(x, w, relu=True, pool=True, **on(precision))
    for offset in range(1, 8):
        moved = np.empty(x.size + 8, x.dtype)[offset : offset + x.size].reshape(x.shape)
        moved[...] = x
        out = np.empty(expected.size + 8, x.dtype)[offset:][: expected.size]
        out = out.reshape(expected.shape)
        y = ops.conv3x3(moved, w, relu=True, pool=True, out=out, **on(precision))
        assert y is out
        assert y.tobytes() == expected.tobytes(), offset
