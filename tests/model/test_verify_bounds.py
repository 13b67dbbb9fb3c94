"""Error bounds of verification: they hold, and they are tight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.kernel_reference import accumulate, numpy_dtype

from vgg_cuda import reference
from vgg_cuda.backends import winograd
from vgg_cuda.verification.operands import as_operand, rounded_from
from vgg_cuda.verification.sums import MMA_K, Order, U, in_order, of_moved
from vgg_cuda.verification.winograd import winograd_bound


def test_of_moved_bounds_moved_sums() -> None:
    """Compare with `in_order` of the moved products."""
    rng = np.random.default_rng(0)
    a, w = rng.standard_normal((20, 96)), rng.standard_normal((96, 7))
    off = np.abs(rng.standard_normal(a.shape)) * 2.0**-8
    order = Order(96, 96, 40)
    moved = off @ np.abs(w)
    bound = in_order(a, w, order) + of_moved(moved, 96, order)
    for sign in (np.sign(rng.standard_normal(a.shape)) for _ in range(20)):
        there = a + sign * off
        error = in_order(there, w, order)
        assert (np.abs(there @ w - a @ w) + error <= bound).all()


def truncated_sums(a: np.ndarray, w: np.ndarray, terms: int) -> np.ndarray:
    """Return a [M,K] w [K,N] as V100 tensor cores add: truncating, ``terms`` products at a time."""

    def grid(x: np.ndarray) -> np.ndarray:
        return np.ldexp(1.0, np.frexp(x)[1] - 24)

    total = np.zeros((len(a), w.shape[1]))
    for k in range(0, len(w), terms):
        products = a[:, k : k + terms].T[:, :, None] * w[k : k + terms][:, None]
        addends = np.concatenate([products, total[None]])
        step = grid(np.abs(addends).max(axis=0))
        total = (np.trunc(addends / step) * step).sum(axis=0)
        step = grid(total)
        total = np.trunc(total / step) * step
    return total


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "tf32"])
@pytest.mark.parametrize("terms", [4, 8, 16])
@pytest.mark.parametrize("sign", [np.copy, np.abs], ids=["both signs", "positive"])
def test_tensor_core_bounds_hold(
    dtype: str, terms: int, sign: Callable[[np.ndarray], np.ndarray]
) -> None:
    rng = np.random.default_rng(0)
    gemm_k = 2304
    a = as_operand(sign(rng.standard_normal((24, gemm_k))), dtype).astype(np.float64)
    w = as_operand(sign(rng.standard_normal((gemm_k, 40))), dtype).astype(np.float64)
    error = np.abs(truncated_sums(a, w, terms) - a @ w)
    bound = in_order(a, w, Order(gemm_k, gemm_k, 2 * (MMA_K + MMA_K // 4)))
    assert (error <= bound).all()
    naive = (np.abs(a) @ np.abs(w)) * gemm_k * 2 * U
    assert (bound < naive).all()
    if sign is np.copy:
        assert np.median(bound / naive) < 0.1  # the gain of following the order of sums


@pytest.mark.parametrize(
    ("apart", "how"),
    [
        (1, {"split_k": 1, "partial_sum": 0}),
        (16, {"split_k": 1, "partial_sum": 16}),
        (16, {"split_k": 64, "partial_sum": 0}),
    ],
    ids=["a chain", "partial sums", "splits"],
)
def test_ffma_bounds_are_tight(apart: int, how: dict[str, int]) -> None:
    """1 + 2^-24 rounds to even 1, so every such addition loses the maximum."""
    gemm_k = 1024
    tiling = {"gemm_k": gemm_k, "steps": 1, "block_k": 16, **how}
    a = np.zeros((1, gemm_k))
    a[0, ::apart] = 2.0**-24
    a[0, 0] = 1
    w = np.ones((gemm_k, 1))
    error = float(abs(accumulate(a, w.T, tiling) - a @ w)[0, 0])
    bound = float(in_order(a, w, Order.of_tiling(tiling, tensor_cores=False))[0, 0])
    assert error <= bound < error + 17 * U  # slack of the chain of 16 with the 1


@pytest.mark.parametrize("terms", [4, 8, 16])
def test_tensor_core_bounds_are_tight(terms: int) -> None:
    """Truncation loses all below the sum's last bit, twice as much as rounding."""
    gemm_k = 1024
    tiling = {"gemm_k": gemm_k, "split_k": 1, "steps": 1, "block_k": 32, "partial_sum": 0}
    a, w = np.full((1, gemm_k), 2.0**-12), np.full((gemm_k, 1), 2.0**-11 * (1 - 2.0**-11))
    a[0, 0], w[0, 0] = 1, 1
    error = float(abs(truncated_sums(a, w, terms) - a @ w)[0, 0])
    bound = float(in_order(a, w, Order.of_tiling(tiling, tensor_cores=True))[0, 0])
    # the bound also covers truncated results, once every four products; here they are exact
    assert error <= bound < 1.01 * error * 5 / 4


