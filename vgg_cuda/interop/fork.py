"""Locks that forked children find unlocked."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def fork_lock() -> Any:
    """Return a reentrant lock; a thread of the parent may hold it at a fork."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def _reset_locks() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # as the standard library's modules do


os.register_at_fork(after_in_child=_reset_locks)
