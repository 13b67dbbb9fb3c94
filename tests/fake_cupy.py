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
        self.synchronized = 0
        self.free, self.pooled = 10**12, 0


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

    def __enter__(self) -> Stream:
        LOG.streams.append(self.ptr)
        return self

    def __exit__(self, *_: object) -> None:
        LOG.streams.pop()

    def record(self) -> None:
        pass

    def wait_event(self, event: None) -> None:
        pass


def asarray(x: Any, dtype: Any = None) -> Any:
    return np.array(x, dtype).view(ndarray) if not isinstance(x, ndarray) else x


def asnumpy(x: Any) -> np.ndarray:
    LOG.synchronized += 1
    return np.array(x.view(np.ndarray))


def module() -> ModuleType:
    cupy: Any = ModuleType("cupy")
    cupy.__version__ = "14.2.0"
    cupy.ndarray, cupy.asarray, cupy.asnumpy = ndarray, asarray, asnumpy
    cupy.ascontiguousarray = lambda x, dtype=None: np.array(x, dtype, order="C").view(ndarray) if (
        not x.flags.c_contiguous or (dtype is not None and x.dtype != dtype)
    ) else x  # fmt: skip
    cupy.empty = lambda shape, dtype: np.empty(shape, dtype).view(ndarray)
    cupy.get_default_memory_pool = lambda: SimpleNamespace(
        free_bytes=lambda: LOG.pooled, used_bytes=lambda: 0, get_limit=lambda: 0
    )
    cupy.cuda = SimpleNamespace(
        Device=Device,
        Stream=Stream,
        get_current_stream=lambda: Stream(LOG.streams[-1]),
        runtime=SimpleNamespace(memGetInfo=lambda: (LOG.free, LOG.free)),
    )
    return cupy


@contextmanager
def fake_gpus(patch: pytest.MonkeyPatch, *capabilities: tuple[int, int]) -> Iterator[Log]:
    """GPUs of those compute capabilities, and what is asked of them."""

    def executor(stream: int) -> Any:
        LOG.launched_on.append((LOG.device, stream))
        return _C.Emulator()

    LOG.__init__()  # type: ignore[misc]
    devices = [
        {"index": i, "name": f"GPU {i}", "compute_capability": c, "sm_count": 20}
        for i, c in enumerate(capabilities)
    ]
    info = {"available": True, "reason": None, "driver": "13.0", "devices": devices}
    patch.setitem(sys.modules, "cupy", module())
    patch.setattr(_C, "device_info", lambda: info)
    patch.setattr(_C, "Cuda", executor)
    backends._cuda.cache_clear()
    try:
        yield LOG
    finally:
        backends._cuda.cache_clear()
