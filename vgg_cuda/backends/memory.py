"""Reused host buffers; fresh memory is slow because the system clears every page."""

from __future__ import annotations

import math
import os
import threading
import weakref

import numpy as np
from numpy.typing import NDArray

MAX_KEPT_BYTES = 256 << 20  # of idle results
MAX_SCRATCH_BYTES = 32 << 20  # of one scratch buffer; blocks usually need less
MIN_KEPT_BYTES = 1 << 20  # for smaller arrays the allocator is fast

_local = threading.local()


def scratch(name: str, *shape: int) -> NDArray[np.float32]:
    """Return this thread's float32 buffer ``name`` as an array of ``shape``; calls reuse it."""
    size = math.prod(shape)
    if size * 4 > MAX_SCRATCH_BYTES:
        return np.empty(shape, np.float32)
    buffer: NDArray[np.float32] | None = _local.__dict__.get(name)
    if buffer is None or buffer.size < size:
        buffer = _local.__dict__[name] = np.empty(size, np.float32)
    return buffer[:size].reshape(shape)


_lock = threading.RLock()
# By id, oldest first. The garbage collector may run `_release` at any point inside `empty`, in the
# thread that holds the lock, so `empty` must not rely on a stable order.
_idle: dict[int, NDArray[np.float32]] = {}


def empty(*shape: int) -> NDArray[np.float32]:
    """Return an uninitialised float32 array whose memory is reused after its last reference."""
    size = math.prod(shape)
    if size * 4 < MIN_KEPT_BYTES:
        return np.empty(shape, np.float32)
    with _lock:
        fits = [kept for kept in list(_idle.values()) if size <= kept.size <= 2 * size]
        best = min(fits, key=lambda kept: kept.size, default=None)
        buffer = None if best is None else _idle.pop(id(best), None)
    if buffer is None:
        buffer = np.empty(size, np.float32)
    lease = _Lease(buffer[:size].reshape(shape))
    weakref.finalize(lease, _release, buffer).atexit = False
    array: NDArray[np.float32] = np.asarray(lease)
    return array


class _Lease:
    """Base object of an array, kept alive by the array and all its views."""

    def __init__(self, array: NDArray[np.float32]) -> None:
        self.__array_interface__ = array.__array_interface__


def _release(buffer: NDArray[np.float32]) -> None:
    with _lock:
        _idle[id(buffer)] = buffer
        while sum(kept.nbytes for kept in list(_idle.values())) > MAX_KEPT_BYTES:
            _idle.pop(next(iter(_idle)))


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


# Another thread of the parent may hold the lock during a fork
os.register_at_fork(after_in_child=_renew_lock)
