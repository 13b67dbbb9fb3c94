"""A fake of CuPy in host memory, to test the CUDA backend's logic without a GPU.

The fake has the parts of CuPy that the backend uses. Its arrays are NumPy arrays, and launches run
on the emulator, unless the test plants a refusal or a lost GPU. tests/gpu/test_ops.py tests real
CuPy on a GPU.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vgg_cuda import _C, backends
from vgg_cuda.backends import families
from vgg_cuda.backends import verdicts as selftest
from vgg_cuda.backends.verdicts import Verdict
from vgg_cuda.system import notices

OPS = (
    "conv3x3", "fused_conv1_block", "linear", "maxpool2x2", "avgpool", "adaptive_maxpool", "relu",
    "affine", "softmax", "convert",
)  # fmt: skip
TESTED = dict.fromkeys(("portable", *_C.families()), Verdict("ok"))


class ndarray(np.ndarray):  # noqa: N801 (CuPy's name)
    """An array "on a GPU", which NumPy's functions refuse like CuPy's arrays."""

    __module__ = "cupy"
    gpu = 0

    def __new__(cls, shape: Any, dtype: Any, memptr: MemoryPointer) -> ndarray:
        return np.ndarray.__new__(cls, shape, dtype, memptr.array.view(np.ndarray), memptr.offset)

    @property
    def data(self) -> Any:
        return MemoryPointer(self)

    @property
    def device(self) -> Any:
        return Device(self.gpu)

    def set(self, host: np.ndarray) -> None:
        check_not_lost()
        assert type(host) is np.ndarray
        assert host.flags.c_contiguous
        np.copyto(self.view(np.ndarray), host, casting="no")

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.__array_interface__, "version": 3}

    def __array_finalize__(self, source: Any) -> None:
        self.gpu = getattr(source, "gpu", LOG.device)


class MemoryPointer:
    """A pointer into an array of bytes; adding an integer moves it."""

    def __init__(self, array: ndarray, offset: int = 0) -> None:
        self.array, self.offset = array, offset
        self.ptr = array.__array_interface__["data"][0] + offset

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.array, self.offset + offset)


class Log:
    """A record of the calls to the fake."""

    def __init__(self) -> None:
        self.device = 0
        self.streams = [0]
        self.launched_on: list[tuple[int, int]] = []
        self.early: list[bool] = []
        self.shared_on: list[tuple[int, int]] = []
        self.waited_for: list[int] = []
        self.given_back_on: list[tuple[int, int]] = []
        self.descriptions = 0
        self.synchronized = 0
        self.free, self.pooled, self.limit = 10**12, 0, 0
        self.asked_driver = 0
        self.pool = Pool(self)
        self.allocator: Any = self.pool.malloc
        self.allocates = True
        self.capacity = 10**12
        self.memory = Memory()
        self.capturing: list[Callable[[], None]] | None = None
        self.capturing_on = 0
        self.graphs_launched_on: list[tuple[int, int]] = []
        self.refuses: Callable[[_C.Plan], bool] = lambda plan: False
        self.refused: list[str] = []
        self.lost = False


class Memory:
    """The allocated bytes of one test; arrays of earlier tests count in their own record."""

    def __init__(self) -> None:
        self.used = self.most_used = 0

    def count(self, nbytes: int) -> None:
        self.used += nbytes
        self.most_used = max(self.most_used, self.used)


class Pool:
    """CuPy's default memory pool; ``malloc`` serves only as the allocator's identity."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def malloc(self, size: int) -> None: ...

    def free_bytes(self) -> int:
        return self.log.pooled

    def used_bytes(self) -> int:
        return 0

    def get_limit(self) -> int:
        return self.log.limit


class OutOfMemoryError(MemoryError):
    """CuPy's error of the same name."""


class CUDARuntimeError(RuntimeError):
    """CuPy's error of the same name."""

    __module__ = "cupy_backends.cuda.api.runtime"
    status = 700

    def __init__(self) -> None:
        super().__init__(ILLEGAL_ADDRESS)


ILLEGAL_ADDRESS = "cudaErrorIllegalAddress: an illegal memory access was encountered"


def check_not_lost() -> None:
    if LOG.lost:
        raise CUDARuntimeError


LOG = Log()


class Device:
    def __init__(self, index: int) -> None:
        self.id = index

    def __enter__(self) -> Device:
        self._outer, LOG.device = LOG.device, self.id
        return self

    def __exit__(self, *_: object) -> None:
        LOG.device = self._outer

    def synchronize(self) -> None:
        check_not_lost()
        assert LOG.capturing is None, "wait in a capture"
        LOG.synchronized += 1


