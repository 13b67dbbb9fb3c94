"""The CPU backend against the float64 reference, ragged shapes first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.tolerance import assert_close

from vgg_cuda import ops, reference
from vgg_cuda.backends import memory, winograd
from vgg_cuda.configs import CONFIGS, get_config

BOUND = 1e-5  # for one float32 layer; F(4x4) loses about 2 bits more than the direct form


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


SHAPES = [
    (1, 1, 1, 1, 1),
    (2, 2, 2, 3, 5),
    (1, 7, 15, 16, 1),
    (3, 5, 4, 17, 33),
    (2, 33, 31, 3, 64),
    (1, 32, 32, 64, 64),
    (9, 14, 14, 48, 40),
    (5, 4, 4, 512, 16),
    (1, 97, 130, 16, 24),
]


@pytest.mark.parametrize("relu", [False, True], ids=["", "relu"])
@pytest.mark.parametrize(
    ("n", "h", "w", "c", "k", "pool"),
    [(*s, pool) for s in SHAPES for pool in (False, True) if min(s[1:3]) > 1 or not pool],
    ids=str,
)
def test_conv3x3_matches_reference(
    n: int, h: int, w: int, c: int, k: int, pool: bool, relu: bool
) -> None:
    x, weight, bias = draw(n, h, w, c), draw(k, 3, 3, c, seed=1), draw(k, seed=2)
    y = ops.conv3x3(x, weight, bias, relu=relu, pool=pool)
    expected = reference.conv3x3(x, weight, bias, relu=relu, pool=pool)
    assert y.dtype == np.float32
    assert_close(y, expected, BOUND)
    np.testing.assert_array_equal(y, ops.conv3x3(x, weight, bias, relu=relu, pool=pool))


VGG_SHAPES = sorted({(c.in_channels, c.out_channels) for n in CONFIGS for c in get_config(n).convs})


@pytest.mark.parametrize(("c", "k"), VGG_SHAPES, ids=str)
def test_conv3x3_at_vgg_widths(c: int, k: int) -> None:
    x, weight, bias = draw(1, 13, 18, c), draw(k, 3, 3, c, seed=1), draw(k, seed=2)
    got = ops.conv3x3(x, weight, bias, relu=True, pool=True)
    assert_close(got, reference.conv3x3(x, weight, bias, relu=True, pool=True), BOUND)


def test_reference_matches_definition() -> None:
    """Compare the reference with seven nested loops."""
    x, w, bias = draw(1, 3, 4, 2), draw(3, 3, 3, 2, seed=1), draw(3, seed=2)
    y = np.zeros((1, 3, 4, 3))
    for p, q, k, r, s, c in np.ndindex(3, 4, 3, 3, 3, 2):
        i, j = p + r - 1, q + s - 1
        if 0 <= i < 3 and 0 <= j < 4:
            y[0, p, q, k] += float(x[0, i, j, c]) * float(w[k, r, s, c])
    assert_close(reference.conv3x3(x, w, bias), y + bias, 1e-14)


@pytest.mark.parametrize(
    "shape", [(1, 2, 2, 1), (2, 7, 5, 3), (3, 8, 8, 16), (1, 2, 9, 8)], ids=str
)
def test_maxpool2x2_matches_reference(shape: tuple[int, ...]) -> None:
    x = draw(*shape)
    np.testing.assert_array_equal(ops.maxpool2x2(x), reference.maxpool2x2(x).astype(np.float32))


def test_nan_propagates() -> None:
    x = draw(1, 8, 8, 16)
    x[0, 2, 3, 0] = np.nan
    assert np.isnan(ops.maxpool2x2(x)[0, 1, 1, 0])
    assert np.isnan(ops.relu(x)[0, 2, 3, 0])
    assert np.isnan(ops.adaptive_maxpool(x)[0, 0, 0]).tolist() == [c == 0 for c in range(16)]
    assert np.isnan(ops.conv3x3(x, draw(4, 3, 3, 16), relu=True, pool=True)).any()


@pytest.mark.parametrize("grid", [1, 2, 7])
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (3, 10), (15, 8)], ids=str)
def test_avgpool_matches_reference(size: tuple[int, int], grid: int) -> None:
    x = draw(2, *size, 5)
    assert_close(ops.avgpool(x, grid), reference.avgpool(x, grid), 1e-6)


@pytest.mark.parametrize("grid", [1, 2, 7])
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (3, 10), (15, 8)], ids=str)
def test_adaptive_maxpool_matches_torch(size: tuple[int, int], grid: int) -> None:
    x = draw(2, *size, 5)
    y = ops.adaptive_maxpool(x, grid)
    np.testing.assert_array_equal(y, reference.adaptive_maxpool(x, grid))
    nchw = torch.from_numpy(x).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.adaptive_max_pool2d(nchw, grid).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(y, theirs.numpy())
    assert not np.shares_memory(y, x)


@pytest.mark.parametrize(("n", "c", "k"), [(1, 1, 1), (3, 7, 5), (8, 512, 33)])
@pytest.mark.parametrize("relu", [False, True])
def test_linear_matches_reference(n: int, c: int, k: int, relu: bool) -> None:
    x, w, bias = draw(n, c), draw(k, c, seed=1), draw(k, seed=2)
    assert_close(ops.linear(x, w, bias, relu=relu), reference.linear(x, w, bias, relu=relu), 1e-6)
    assert_close(ops.linear(x, w), reference.linear(x, w), 1e-6)


def test_softmax_matches_reference() -> None:
    x = draw(4, 1000) * 30
    x[1] = 1e4  # exp overflows without the maximum subtracted
    y = ops.softmax(x)
    assert_close(y, reference.softmax(x), 1e-6)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)


def test_empty_batches_keep_shapes() -> None:
    assert ops.conv3x3(draw(0, 4, 6, 16), draw(8, 3, 3, 16), pool=True).shape == (0, 2, 3, 8)
    assert ops.conv3x3(draw(0, 4, 6, 3), draw(8, 3, 3, 3)).shape == (0, 4, 6, 8)
    assert ops.maxpool2x2(draw(0, 4, 6, 3)).shape == (0, 2, 3, 3)
    assert ops.avgpool(draw(0, 4, 6, 3)).shape == (0, 7, 7, 3)
    assert ops.adaptive_maxpool(draw(0, 4, 6, 3)).shape == (0, 1, 1, 3)
    assert ops.linear(draw(0, 4), draw(5, 4)).shape == (0, 5)
    assert ops.softmax(draw(0, 4)).shape == (0, 4)


def test_inputs_and_results_stay_unchanged() -> None:
    x, w = draw(2, 64, 64, 64), draw(64, 3, 3, 64, seed=1)
    before = x.copy()
    first = ops.conv3x3(x, w)
    kept = first.copy()
    view = first[1:, 3]
    del first
    second = ops.conv3x3(x + 1, w)  # must not reuse the buffer behind `view`
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(view, kept[1:, 3])
    assert not np.shares_memory(view, second)


def test_freed_buffers_are_reused_and_bounded() -> None:
    memory._idle.clear()
    first = memory.empty(1 << 20)
    address = first.ctypes.data
    del first
    assert memory.empty(1000, 1000).ctypes.data == address
    huge = [memory.empty(30 << 20) for _ in range(3)]
    del huge
    assert sum(kept.nbytes for kept in memory._idle.values()) <= memory.MAX_KEPT_BYTES
    assert memory.empty(10) is not None  # small arrays come from the allocator
    memory._idle.clear()


def test_avgpool_of_grid_size_copies() -> None:
    x = draw(1, 7, 7, 4)
    assert not np.shares_memory(ops.avgpool(x, 7), x)


@pytest.mark.parametrize("workers", [1, 2, 3, 16])
@pytest.mark.parametrize(
    ("n", "th", "tw"),
    [(0, 4, 4), (1, 56, 56), (1, 1, 1), (8, 7, 7), (3, 25, 40), (1, 1, 3000), (2, 14, 14)],
)
@pytest.mark.parametrize("k", [1, 64, 65, 512])
def test_blocks_cover_all_tiles_once(n: int, th: int, tw: int, k: int, workers: int) -> None:
    seen = np.zeros((n, th, k), int)
    for block in winograd.plan_blocks(n, th, tw, k, workers):
        assert seen[block.images, block.rows, block.channels].size > 0
        seen[block.images, block.rows, block.channels] += 1
    assert (seen == 1).all()
