"""The kernels on a GPU: the cases of test_kernels.py, with the same references."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.kernel_cases import Case, ConvCase, LinearCase, SimpleCase, all_cases, dtypes
from support.kernel_reference import FACTOR, assert_within, draw, numpy_dtype, rounded_forward
from support.tolerance import LOGITS, relative_l2

from vgg_cuda import _C, VGG, ops, reference
from vgg_cuda.backends import get_backend, why_missing
from vgg_cuda.weights import load_weights

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def cupy() -> Any:
    import cupy

    return cupy


@pytest.fixture
def backend() -> Any:
    return get_backend("cuda")


def runnable(arch: str) -> bool:
    major, minor = _C.device_info()["devices"][0]["compute_capability"]
    return _C.can_run(_C.arch(arch), major, minor)


@pytest.fixture(params=dtypes())
def dtype(request: pytest.FixtureRequest, backend: Any) -> str:
    if request.param not in backend.dtypes:
        pytest.skip(f"this CuPy cannot hold {request.param}")
    return str(request.param)


@pytest.mark.parametrize("arch", ["own", "case"])
@pytest.mark.parametrize("case", all_cases(), ids=lambda case: f"{case.op}-{case.id}")
def test_against_float64(cupy: Any, backend: Any, case: Case, arch: str) -> None:
    """Planned for this GPU, and as the emulator ran it."""
    if not {case.dtype, getattr(case, "x_dtype", "") or case.dtype} <= {
        *backend.precisions,
        "uint8",
    }:
        pytest.skip(f"this CuPy cannot hold {case.dtype}")
    where = {} if arch == "own" else {"arch": case.arch}
    if where and not runnable(case.arch):
        pytest.skip(f"this GPU cannot run {case.arch}")
    y, stats = case.run(cupy.asarray, **where, return_stats=True)
    assert isinstance(y, cupy.ndarray)
    assert y.dtype == numpy_dtype(case.dtype)
    assert stats["counters"] == {}
    on_host = cupy.asnumpy(y)
    assert_within(on_host, case.expected(), case.same(stats["plan"]["tiling"]), case.id)
    assert cupy.asnumpy(case.run(cupy.asarray, **where)).tobytes() == on_host.tobytes()


def test_pool_in_the_epilogue_changes_no_bit(cupy: Any, dtype: str) -> None:
    for shape, k in (((4, 28, 30, 64), 128), ((2, 15, 15, 3), 64), ((3, 9, 7, 5), 68)):
        x = cupy.asarray(draw(shape, dtype))
        w, bias = draw((k, 3, 3, shape[3]), dtype, 0.1, seed=1), draw((k,), "float32", seed=2)
        one, whole = ops.conv3x3(x, w, bias, relu=True, pool=True, return_stats=True)
        y, apart = ops.conv3x3(x, w, bias, relu=True, return_stats=True)
        splits = {stats["plan"]["tiling"]["split_k"] for stats in (whole, apart)}
        if len(splits) == 1:
            assert cupy.asnumpy(one).tobytes() == cupy.asnumpy(ops.maxpool2x2(y)).tobytes()


def test_softmax_of_infinities(cupy: Any, dtype: str) -> None:
    x = draw((4, 40), dtype)
    x[0], x[1, 3], x[2, 5], x[3, :7] = -np.inf, np.nan, np.inf, -np.inf
    y = cupy.asnumpy(ops.softmax(cupy.asarray(x))).astype(np.float64)
    assert np.isnan(y[:3]).all()
    assert (y[3, :7] == 0).all()


def test_nan_and_overflow(cupy: Any, dtype: str) -> None:
    x = draw((1, 4, 4, 8), dtype)
    x[0, 1, 1, 2] = np.nan
    y = cupy.asnumpy(ops.conv3x3(cupy.asarray(x), draw((3, 3, 3, 8), dtype), relu=True))
    assert np.isnan(y[0, :3, :3].astype(np.float32)).all()
    assert np.isfinite(y[0, 3].astype(np.float32)).all()
    y = cupy.asnumpy(ops.adaptive_maxpool(cupy.asarray(x))).astype(np.float32)
    assert np.isnan(y[0, 0, 0]).tolist() == [c == 2 for c in range(8)]
    if dtype == "float16":
        large = cupy.full((1, 64), 100, np.float16)
        assert ops.linear(large, large, relu=True).tolist() == [[np.inf]]


def test_out_and_in_place(cupy: Any, dtype: str) -> None:
    x = cupy.asarray(draw((2, 6, 6, 16), dtype))
    w = cupy.asarray(draw((8, 3, 3, 16), dtype, seed=1))
    expected = ops.conv3x3(x, w)
    out = cupy.full_like(expected, 7)
    assert ops.conv3x3(x, w, out=out) is out
    assert cupy.asnumpy(out).tobytes() == cupy.asnumpy(expected).tobytes()
    expected = cupy.asnumpy(ops.relu(x))
    assert ops.relu(x, out=x) is x
    assert cupy.asnumpy(x).tobytes() == expected.tobytes()
    with pytest.raises(TypeError, match="expected an array like x"):
        ops.relu(x, out=np.empty(x.shape, x.dtype))


def test_streams(cupy: Any) -> None:
    x = cupy.asarray(draw((1, 32, 32, 64), "float16"))
    w = cupy.asarray(draw((64, 3, 3, 64), "float16", 0.1, seed=1))
    expected = cupy.asnumpy(ops.conv3x3(x, w))
    stream = cupy.cuda.Stream(non_blocking=True)
    for given in (stream, stream.ptr):
        cupy.cuda.get_current_stream().synchronize()
        y = ops.conv3x3(x, w, stream=given)
        stream.synchronize()
        assert cupy.asnumpy(y).tobytes() == expected.tobytes()
    with stream:  # the caller's current stream
        y = ops.conv3x3(x, w)
    stream.synchronize()
    assert cupy.asnumpy(y).tobytes() == expected.tobytes()


def test_kinds(cupy: Any) -> None:
    class Bare:
        """Has __cuda_array_interface__ alone."""

        def __init__(self, array: Any) -> None:
            self.array = array
            self.__cuda_array_interface__ = array.__cuda_array_interface__

    x = cupy.asarray(draw((2, 6, 6, 8), "float32"))
    y = ops.relu(Bare(x))
    assert isinstance(y, cupy.ndarray)
    assert cupy.asnumpy(y).tobytes() == cupy.asnumpy(ops.relu(x)).tobytes()
    for device in ("cpu", "emulator"):
        if why_missing(device) is None:
            with pytest.raises(ValueError, match=r"got one on cuda:0.*cupy.asnumpy"):
                ops.relu(x, device=device)
    with pytest.raises(ValueError, match=r"x: expected an array on cuda, got .*cupy.asarray"):
        ops.relu(cupy.asnumpy(x), device="cuda")


def test_batch_beyond_the_limit_is_refused(cupy: Any) -> None:
    x = cupy.zeros((1, 1, 1, 8), np.float16)
    huge = cupy.ndarray((30000, 224, 224, 8), np.float16, memptr=x.data)  # as if there were
    with pytest.raises(MemoryError, match=r"conv3x3: needs .* GB for its result .* GB are free on"):
        ops.conv3x3(huge, draw((64, 3, 3, 8), "float16"))


def test_unsupported_arch_is_refused(cupy: Any) -> None:
    others = [name for name in _C.arch_names() if not runnable(name)]
    for name in others:
        with pytest.raises(ValueError, match=r"arch: expected one of .*sm_80.* got"):
            ops.relu(cupy.zeros(3), arch=name)


def test_empty_batch(cupy: Any, dtype: str) -> None:
    x = cupy.zeros((0, 6, 6, 4), numpy_dtype(dtype))
    assert ops.conv3x3(x, draw((8, 3, 3, 4), dtype), pool=True).shape == (0, 3, 3, 8)
    assert ops.avgpool(x).shape == (0, 7, 7, 4)
    assert ops.adaptive_maxpool(x).shape == (0, 1, 1, 4)


def test_asarray(cupy: Any, backend: Any, dtype: str) -> None:
    x = draw((3, 4), dtype)
    on_gpu = backend.asarray(np.asfortranarray(x), dtype)
    assert on_gpu.flags.c_contiguous
    assert on_gpu.dtype.name == dtype
    assert backend.asarray(on_gpu, dtype).data.ptr == on_gpu.data.ptr
    np.testing.assert_array_equal(cupy.asnumpy(on_gpu), x)
    np.testing.assert_array_equal(cupy.asnumpy(backend.asarray(on_gpu.T, dtype)), x.T)


def test_model_on_a_gpu(cupy: Any) -> None:
    pixels = draw((3, 32, 32, 3), "uint8")
    weights = load_weights("digits")
    images = weights.preset.normalize(pixels)
    tap = "prob" if weights.activation else weights.config.dense[-1].name
    expected = reference.forward(weights, images)[tap]
    for dtype in ("float16", "float32"):
        same = rounded_forward(weights, images, dtype)[tap]
        bound = FACTOR * relative_l2(same, expected) + LOGITS
        model = VGG(weights, device="cuda", dtype=dtype)
        for x in (pixels, cupy.asarray(pixels), images):
            assert relative_l2(cupy.asnumpy(model(x)), expected) <= bound
        nchw = cupy.asarray(images.transpose(0, 3, 1, 2).copy())
        assert relative_l2(cupy.asnumpy(model(nchw, layout="NCHW")), expected) <= bound


def test_unaligned_arrays(cupy: Any, dtype: str) -> None:
    """An address that is no multiple of 16 bytes takes the slower path, to the same bits.

    Unless its sums are split in another way.
    """
    for case in (ConvCase(1, 6, 6, 16, 8, dtype), LinearCase(3, 64, 8, dtype)):
        moved = replace(case, offset=1)
        y, stats = case.run(cupy.asarray, return_stats=True)
        other, other_stats = moved.run(cupy.asarray, return_stats=True)
        assert stats["kernel"] != other_stats["kernel"]
        if stats["plan"]["tiling"]["split_k"] == other_stats["plan"]["tiling"]["split_k"]:
            assert cupy.asnumpy(y).tobytes() == cupy.asnumpy(other).tobytes()
    simple = SimpleCase("softmax", (2, 1000), dtype, offset=1)
    assert simple.run(cupy.asarray).shape == (2, 1000)