class Stream:
    """A stream; ``with`` makes it the current one."""

    __module__ = "cupy.cuda.stream"

    def __init__(self, ptr: int = 0, *, non_blocking: bool = False) -> None:
        self.ptr = 2048 if non_blocking else ptr

    def synchronize(self) -> None:
        assert LOG.capturing is None, "wait in a capture"
        LOG.synchronized += 1

    def begin_capture(self) -> None:
        assert self.ptr
        assert LOG.streams[-1] == self.ptr
        LOG.capturing, LOG.capturing_on = [], self.ptr

    def is_capturing(self) -> bool:
        assert self.ptr not in (0, 1), "CUDA may refuse to answer for the legacy stream"
        return LOG.capturing is not None and LOG.capturing_on == self.ptr

    def end_capture(self) -> Graph:
        launches, LOG.capturing = LOG.capturing, None
        assert launches is not None
        return Graph(launches)

    @classmethod
    def from_external(cls, stream: Any) -> Stream:
        return cls(stream.__cuda_stream__()[1])

    null: Any = None

    def __enter__(self) -> Stream:
        LOG.streams.append(self.ptr)
        return self

    def __exit__(self, *_: object) -> None:
        LOG.streams.pop()

    def record(self) -> None:
        pass

    def wait_event(self, event: None) -> None:
        pass


Stream.null = Stream(0)


class Graph:
    """A graph that repeats the launches of its capture."""

    def __init__(self, launches: list[Callable[[], None]]) -> None:
        self.launches = launches

    def launch(self) -> None:
        check_not_lost()
        LOG.graphs_launched_on.append((LOG.device, LOG.streams[-1]))
        for launch in self.launches:
            launch()


def enqueued(op: str) -> Callable[..., None]:
    """Return function ``op`` of the extension, as on a GPU.

    During a capture it is recorded instead of called. If ``LOG.refuses`` its plan, launches before
    the refused one write to the output and the workspace.
    """
    function = getattr(_C, op)

    def run(plan: _C.Plan, *arguments: Any, **options: Any) -> None:
        if LOG.lost:
            raise _C.DeviceLost(
                f"{plan.kernel}: not launched, because earlier work failed: {ILLEGAL_ADDRESS}"
            )
        if LOG.refuses(plan):
            LOG.refused.append(plan.kernel)
            written = arguments[-2:-1] if op == "fused_conv1_block" else arguments[3:5]
            for array in written if LOG.capturing is None else ():
                if array is not None:
                    array.view(np.ndarray)[...] = 77
            raise _C.LaunchRefused(f"{plan.kernel}: cudaErrorInvalidValue: invalid argument")
        launch = partial(function, plan, *arguments, **options)
        launch() if LOG.capturing is None else LOG.capturing.append(launch)

    return run


def allocate(shape: Any, dtype: Any) -> ndarray:
    """Allocate within the GPU's ``capacity``, until the last array in the memory is gone."""
    check_not_lost()
    array: np.ndarray = np.empty(shape, dtype)
    if not LOG.allocates or LOG.memory.used + array.nbytes > LOG.capacity:
        raise OutOfMemoryError("Out of memory allocating")
    assert LOG.capturing is None, "allocation in a capture"
    LOG.memory.count(array.nbytes)
    weakref.finalize(array, LOG.memory.count, -array.nbytes).atexit = False
    return array.view(ndarray)


def asarray(x: Any, dtype: Any = None) -> Any:
    if isinstance(x, ndarray):
        return x
    stream = getattr(x, "__cuda_array_interface__", {}).get("stream")
    if stream is not None:  # required by version 3 of the protocol
        LOG.waited_for.append(stream)
    source = np.asarray(x, dtype)
    array = allocate(source.shape, source.dtype)
    array.view(np.ndarray)[...] = source
    return array


def asnumpy(x: Any) -> np.ndarray:
    check_not_lost()
    assert LOG.capturing is None, "wait in a capture"
    LOG.synchronized += 1
    return np.array(x.view(np.ndarray))


def mem_get_info() -> tuple[int, int]:
    LOG.asked_driver += 1
    free = min(LOG.free, LOG.capacity - LOG.memory.used)
    return free, free


def from_dlpack(x: Any) -> Any:
    """Share a FakeTensor, and record the stream on which it is shared."""
    LOG.shared_on.append((LOG.device, LOG.streams[-1]))
    array = x.array.view(ndarray)
    array.gpu = x.device.index
    return array


