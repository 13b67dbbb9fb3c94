"""One worker a core on the CPU, each with BLAS held to one thread.

BLAS's own threads would share a product but leave the copies and transforms around it to one core,
and they spin for a while after each product, in the way of everyone else.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
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


class _BlasLimit:
    """Holds BLAS to one thread while anybody asks for it.

    For most BLAS libraries the limit is one of the whole process, so callers that overlap share
    it and the last one to leave lifts it. threadpoolctl lets only the thread that sets a limit
    change it, hence a thread for that alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vgg_cuda_blas")
        self._holders = 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._holders == 0:
                limit = self._thread.submit(_controller().limit, limits=1, user_api="blas")
                self._limit = limit.result()
            self._holders += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._thread.submit(self._limit.restore_original_limits).result()


def _limit_this_thread() -> None:
    # BLAS on OpenMP has a limit per thread, which the process-wide one does not reach
    _controller().select(threading_layer="openmp").limit(limits=1)


def _start() -> tuple[_BlasLimit, ThreadPoolExecutor]:
    """The limit and the workers; no thread starts before there is work."""
    return _BlasLimit(), ThreadPoolExecutor(cores(), "vgg_cuda", initializer=_limit_this_thread)


_blas_limit, _pool = _start()


def one_blas_thread() -> contextlib.AbstractContextManager[None]:
    """Holds BLAS to one thread while any caller is inside."""
    return _blas_limit


def run_blocks(job: Callable[[T], None], blocks: Sequence[T]) -> None:
    """Runs ``job`` on every block, on one worker a core."""
    with one_blas_thread():
        if len(blocks) <= 1 or cores() == 1:
            for block in blocks:
                job(block)
        else:
            list(_pool.map(job, blocks))  # list() raises what a job raised


def _start_again() -> None:
    global _blas_limit, _pool
    _controller.cache_clear()
    _blas_limit, _pool = _start()


# A forked child has none of its parent's threads
os.register_at_fork(after_in_child=_start_again)
