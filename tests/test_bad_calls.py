"""What operations refuse, and what they say: arrays, shapes, devices, streams, memory."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from kernel_reference import draw as draw_in

from vgg_cuda import ops
from vgg_cuda.arrays import unwrap, unwrap_out
from vgg_cuda.backends import DeviceError, cuda, get_backend, kernels, why_missing
from vgg_cuda.backends.cuda import CudaBackend

MISSING = why_missing("emulator")
NEEDS_EMULATOR = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.fixture(params=["cpu", pytest.param("emulator", marks=NEEDS_EMULATOR)])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return draw_in(shape, "float32", seed=seed)


X = draw(2, 6, 4, 8)
W, BIAS = draw(5, 3, 3, 8, seed=1), draw(5, seed=2)

Op = Callable[..., Any]
OPS: dict[str, tuple[Op, Any]] = {
    "conv3x3": (lambda x, **k: ops.conv3x3(x, W, BIAS, relu=True, **k), X),
    "pooled": (lambda x, **k: ops.conv3x3(x, W, BIAS, pool=True, **k), X),
    "linear": (lambda x, **k: ops.linear(x, draw(5, 7, seed=1), BIAS, **k), draw(3, 7)),
    "maxpool2x2": (ops.maxpool2x2, X),
    "avgpool": (lambda x, **k: ops.avgpool(x, 3, **k), X),
    "relu": (ops.relu, X),
    "softmax": (ops.softmax, draw(3, 7)),
    "convert": (lambda x, **k: ops.convert(x, source="NHWC", target="NCHW", **k), X),
}


@pytest.fixture(params=list(OPS))
def op(request: pytest.FixtureRequest) -> tuple[Op, Any]:
    return OPS[request.param]


# ---- Arrays, shapes, devices ----


class OnGpuElsewhere:
    """Numba's arrays and hand-made ones: __cuda_array_interface__ and no DLPack."""

    shape, dtype = (2, 3), np.dtype(np.float32)

    def __init__(self, **interface: Any) -> None:
        self.__cuda_array_interface__ = {
            **{"shape": self.shape, "typestr": "<f4", "data": (4096, False), "version": 3},
            **interface,
        }