class FakeTensor:
    """A ``torch.Tensor`` on a GPU, with the parts that the backend uses."""

    is_cuda = True
    requires_grad = False

    def __init__(self, array: Any, index: int = 0, dtype: str = "") -> None:
        self.array, self.shape = np.asarray(array), array.shape
        self.dtype = f"torch.{dtype or self.array.dtype.name}"
        self.device = SimpleNamespace(type="cuda", index=index)

    def __dlpack__(self, **_: Any) -> None:
        raise AssertionError("only the fake's from_dlpack reads it")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device.index

    def view(self, dtype: Any) -> FakeTensor:
        if dtype == "bfloat16":
            return FakeTensor(self.array, self.device.index, dtype)
        return FakeTensor(self.array.view(dtype), self.device.index)


FakeTensor.__module__ = "torch"


class FakeJaxArray:
    """A JAX array on a GPU, with the parts that the backend uses; ``device_type`` is DLPack's."""

    __module__ = "jaxlib._jax"

    def __init__(self, array: Any, index: int = 0, device_type: int = 2) -> None:
        self.array, self.shape, self.dtype = np.asarray(array), array.shape, array.dtype
        self.device, self.device_type = SimpleNamespace(index=index), device_type

    def __dlpack__(self, **_: Any) -> None:
        raise AssertionError("only the fake's from_dlpack reads it")

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device_type, self.device.index

    def __array_namespace__(self) -> Any:
        def give_back(y: Any) -> FakeJaxArray:
            LOG.given_back_on.append((LOG.device, LOG.streams[-1]))
            return FakeJaxArray(y.view(np.ndarray), y.gpu)

        return SimpleNamespace(from_dlpack=give_back, __name__="jax.numpy")


def fake_torch() -> ModuleType:
    """Return a fake torch: GPU i's stream is 1000 + i, and ``from_dlpack`` records its own."""
    torch: Any = ModuleType("torch")
    torch.int16, torch.bfloat16 = np.int16, "bfloat16"

    def give_back(y: Any) -> FakeTensor:
        LOG.given_back_on.append((LOG.device, LOG.streams[-1]))
        return FakeTensor(y.view(np.ndarray), y.gpu)

    def current_stream(device: Any) -> Any:
        return SimpleNamespace(cuda_stream=1000 + device.index)

    torch.from_dlpack = give_back
    torch.cuda = SimpleNamespace(current_stream=current_stream)
    return torch


def module() -> ModuleType:
    cupy: Any = ModuleType("cupy")
    cupy.__version__ = "14.2.0"
    cupy.ndarray, cupy.asarray, cupy.asnumpy = ndarray, asarray, asnumpy
    cupy.ascontiguousarray = lambda x, dtype=None: np.array(x, dtype, order="C").view(ndarray) if (
        not x.flags.c_contiguous or (dtype is not None and x.dtype != dtype)
    ) else x  # fmt: skip
    cupy.empty, cupy.from_dlpack = allocate, from_dlpack
    cupy.get_default_memory_pool = lambda: LOG.pool
    cupy.cuda = SimpleNamespace(
        Device=Device,
        Stream=Stream,
        get_current_stream=lambda: Stream(LOG.streams[-1]),
        get_allocator=lambda: LOG.allocator,
        runtime=SimpleNamespace(memGetInfo=mem_get_info),
    )
    return cupy


@contextmanager
def fake_gpus(
    patch: pytest.MonkeyPatch, *capabilities: tuple[int, int], driver: str = "13.0",
    verdicts: Mapping[str, Verdict] | None = TESTED,
) -> Iterator[Log]:  # fmt: skip
    """Install fake GPUs of these compute capabilities, and yield the record of calls.

    ``verdicts`` of the self-test apply to every GPU; None if it has not run.
    """

    def executor(stream: int, early: bool = False, dry: bool = False) -> Any:
        LOG.launched_on.append((LOG.device, stream))
        LOG.early.append(early)
        return _C.Emulator(dry=dry)

    def device_info() -> Any:
        LOG.descriptions += 1
        return info

    LOG.__init__()  # type: ignore[misc]
    devices = [
        {
            "index": i,
            "name": f"GPU {i}",
            "compute_capability": c,
            "sm_count": 20,
            "memory_bytes": 2**34,
        }
        for i, c in enumerate(capabilities)
    ]
    info = {"available": True, "reason": None, "driver": driver, "devices": devices}
    patch.setitem(sys.modules, "cupy", module())
    patch.setattr(_C, "device_info", device_info)
    patch.setattr(_C, "Cuda", executor)
    for op in OPS:
        patch.setattr(_C, op, enqueued(op))
    patch.setattr(families, "read_verdicts", lambda header: verdicts)
    patch.setattr(selftest, "_driver_version", lambda: "580.65.06")  # of a file that Linux has
    _forget()
    try:
        yield LOG
    finally:
        _forget()


def _forget() -> None:
    """Forget backends, refused kernels and shown warnings of earlier tests."""
    backends._cuda.cache_clear()
    families._refusals.clear()
    notices.forget()
