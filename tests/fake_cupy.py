"""As much of CuPy as the CUDA backend uses, over host memory: its logic is tested with no GPU.

Arrays are NumPy's underneath; launches go to the emulator. What CuPy and a GPU really do is tested
by test_gpu_ops.py, on one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vgg_cuda import _C, backends


class ndarray(np.ndarray):  # noqa: N801 (CuPy's name)
    """An array "on a GPU"; NumPy's functions refuse it, as they do CuPy's."""

    __module__ = "cupy"
    gpu = 0

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.__array_interface__["data"][0])

    @property
    def device(self) -> Any:
        return Device(self.gpu)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.__array_interface__, "version": 3}

    def __array_finalize__(self, source: Any) -> None:
        self.gpu = getattr(source, "gpu", LOG.device)


class Log:
    """What was asked of the fake."""

    def __init__(self) -> None:
        self.device = 0
        self.streams = [0]
        self.launched_on: list[tuple[int, int]] = []
        self.shared_on: list[tuple[int, int]] = []
        self.given_back_on: list[tuple[int, int]] = []
        self.descriptions = 0
        self.synchronized = 0
        self.free, self.pooled, self.limit = 10**12, 0, 0
        self.asked_driver = 0
        self.pool = Pool(self)
        self.allocator: Any = self.pool.malloc
        self.allocates = True


class Pool:
    """CuPy's default memory pool; ``malloc`` is its allocator's identity alone."""

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
    """CuPy's."""


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
        LOG.synchronized += 1


class Stream:
    """``with`` makes it the current one."""

    __module__ = "cupy.cuda.stream"

    def __init__(self, ptr: int = 0) -> None:
        self.ptr = ptr

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


def asarray(x: Any, dtype: Any = None) -> Any:
    return np.array(x, dtype).view(ndarray) if not isinstance(x, ndarray) else x


def asnumpy(x: Any) -> np.ndarray:
    LOG.synchronized += 1
    return np.array(x.view(np.ndarray))


def empty(shape: Any, dtype: Any) -> Any:
    if not LOG.allocates:
        raise OutOfMemoryError("Out of memory allocating")
    return np.empty(shape, dtype).view(ndarray)


def mem_get_info() -> tuple[int, int]:
    LOG.asked_driver += 1
    return LOG.free, LOG.free


def from_dlpack(x: Any) -> Any:
    """Of a FakeTensor; notes where it is shared, as the real one orders streams there."""
    LOG.shared_on.append((LOG.device, LOG.streams[-1]))
    array = x.array.view(ndarray)
    array.gpu = x.device.index
    return array


class FakeTensor:
    """As much of a ``torch.Tensor`` on a GPU as is asked of one."""

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


def fake_torch() -> ModuleType:
    """Its current stream on GPU i is 1000 + i; ``from_dlpack`` notes where it is called."""
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
    cupy.empty, cupy.from_dlpack = empty, from_dlpack
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
def fake_gpus(patch: pytest.MonkeyPatch, *capabilities: tuple[int, int]) -> Iterator[Log]:
    """GPUs of those compute capabilities, and what is asked of them."""

    def executor(stream: int) -> Any:
        LOG.launched_on.append((LOG.device, stream))
        return _C.Emulator()

    def device_info() -> Any:
        LOG.descriptions += 1
        return info

    LOG.__init__()  # type: ignore[misc]
    devices = [
        {"index": i, "name": f"GPU {i}", "compute_capability": c, "sm_count": 20}
        for i, c in enumerate(capabilities)
    ]
    info = {"available": True, "reason": None, "driver": "13.0", "devices": devices}
    patch.setitem(sys.modules, "cupy", module())
    patch.setattr(_C, "device_info", device_info)
    patch.setattr(_C, "Cuda", executor)
    backends._cuda.cache_clear()
    try:
        yield LOG
    finally:
        backends._cuda.cache_clear()
