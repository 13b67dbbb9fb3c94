"""The CUDA backend's logic without a GPU: devices, streams, memory and refusals.

support/fake_cupy.py replaces CuPy and the GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.fake_cupy import (
    FakeTensor,
    Log,
    OutOfMemoryError,
    Stream,
    asarray,
    fake_gpus,
    fake_torch,
    ndarray,
)
from support.kernel_reference import draw

from vgg_cuda import VGG, ops
from vgg_cuda.backends import DeviceError, cuda, get_backend, recording
from vgg_cuda.images.normalization import Normalization
from vgg_cuda.weights import load_weights

pytestmark = pytest.mark.emulator


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    with fake_gpus(monkeypatch, (9, 0), (8, 6), (7, 0)) as log:
        yield log


def on(index: int, x: np.ndarray) -> Any:
    array = asarray(x)
    array.gpu = index
    return array


X = draw((2, 6, 6, 16), "float16")
W, BIAS = draw((8, 3, 3, 16), "float16", 0.1, seed=1), draw((8,), "float32", seed=2)


DEVICES = (("cuda:1", None), ("emulator", "sm_86"))


def same(y: Any, expected: np.ndarray) -> bool:
    return y.view(np.ndarray).tobytes() == expected.tobytes()


def test_result_is_on_the_gpu_of_x_without_waiting(log: Log) -> None:
    expected = ops.conv3x3(X, W, BIAS, relu=True, pool=True, device="emulator")
    for index in (0, 1):
        for w, bias in ((W, BIAS), (on(index, W), on(index, BIAS)), (on(index, W), BIAS)):
            y, stats = ops.conv3x3(on(index, X), w, bias, relu=True, pool=True, return_stats=True)
            assert isinstance(y, ndarray)
            assert y.gpu == index
            assert same(y, expected)
            assert stats["plan"]["arch"] == ("sm_90a", "sm_86")[index]
            assert stats["counters"] == {}
            assert log.launched_on[-1] == (index, 0)
    assert log.synchronized == 0
    assert log.device == 0


def test_streams(log: Log) -> None:
    x = on(0, X)
    expected = ops.relu(X, device="emulator")
    given = (
        (Stream(64), 64),
        (96, 96),
        (SimpleNamespace(cuda_stream=128), 128),
        (SimpleNamespace(__cuda_stream__=lambda: (0, 160)), 160),
    )
    for stream, address in given:
        assert same(ops.relu(x, stream=stream), expected)
        assert log.launched_on[-1] == (0, address)
        assert log.streams == [0]
    with Stream(192):  # the caller's current one
        ops.relu(x)
    assert log.launched_on[-1] == (0, 192)
    with pytest.raises(TypeError, match="stream: expected a stream"):
        ops.relu(x, stream="default")


def test_out_and_in_place(log: Log) -> None:
    x = on(0, X)
    out = on(0, np.zeros_like(X))
    assert ops.relu(x, out=out) is out
    assert same(out, ops.relu(X, device="emulator"))
    assert ops.relu(x, out=x) is x
    assert same(x, out)
    with pytest.raises(TypeError, match=r"expected an array like x, cupy\.ndarray, got numpy"):
        ops.relu(x, out=np.empty_like(X))
    with pytest.raises(
        ValueError, match="out: expected an array on cuda:0, like x, got one on cuda:1"
    ):
        ops.relu(x, out=on(1, X))
    with pytest.raises(ValueError, match="must not overlap x"):
        ops.softmax(x.reshape(12, 96)[:6], out=x.reshape(12, 96)[1:7])


def test_arrays_are_never_moved_implicitly(log: Log) -> None:
    with pytest.raises(ValueError, match=r"x: expected an array on cuda, got .*cupy\.asarray"):
        ops.relu(X, device="cuda")
    for device in ("cpu", "emulator"):
        with pytest.raises(ValueError, match=rf"relu: x: .* device {device}, got .*cupy\.asnumpy"):
            ops.relu(on(0, X), device=device)
    with pytest.raises(ValueError, match=r"x: .* device cuda:1, got one on cuda:0.*Device\(1\)"):
        ops.relu(on(0, X), device="cuda:1")
    assert ops.relu(on(1, X), device="cuda").gpu == 1
    with pytest.raises(
        ValueError, match="w: expected an array in host memory or on cuda:0, got one on cuda:1"
    ):
        ops.conv3x3(on(0, X), on(1, W))
    with pytest.raises(
        ValueError, match="w: expected an array in host memory or on cpu, got one on"
    ):
        ops.conv3x3(X.astype(np.float32), on(0, W))


def test_arch(log: Log) -> None:
    _, stats = ops.relu(on(0, X), arch="sm_80", return_stats=True)
    assert stats["plan"]["arch"] == "sm_80"
    with pytest.raises(ValueError, match=r"relu: arch: expected .* GPU 1 \(sm_86\), got 'sm_90'"):
        ops.relu(on(1, X), arch="sm_90")
    with pytest.raises(ValueError, match=r"relu: .*sm_80"):
        ops.relu(on(0, X), arch="hopper")


def test_unsupported_gpus(log: Log) -> None:
    with pytest.raises(DeviceError, match="GPU 2 is sm_70; vgg_cuda needs sm_80 or later"):
        get_backend("cuda:2")
    with pytest.raises(RuntimeError, match="GPU 2 is sm_70; vgg_cuda needs sm_80 or later"):
        ops.relu(on(2, X))
    with pytest.raises(DeviceError, match="no GPU 3: 3 are visible"):
        get_backend("cuda:3")


def test_batch_beyond_the_limit_is_refused(log: Log) -> None:
    log.free, log.pooled = 1000, 100
    with pytest.raises(
        MemoryError,
        match=r"relu: needs 2,304 bytes for its result .*1,100 bytes are free on cuda:0",
    ):
        ops.relu(on(0, X))
    log.pooled = 10**6
    assert ops.relu(on(0, X)).shape == X.shape


def test_memory_is_tried_before_it_is_refused(log: Log) -> None:
    x = on(0, X)
    log.pooled = X.nbytes
    ops.relu(x)
    assert log.asked_driver == 0  # the pool has enough
    log.free, log.pooled = 1000, 100
    log.allocator = print  # other allocators are not asked
    assert ops.relu(x).shape == X.shape
    assert log.asked_driver == 0
    log.allocates = False
    with pytest.raises(
        MemoryError, match=r"relu: needs 2,304 bytes for its result .*, 1,000 bytes are free on cu"
    ) as caught:
        ops.relu(x)
    assert isinstance(caught.value.__cause__, OutOfMemoryError)
    log.allocator, log.pooled = log.pool.malloc, 10**6  # in pieces, none large enough
    with pytest.raises(MemoryError, match=r"relu: needs .* 1\.0 MB are free on cuda:0"):
        ops.relu(x)
    log.allocates, log.pooled, log.limit, log.free = True, 100, 400, 10**9
    with pytest.raises(MemoryError, match="400 bytes are free on cuda:0"):
        ops.relu(x)
    out = on(0, np.empty_like(X))
    assert ops.relu(x, out=out) is out


def test_garbage_is_collected_before_refusal(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def collect() -> None:
        log.free = 10**9

    monkeypatch.setattr(cuda.gc, "collect", collect)
    log.free = 10
    assert ops.relu(on(0, X)).shape == X.shape


def test_device_is_described_once(log: Log) -> None:
    for _ in range(3):
        ops.relu(on(0, X), device="cuda:0")
        get_backend("cuda:1")
    assert log.descriptions == 1


def test_out_over_a_view_of_x(log: Log) -> None:
    memory = on(0, np.zeros((4, 8), np.float16))
    for x in (memory[:, ::2], memory[::-1][:, :4]):  # copied before they are read
        with pytest.raises(ValueError, match="must not overlap x"):
            ops.softmax(x, out=memory.reshape(-1)[:16].reshape(4, 4))
    odd = np.zeros(X.nbytes + 1, np.uint8)[1:].view(np.float16).reshape(X.shape)
    with pytest.raises(ValueError, match="out: expected an address that is a multiple of 2"):
        ops.relu(on(0, X), out=odd.view(ndarray))


# ---- PyTorch ----


@pytest.fixture
def fake(log: Log, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    return log


def test_tensor_is_computed_on_pytorch_stream(fake: Log) -> None:
    for index, arch in enumerate(("sm_90", "sm_86")):
        options: dict[str, Any] = {"relu": True, "arch": arch}
        expected = ops.conv3x3(X, W, BIAS, device="emulator", **options)
        here = (index, 1000 + index)
        y = ops.conv3x3(FakeTensor(X, index), FakeTensor(W, index), BIAS, **options)
        assert isinstance(y, FakeTensor)
        assert same(y.array, expected)
        assert fake.shared_on == [here, here]  # x, w
        assert (fake.launched_on, fake.given_back_on) == ([here], [here])
        for log in (fake.shared_on, fake.launched_on, fake.given_back_on):
            log.clear()
    assert (fake.streams, fake.device, fake.synchronized) == ([0], 0, 0)


def test_out_is_written_on_pytorch_stream(fake: Log) -> None:
    out = FakeTensor(np.zeros_like(X), 1)
    assert ops.relu(FakeTensor(X, 1), out=out) is out
    assert same(out.array, ops.relu(X, device="emulator"))
    assert fake.shared_on == [(1, 1001), (1, 1001)]  # x, out
    assert fake.launched_on == [(1, 1001)]
    ops.relu(FakeTensor(X, 1), stream=64)
    assert fake.launched_on[-1] == fake.shared_on[-1] == fake.given_back_on[-1] == (1, 64)


def test_streams_are_restored_after_an_error(fake: Log) -> None:
    with pytest.raises(ValueError, match="rank 4"):
        ops.maxpool2x2(FakeTensor(X[0], 1))
    with pytest.raises(TypeError, match="relu: stream: expected a stream"):
        ops.relu(FakeTensor(X, 1), stream="default")
    assert (fake.streams, fake.device) == ([0], 0)


def test_current_stream_is_not_entered_again(fake: Log) -> None:
    with Stream(1000):
        ops.relu(FakeTensor(X))
        assert fake.streams == [0, 1000]
    assert fake.launched_on == [(0, 1000)]


def test_bfloat16_tensors_on_a_gpu(fake: Log) -> None:
    x = draw((2, 40), "bfloat16")
    y = ops.relu(FakeTensor(x.view(np.int16), 0, "bfloat16"))
    assert y.dtype == "torch.bfloat16"
    assert same(y.array, ops.relu(x, device="emulator"))


def test_model_computes_on_pytorch_stream(fake: Log) -> None:
    pixels = draw((2, 32, 32, 3), "uint8")
    y = VGG(load_weights("digits"), device="cuda:1")(FakeTensor(pixels, 1))
    assert isinstance(y, FakeTensor)
    assert set(fake.launched_on) == {(1, 1001)}
    assert fake.shared_on == fake.given_back_on == [(1, 1001)]


def test_adaptive_pools(log: Log) -> None:
    for op, grid in ((ops.avgpool, 7), (ops.adaptive_maxpool, 1), (ops.adaptive_maxpool, 9)):
        y = op(on(0, X), grid)
        assert isinstance(y, ndarray)
        assert same(y, op(X, grid, device="emulator"))


def test_any_layout(log: Log) -> None:
    expected = ops.relu(X, device="emulator")
    assert same(ops.relu(on(0, np.repeat(X, 2, axis=1))[:, ::2]), expected)
    assert ops.conv3x3(on(0, X[:0]), W, pool=True).shape == (0, 3, 3, 8)


def test_cuda_array_interface_alone(log: Log) -> None:
    class Bare:
        def __init__(self, array: Any) -> None:
            self.array, self.shape, self.dtype = array, array.shape, array.dtype
            self.__cuda_array_interface__ = array.__cuda_array_interface__
            self.__array_interface__ = array.__array_interface__  # the fake's asarray reads it

    y = ops.relu(Bare(on(0, X)))
    assert isinstance(y, ndarray)
    assert same(y, ops.relu(X, device="emulator"))


def test_model_on_a_gpu(log: Log) -> None:
    weights = load_weights("digits")
    pixels = draw((3, 32, 32, 3), "uint8")
    x = weights.preset.normalize(pixels)
    model = VGG(weights, device="cuda:1")
    assert (model.device, model.dtype) == ("cuda:1", "float16")
    emulated = VGG(weights, device="emulator", arch="sm_86")
    expected = emulated(pixels)
    assert type(model(pixels)) is np.ndarray
    assert same(model(pixels), expected)
    before = log.synchronized
    y = model(on(1, pixels))
    assert isinstance(y, ndarray)
    assert y.gpu == 1
    assert same(y, expected)
    assert same(model(on(1, x)), emulated(x))
    with recording() as launched:
        nchw = model(on(1, np.ascontiguousarray(x.transpose(0, 3, 1, 2))), layout="NCHW")
    assert launched[0]["plan"]["op"] == "convert"
    assert same(nchw, emulated(x))
    assert log.synchronized == before
    tf32 = VGG(weights, device="cuda:1", dtype="tf32")
    emulated_tf32 = VGG(weights, device="emulator", arch="sm_86", dtype="tf32")
    nchw = np.ascontiguousarray(x.astype(np.float16).transpose(0, 3, 1, 2))
    for given in (on(1, nchw), on(1, nchw.astype(np.float32))):
        y = tf32(given, layout="NCHW")
        assert isinstance(y, ndarray)
        assert same(y, emulated_tf32(np.array(given.view(np.ndarray)), layout="NCHW"))
    with pytest.raises(TypeError, match="the model is on emulator"):
        emulated(on(0, x))
    assert VGG(weights).device == "cuda:0"  # "auto"


def test_input_layers_run_on_the_gpu_of_x(log: Log) -> None:
    own = Normalization((0.5, 1.0, 2.0), (0.1, -0.2, 0.3), reverse=True)
    weights = replace(load_weights("digits"), normalization=own)
    model, emulated = (VGG(weights, device=d, arch=a) for d, a in DEVICES)
    for dtype in ("float32", "float16"):
        x = draw((3, 32, 32, 3), dtype)
        expected = emulated(x)
        for given, layout in ((x, "NHWC"), (np.ascontiguousarray(x.transpose(0, 3, 1, 2)), "NCHW")):
            before = log.synchronized
            y = model(on(1, given), layout=layout)
            assert (type(y), y.gpu, log.synchronized) == (ndarray, 1, before)
            assert same(y, expected)
            assert same(model(given, layout=layout), expected)
