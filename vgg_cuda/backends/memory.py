"""Host buffers that are used again, since fresh memory is slow: the system clears every page."""

from __future__ import annotations

import math
import os
import threading
import weakref

import numpy as np
from numpy.typing import NDArray

MAX_KEPT_BYTES = 256 << 20  # the most that idle results may hold
MAX_SCRATCH_BYTES = 32 << 20  # of one scratch buffer; ordinary blocks need less
MIN_KEPT_BYTES = 1 << 20  # the allocator itself is quick for less

_local = threading.local()


def scratch(name: str, *shape: int) -> NDArray[np.float32]:
    """This thread's float32 buffer called ``name``, at least this large, reused between calls."""
    size = math.prod(shape)
    if size * 4 > MAX_SCRATCH_BYTES:
        return np.empty(shape, np.float32)
    buffer: NDArray[np.float32] | None = _local.__dict__.get(name)
    if buffer is None or buffer.size < size:
        buffer = _local.__dict__[name] = np.empty(size, np.float32)
    return buffer[:size].reshape(shape)


_lock = threading.RLock()
# By id, oldest first. The garbage collector may run `_give_back` at any point inside `empty`, in
# the very thread that holds the lock, so that nothing there relies on the order staying the same.
_idle: dict[int, NDArray[np.float32]] = {}


def empty(*shape: int) -> NDArray[np.float32]:
    """An uninitialised float32 array whose memory is used again once nothing refers to it."""
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
    weakref.finalize(lease, _give_back, buffer).atexit = False
    array: NDArray[np.float32] = np.asarray(lease)
    return array


class _Lease:
    """What an array made from it, and every view of that, keeps alive."""

    def __init__(self, array: NDArray[np.float32]) -> None:
        self.__array_interface__ = array.__array_interface__


def _give_back(buffer: NDArray[np.float32]) -> None:
    with _lock:
        _idle[id(buffer)] = buffer
        while sum(kept.nbytes for kept in list(_idle.values())) > MAX_KEPT_BYTES:
            _idle.pop(next(iter(_idle)))


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


# Another thread of the parent may have held it
os.register_at_fork(after_in_child=_renew_lock)
