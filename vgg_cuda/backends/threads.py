"""Who computes on the CPU: BLAS's own threads, or one worker a core with BLAS held to one thread.

BLAS threads suit one large product; workers suit many blocks, whose copies and transforms then
run in parallel, too. The limit on BLAS is a setting of the whole process, so calls that overlap
share it and the last one to leave restores it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

T = TypeVar("T")


@cache
def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def blas_libraries() -> list[dict[str, Any]]:
    """The BLAS libraries in this process, as threadpoolctl describes them."""
    return [library for library in _controller().info() if library["user_api"] == "blas"]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), thread_name_prefix="vgg_cuda")


_lock = threading.Lock()
_holders = 0
_limit: Any = None


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Holds BLAS to one thread while any caller is inside."""
    global _holders, _limit
    with _lock:
        if _holders == 0:
            _limit = _controller().limit(limits=1, user_api="blas")
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _limit.restore_original_limits()
                _limit = None


def run_blocks(job: Callable[[T], None], blocks: Iterable[T], *, workers: bool) -> None:
    """Runs ``job`` on every block: in order here, or on one worker a core."""
    if not workers:
        for block in blocks:
            job(block)
        return
    with one_blas_thread():
        # list() raises what a job raised
        list(_pool().map(job, blocks))