def test_bad_arrays(device: str, op: tuple[Op, Any]) -> None:
    call, x = op

    def refused(x: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            call(x, device=device)

    refused(x.tolist(), TypeError, "x: expected an array .*got list")
    refused(None, TypeError, "x: expected an array .*got NoneType")
    refused(np.ma.masked_array(x), TypeError, "x: expected an array without a mask")
    refused(x.astype(np.int32), TypeError, "floating-point.*int32")
    refused(x.astype(np.complex64), TypeError, "floating-point.*complex64")
    refused(torch.from_numpy(x).requires_grad_(), TypeError, r"detach\(\)")
    if call not in (ops.relu,):
        refused(x[0], ValueError, "rank")


def test_float64(device: str) -> None:
    with pytest.raises(TypeError, match=f"x: expected dtype float.* on {device}, got float64"):
        ops.relu(X.astype(np.float64), device=device)


@NEEDS_EMULATOR
def test_only_images_have_another_dtype_than_the_result() -> None:
    with pytest.raises(TypeError, match="dtype: expected x's, float32, since x is not 3 channels"):
        ops.conv3x3(X, W, dtype="float16", device="emulator")
    y = ops.conv3x3(X[..., :3], W[..., :3], dtype="float16", device="emulator")
    assert y.dtype == np.float16


def test_float64_weights_are_welcome(device: str) -> None:
    y = ops.conv3x3(X, W.astype(np.float64), BIAS.astype(np.float64), relu=True, device=device)
    np.testing.assert_array_equal(y, OPS["conv3x3"][0](X, device=device))
    y = ops.conv3x3(X, torch.from_numpy(W), torch.from_numpy(BIAS), relu=True, device=device)
    np.testing.assert_array_equal(y, OPS["conv3x3"][0](X, device=device))


BAD_SHAPES = [
    (lambda **k: ops.conv3x3(X, draw(64, 3, 3, 4), **k), r"w: expected \[64, 3, 3, 8\] \(KRSC\)"),
    (lambda **k: ops.conv3x3(X, draw(4, 5, 5, 8), **k), r"w: expected \[4, 3, 3, 8\] \(KRSC\)"),
    (lambda **k: ops.conv3x3(X, draw(0, 3, 3, 8), **k), "w: expected"),
    (lambda **k: ops.conv3x3(X, W, draw(4), **k), r"bias: expected \[5\]"),
    (lambda **k: ops.conv3x3(X[:, :1], W, pool=True, **k), "H, W >= 2"),
    (lambda **k: ops.conv3x3(X[:, :0], W, **k), "H, W >= 1"),
    (lambda **k: ops.maxpool2x2(X[:, :, :1], **k), "H, W >= 2"),
    (lambda **k: ops.avgpool(X, 0, **k), "grid: expected an integer >= 1, got 0"),
    (lambda **k: ops.linear(draw(1, 4), draw(3, 5), **k), r"w: expected \[K, 4\]"),
    (lambda **k: ops.linear(draw(1, 4), draw(3, 4), draw(2), **k), r"bias: expected \[3\]"),
    (lambda **k: ops.softmax(draw(1, 0), **k), "C >= 1"),
]


@pytest.mark.parametrize(("call", "text"), BAD_SHAPES)
def test_bad_shapes(device: str, call: Op, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call(device=device)


def test_bad_devices() -> None:
    with pytest.raises(ValueError, match=r'relu: unknown device .tpu.: expected "auto".*"emulat'):
        ops.relu(X, device="tpu")
    with pytest.raises(ValueError, match="arch 'sm_80': the cpu runs no kernels of GPUs"):
        ops.relu(X, arch="sm_80")
    with pytest.raises(ValueError, match="stream: the cpu has none"):
        ops.relu(X, stream=0)
    np.testing.assert_array_equal(ops.relu(X, device="auto"), np.maximum(X, 0))
    if why_missing("cuda") is None:
        with pytest.raises(ValueError, match=r"x: is in host memory.*cupy.asarray"):
            ops.relu(X, device="cuda")
    else:
        with pytest.raises(DeviceError, match="'cuda' is not available"):
            ops.relu(X, device="cuda")


@NEEDS_EMULATOR
def test_bad_arguments_of_the_emulator() -> None:
    with pytest.raises(ValueError, match=r"relu: .*sm_80.*'sm_75'"):
        ops.relu(X, device="emulator", arch="sm_75")
    with pytest.raises(ValueError, match="stream: the emulator has none"):
        ops.relu(X, device="emulator", stream=0)
    with pytest.raises(ValueError, match="schedule: expected one of forward, reverse"):
        ops.emulator_options(schedule="backwards").__enter__()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="workers: expected an integer >= 0"):
        ops.emulator_options(workers=-1).__enter__()
    with ops.emulator_options(schedule="random", seed=3), ops.emulator_options(lazy=False) as inner:
        assert (inner.schedule, inner.seed, inner.lazy) == ("random", 3, False)


def test_a_build_without_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    from vgg_cuda import _C

    monkeypatch.setattr(_C, "built_with_emulator", lambda: False)
    for how in ("pip install . -C cmake.define.VGG_CUDA_EMULATOR=ON", "make dev"):
        assert how in str(why_missing("emulator"))
        with pytest.raises(DeviceError, match="'emulator' is not available: ") as caught:
            ops.relu(X, device="emulator")
        assert how in str(caught.value)


# ---- Memory ----


@NEEDS_EMULATOR
def test_a_result_that_memory_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = get_backend("emulator")
    monkeypatch.setattr(type(backend), "free_bytes", lambda self, needed: 4_100_000_000)
    x = np.broadcast_to(np.zeros((1, 1, 1, 1), np.float16), (300, 224, 224, 1))
    x = x.copy()
    expected = (
        r"conv3x3: needs 12\.3 GB for its result \[300, 224, 224, 408\] of float16, "
        r"4\.1 GB are free on emulator; smaller batches need less"
    )
    with pytest.raises(MemoryError, match=expected):
        ops.conv3x3(x, draw(408, 3, 3, 1), device="emulator")
    assert ops.relu(X, device="emulator").shape == X.shape  # what fits runs
    monkeypatch.setattr(type(backend), "free_bytes", lambda self, needed: 20)
    with pytest.raises(MemoryError, match=r"softmax: needs 84 bytes for its result \[3, 7\]"):
        ops.softmax(draw(3, 7), device="emulator")


def test_what_the_host_has_free() -> None:
    if MISSING is None:
        backend: Any = get_backend("emulator")
        assert backend.free_bytes(1) is None
        assert backend.free_bytes(1 << 30) > 1 << 20


class FakeCupy:
    """As much of CuPy as CudaBackend.free_bytes asks."""

    def __init__(self, pooled: int, used: int, limit: int, free: int) -> None:
        self.asked = 0

        def mem_get_info() -> tuple[int, int]:
            self.asked += 1
            return free, 10 * free

        self.cuda = SimpleNamespace(runtime=SimpleNamespace(memGetInfo=mem_get_info))
        self.get_default_memory_pool = lambda: SimpleNamespace(
            free_bytes=lambda: pooled, used_bytes=lambda: used, get_limit=lambda: limit
        )


def test_what_a_gpu_has_free() -> None:
    backend = CudaBackend.__new__(CudaBackend)
    fake = backend._cupy = FakeCupy(pooled=100, used=50, limit=0, free=1000)
    assert backend.free_bytes(100) is None
    assert fake.asked == 0  # the pool has it: the driver is left alone
    assert backend.free_bytes(101) == 1100
    backend._cupy = FakeCupy(pooled=100, used=50, limit=400, free=1000)
    assert backend.free_bytes(101) == 350


def test_sizes_in_messages() -> None:
    assert [kernels._gb(n) for n in (12, 3_400_000, 12_345_678_901)] == [
        "12 bytes", "3.4 MB", "12.3 GB",
    ]  # fmt: skip


# ---- What needs CuPy, as far as it can be told without ----


@pytest.mark.skipif(why_missing("cuda") is None, reason="there is a GPU")
def test_a_cuda_array_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(TypeError, match="relu: x: got an array on a CUDA device; that needs CuPy"):
        ops.relu(OnGpuElsewhere())


def test_cuda_array_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    fake = type(sys)("cupy")
    fake.asarray = lambda x: ("shared", x)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", fake)
    x = OnGpuElsewhere()
    shared, restore = unwrap(x, "x")
    assert shared == ("shared", x)
    assert restore(7) == 7  # as CuPy's
    with pytest.raises(TypeError, match="without a mask"):
        unwrap(OnGpuElsewhere(mask=x), "x")


@pytest.mark.parametrize(
    ("stream", "address"),
    [
        (5, 5),
        (SimpleNamespace(ptr=6), 6),
        (SimpleNamespace(cuda_stream=7), 7),
        (SimpleNamespace(__cuda_stream__=lambda: (0, 8)), 8),
        (SimpleNamespace(__cuda_stream__=(0, 9), ptr=1), 9),
    ],
)
def test_streams(stream: Any, address: int) -> None:
    assert cuda._stream_address(stream) == address


@pytest.mark.parametrize("stream", ["0", True, object(), 1.0])
def test_what_is_no_stream(stream: Any) -> None:
    with pytest.raises(TypeError, match="stream: expected a stream of CuPy or PyTorch"):
        cuda._stream_address(stream)


def test_arch_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    device = {"name": "A100", "compute_capability": (8, 0), "sm_count": 108}
    monkeypatch.setattr(cuda._C, "device_info", lambda: {"devices": [device]})
    assert cuda._arch_of(0, None).name == "sm_80"
    assert cuda._arch_of(0, "sm_80").sm_count == 108
    with pytest.raises(ValueError, match=r"arch 'sm_90': A100 is sm_80 and cannot run it.*sm_80"):
        cuda._arch_of(0, "sm_90")


def test_out_of_an_older_dlpack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 1.0 it could not say that memory is writable, and NumPy assumes that it is not."""
    tensor = torch.zeros(3)

    def read_only(x: Any) -> np.ndarray:
        array = x.numpy()
        array.flags.writeable = False
        return array

    monkeypatch.setattr(np, "from_dlpack", read_only)
    shared = unwrap_out(tensor, tensor, "out")
    shared[...] = 7
    assert tensor.tolist() == [7, 7, 7]