def test_winograd_bounds_are_tight() -> None:
    """Every intermediate result has its largest error, in the worst direction."""
    rng = np.random.default_rng(0)
    c, at = 40, (2, 1)
    x, w = rng.standard_normal((4, 4, c)), rng.standard_normal((1, 3, 3, c))
    bound = winograd_bound(x, w)[at][0]
    into, out_of = winograd.INPUT_TRANSFORM.astype(float), winograd.OUTPUT_TRANSFORM.astype(float)
    d = np.pad(x, ((1, 1), (1, 1), (0, 0))).reshape(36, c)
    u = winograd.FILTER_TRANSFORM @ w[0].reshape(9, c)
    row = out_of[at[0] * 4 + at[1]]
    exact = float(row @ ((into @ d) * u).sum(axis=1))
    assert exact == pytest.approx(float(reference.conv3x3(x[None], w)[0][at][0]))
    worst = np.sign(row)[:, None] * np.sign(u)  # the direction that increases the result
    v = into @ d + worst * 16 * U * (np.abs(into) @ np.abs(d))  # 4 x 4 terms of a row of B^T d B
    m = v * u
    m += np.sign(row)[:, None] * np.abs(m) * (1 + c + 25) * U  # U, channels, 5 x 5 of A^T m A
    error = float(row @ m.sum(axis=1)) - exact
    assert 0.9 * bound < error <= bound


@pytest.mark.parametrize("split_k", [1, 3])
@pytest.mark.parametrize("partial_sum", [0, 64])
@pytest.mark.parametrize("gemm_k", [27, 500, 1152])
def test_ffma_bounds_hold(gemm_k: int, partial_sum: int, split_k: int) -> None:
    rng = np.random.default_rng(gemm_k)
    a = rng.standard_normal((30, gemm_k)).astype(np.float32)
    w = np.abs(rng.standard_normal((gemm_k, 20)).astype(np.float32))
    steps_ = -(-gemm_k // (16 * split_k))
    tiling = {
        "gemm_k": gemm_k, "split_k": split_k, "steps": steps_, "block_k": 16,
        "partial_sum": partial_sum,
    }  # fmt: skip
    a64, w64 = a.astype(np.float64), w.astype(np.float64)
    error = np.abs(accumulate(a, w.T, tiling) - a64 @ w64)
    bound = in_order(a64, w64, Order.of_tiling(tiling, tensor_cores=False))
    assert (error <= bound).all()
    assert (error > 0).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_rounded_from_gives_rounding_interval(dtype: str) -> None:
    kind = numpy_dtype(dtype)
    bits = np.dtype(f"u{kind.itemsize}")
    rng = np.random.default_rng(0)
    infinity = int(np.array(np.inf).astype(kind).view(bits))
    chosen = [0, 1, 2, infinity - 2, infinity - 1, infinity]
    chosen += [int(np.array(v).astype(kind).view(bits)) for v in (1, 2, 0.5, 2.0**-14)]
    chosen += list(rng.integers(0, infinity, 1000))
    magnitude = np.array(chosen, bits)
    y = np.concatenate([magnitude, magnitude | bits.type(1 << (8 * bits.itemsize - 1))]).view(kind)
    low, high = rounded_from(y)
    assert (low <= y.astype(np.float64)).all()
    assert (y.astype(np.float64) <= high).all()
    with np.errstate(over="ignore", invalid="ignore"):
        for edge, other in ((low, high), (high, low)):
            away = np.where(
                np.isinf(edge),
                np.nan,
                edge - 1e-3 * (np.where(np.isinf(other), 2 * edge, other) - edge),
            )
            inside = np.where(np.isinf(edge), y.astype(np.float64), 2 * edge - away)
            np.testing.assert_array_equal(
                inside.astype(kind).astype(np.float64), y.astype(np.float64)
            )
            outside = away.astype(kind).astype(np.float64) != y.astype(np.float64)
            assert outside.all()
    assert np.isnan(rounded_from(np.array([np.nan]).astype(kind))).all()


def test_tf32_rounds_ties_away_from_zero() -> None:
    last = 2.0**-10
    given = [1, 1 + last / 2, 1 + last / 2 - 2.0**-23, 1 + last, -1 - last / 2, 0, 3e38, np.inf]
    expected = [1, 1 + last, 1, 1 + last, -1 - last, 0, 2.9996294e38, np.inf]
    found = as_operand(np.array(given, np.float32), "tf32")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:6], expected[:6])
    assert found[7] == np.inf
    assert abs(found[6] - 3e38) <= 3e38 * last / 2
    assert np.isinf(as_operand(np.array([3.4028235e38], np.float32), "tf32")).all()
    assert np.isnan(as_operand(np.array([np.nan], np.float32), "tf32")).all()
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    rounded = as_operand(values, "tf32")
    assert not (rounded.view(np.uint32) & 0x1FFF).any()
    assert (np.abs(rounded - values) <= np.abs(values) * last / 2).all()
