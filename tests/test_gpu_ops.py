"""Every operation on the GPU, in every dtype and at ragged shapes, against float64 NumPy.

The bound is derived, not chosen. An n-term float32 sum of products is off by at most
(n + 2) 2^-24 sum|products|, in any order of additions; rounding the result to the dtype adds half
a unit in the last place, or where the dtype is out of normal numbers half its smallest step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vgg_cuda.backends.cuda import CudaBackend, why_unavailable

UNAVAILABLE = why_unavailable()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE)),
]

DTYPES = ("float32", "float16", "bfloat16")
UNIT = 2.0**-24  # of float32
ROUNDING = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = {"float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}


@pytest.fixture(scope="module")
def backend() -> CudaBackend:
    return CudaBackend()


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest, backend: CudaBackend) -> str:
    if request.param not in backend.dtypes:
        pytest.skip(f"this CuPy cannot hold {request.param}")
    return str(request.param)


def random(shape: tuple[int, ...], dtype: str, scale: float = 1.0) -> Any:
    """Normal numbers that ``dtype`` can hold, in float32 on the host."""
    rng = np.random.default_rng(sum(shape))
    return rounded(scale * rng.standard_normal(shape, dtype=np.float32), dtype)


def rounded(x: Any, dtype: str) -> Any:
    if dtype == "bfloat16":
        import ml_dtypes

        return x.astype(ml_dtypes.bfloat16).astype(np.float32)
    return x.astype(dtype).astype(np.float32)


def numpy64(backend: CudaBackend, y: Any) -> Any:
    return backend.to_numpy(y).astype(np.float64)


def assert_close(y: Any, expected: Any, magnitude: Any, terms: int, dtype: str) -> None:
    """``magnitude``: the sum of the absolute values of the ``terms`` products."""
    bound = (terms + 2) * UNIT * magnitude + ROUNDING[dtype] * abs(expected) + SMALLEST[dtype]
    assert y.shape == expected.shape
    excess = np.nan_to_num(abs(y - expected) / bound, nan=np.inf)
    worst = np.unravel_index(excess.argmax(), excess.shape)
    assert excess[worst] <= 1, (
        f"at {worst}: got {y[worst]!r}, expected {expected[worst]!r}, "
        f"{excess[worst]:.2f} of the bound; {(excess > 1).sum()} of {excess.size} are off"
    )


def conv_reference(x: Any, w: Any, bias: Any) -> Any:
    _, H, W, _ = x.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = (padded[:, r : r + H, s : s + W] @ w[:, r, s].T.astype(np.float64)
            for r in range(3) for s in range(3))  # fmt: skip
    return sum(taps) + bias


def pooled(y: Any) -> Any:
    N, H, W, C = y.shape
    windows = y[:, : H // 2 * 2, : W // 2 * 2].reshape(N, H // 2, 2, W // 2, 2, C)
    return windows.max(axis=(2, 4))


CONV_SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 7, 5, 3, 5),
    (2, 6, 7, 3, 64),
    (1, 8, 8, 64, 64),
    (3, 5, 5, 64, 68),
    (1, 15, 2, 5, 3),
    (2, 14, 14, 40, 130),
]


def conv_id(shape: tuple[int, ...]) -> str:
    return "n{}-h{}-w{}-c{}-k{}".format(*shape)


@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
@pytest.mark.parametrize("pool", [False, True], ids=["", "pool"])
@pytest.mark.parametrize("shape", CONV_SHAPES, ids=conv_id)
def test_conv3x3(
    backend: CudaBackend, dtype: str, shape: tuple[int, ...], pool: bool, relu: bool
) -> None:
    N, H, W, C, K = shape
    x, w = random((N, H, W, C), dtype), random((K, 3, 3, C), dtype, 0.3)
    bias = random((K,), "float32")
    packed = backend.pack_conv3x3(w, bias, dtype)
    assert (packed.in_channels, packed.out_channels) == (C, K)
    x_gpu = backend.asarray(x, dtype)
    y = backend.conv3x3(x_gpu, packed, relu=relu, pool=pool)
    assert y.dtype.name == dtype

    expected, magnitude = conv_reference(x, w, bias), conv_reference(abs(x), abs(w), abs(bias))
    expected = np.maximum(expected, 0) if relu else expected
    if pool:
        expected, magnitude = pooled(expected), pooled(magnitude)
    if expected.size:
        assert_close(numpy64(backend, y), expected, magnitude, 9 * C + 1, dtype)

    again = backend.conv3x3(x_gpu, packed, relu=relu, pool=pool)
    assert backend.to_numpy(again).tobytes() == backend.to_numpy(y).tobytes()
    if pool:  # pooling in the epilogue changes no bit
        apart = backend.maxpool2x2(backend.conv3x3(x_gpu, packed, relu=relu, pool=False))
        assert backend.to_numpy(apart).tobytes() == backend.to_numpy(y).tobytes()


@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
@pytest.mark.parametrize(
    ("N", "C", "K"), [(1, 1, 1), (3, 7, 5), (65, 64, 64), (2, 100, 130), (1, 4096, 65)]
)
def test_linear(backend: CudaBackend, dtype: str, N: int, C: int, K: int, relu: bool) -> None:
    x, w, bias = random((N, C), dtype), random((K, C), dtype, 0.3), random((K,), "float32")
    packed = backend.pack_linear(w, bias, dtype)
    assert (packed.in_features, packed.out_features) == (C, K)
    y = backend.linear(backend.asarray(x, dtype), packed, relu=relu)
    expected = x.astype(np.float64) @ w.T.astype(np.float64) + bias
    magnitude = abs(x).astype(np.float64) @ abs(w).T.astype(np.float64) + abs(bias)
    expected = np.maximum(expected, 0) if relu else expected
    assert_close(numpy64(backend, y), expected, magnitude, C + 1, dtype)


POOL_SHAPES = [(1, 2, 2, 1), (2, 7, 5, 3), (1, 8, 8, 64), (2, 15, 3, 40), (1, 4, 600, 8)]


@pytest.mark.parametrize("shape", POOL_SHAPES, ids=str)
def test_maxpool2x2(backend: CudaBackend, dtype: str, shape: tuple[int, ...]) -> None:
    x = random(shape, dtype)
    x.flat[::11] = np.nan
    y = backend.maxpool2x2(backend.asarray(x, dtype))
    np.testing.assert_array_equal(numpy64(backend, y), pooled(x.astype(np.float64)))


@pytest.mark.parametrize("shape", POOL_SHAPES, ids=str)
def test_relu(backend: CudaBackend, dtype: str, shape: tuple[int, ...]) -> None:
    x = random(shape, dtype)
    x.flat[::11] = np.nan
    y = backend.relu(backend.asarray(x, dtype))
    np.testing.assert_array_equal(numpy64(backend, y), np.maximum(x.astype(np.float64), 0))


@pytest.mark.parametrize(
    ("shape", "grid"),
    [((1, 7, 7, 64), 7), ((2, 5, 9, 3), 7), ((1, 14, 14, 16), 7), ((1, 1, 1, 5), 3)],
    ids=str,
)
def test_avgpool(backend: CudaBackend, dtype: str, shape: tuple[int, ...], grid: int) -> None:
    x = random(shape, dtype)
    N, H, W, C = shape
    expected = np.zeros((N, grid, grid, C))
    magnitude = np.zeros_like(expected)
    for i in range(grid):
        for j in range(grid):
            rows = slice(i * H // grid, -(-(i + 1) * H // grid))
            columns = slice(j * W // grid, -(-(j + 1) * W // grid))
            pixels = x[:, rows, columns].astype(np.float64)
            expected[:, i, j] = pixels.mean(axis=(1, 2))
            magnitude[:, i, j] = abs(pixels).mean(axis=(1, 2))
    y = backend.avgpool(backend.asarray(x, dtype), grid)
    assert_close(numpy64(backend, y), expected, magnitude, H * W, dtype)


@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 10), (2, 256), (3, 257), (2, 1000), (1, 4099)], ids=str
)
def test_softmax(backend: CudaBackend, dtype: str, shape: tuple[int, ...]) -> None:
    x = random(shape, dtype, 4.0)
    e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    expected = e / e.sum(axis=1, keepdims=True)
    y = backend.softmax(backend.asarray(x, dtype))
    # exp's argument, up to about 30 in magnitude, is off by half a unit of its own.
    assert_close(numpy64(backend, y), expected, expected, shape[1] + 40, dtype)


def test_softmax_of_infinities(backend: CudaBackend, dtype: str) -> None:
    x = random((4, 40), dtype)
    x[0] = -np.inf
    x[1, 3] = np.nan
    x[2, 5] = np.inf
    x[3, :7] = -np.inf
    y = numpy64(backend, backend.softmax(backend.asarray(x, dtype)))
    assert np.isnan(y[:3]).all()
    assert (y[3, :7] == 0).all()
    assert y[3].sum() == pytest.approx(1, abs=40 * ROUNDING[dtype])


def test_nan_and_overflow(backend: CudaBackend, dtype: str) -> None:
    x = random((1, 4, 4, 8), dtype)
    x[0, 1, 1, 2] = np.nan
    packed = backend.pack_conv3x3(random((3, 3, 3, 8), dtype), np.zeros(3, np.float32), dtype)
    y = numpy64(backend, backend.conv3x3(backend.asarray(x, dtype), packed, relu=True, pool=False))
    assert np.isnan(y[0, :3, :3]).all()
    assert np.isfinite(y[0, 3]).all()
    if dtype == "float16":
        large = np.full((1, 64), 100, np.float32)
        packed_large = backend.pack_linear(large, np.zeros(1, np.float32), dtype)
        y = backend.linear(backend.asarray(large, dtype), packed_large, relu=True)
        assert np.isposinf(numpy64(backend, y)).all()


def test_unaligned_arrays(backend: CudaBackend, dtype: str) -> None:
    """A pointer that is not a multiple of 16 takes the scalar path, to the same bits."""
    x = random((1, 6, 6, 16), dtype)
    packed = backend.pack_conv3x3(random((8, 3, 3, 16), dtype), np.zeros(8, np.float32), dtype)
    aligned = backend.asarray(x, dtype)
    unaligned = backend.asarray(np.append(0, x).astype(np.float32), dtype)[1:].reshape(x.shape)
    for pool in (False, True):
        expected = backend.conv3x3(aligned, packed, relu=True, pool=pool)
        y = backend.conv3x3(unaligned, packed, relu=True, pool=pool)
        assert backend.to_numpy(y).tobytes() == backend.to_numpy(expected).tobytes()


def test_empty_batch(backend: CudaBackend, dtype: str) -> None:
    packed = backend.pack_conv3x3(random((8, 3, 3, 4), dtype), np.zeros(8, np.float32), dtype)
    x = backend.asarray(np.zeros((0, 6, 6, 4), np.float32), dtype)
    assert backend.conv3x3(x, packed, relu=True, pool=True).shape == (0, 3, 3, 8)
    assert backend.avgpool(x, 7).shape == (0, 7, 7, 4)


def test_asarray(backend: CudaBackend, dtype: str) -> None:
    x = random((3, 4), dtype)
    on_gpu = backend.asarray(np.asfortranarray(x), dtype)
    assert on_gpu.flags.c_contiguous
    assert on_gpu.dtype.name == dtype
    assert backend.asarray(on_gpu, dtype).data.ptr == on_gpu.data.ptr
    np.testing.assert_array_equal(backend.to_numpy(on_gpu).astype(np.float32), x)
    transposed = backend.asarray(on_gpu.T, dtype)
    np.testing.assert_array_equal(backend.to_numpy(transposed).astype(np.float32), x.T)
