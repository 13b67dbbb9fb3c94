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

import numpy as np
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
    change it, hence a thread for that alone; all counting is done there, too, so that an
    interrupted caller cannot leave it half done.
    """

    def __init__(self, original: list[dict[str, Any]] | None = None) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vgg_cuda_blas")
        self._holders = 0
        self._here = threading.local()  # depth: how often the calling thread is inside
        # What the libraries had before the limit; given by a parent that forked while it held them
        self._inherited = original
        self.original: list[dict[str, Any]] | None = None

    def __enter__(self) -> None:
        depth = getattr(self._here, "depth", 0)
        if depth == 0:
            self._enter()
        self._here.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        self._here.depth -= 1
        if self._here.depth == 0:
            self._exit()

    def _enter(self) -> None:
        try:
            acquired = self._thread.submit(self._acquire)
        except RuntimeError:  # the interpreter is shutting down: go on without
            return
        try:
            acquired.result()
        except BaseException:
            self._thread.submit(self._release)
            raise

    def _exit(self) -> None:
        try:
            released = self._thread.submit(self._release)
        except RuntimeError:
            return
        released.result()

    def _acquire(self) -> None:
        if self._holders == 0:
            self.original = self._inherited or [
                {"filepath": library["filepath"], "num_threads": library["num_threads"]}
                for library in blas_libraries()
            ]
            self._inherited = None
            _controller().limit(limits=1, user_api="blas")
        self._holders += 1

    def _release(self) -> None:
        self._holders = max(0, self._holders - 1)
        if self._holders == 0 and self.original is not None:
            _controller().limit(limits=self.original)
            self.original = None


def _limit_this_thread() -> None:
    # BLAS on OpenMP has a limit per thread, which the process-wide one does not reach
    _controller().select(threading_layer="openmp").limit(limits=1)


def _workers() -> ThreadPoolExecutor:
    """A worker a core; no thread starts before there is work."""
    return ThreadPoolExecutor(cores(), "vgg_cuda", initializer=_limit_this_thread)


_blas_limit, _pool = _BlasLimit(), _workers()


def one_blas_thread() -> contextlib.AbstractContextManager[None]:
    """Holds BLAS to one thread while any caller is inside."""
    return _blas_limit


def run_blocks(job: Callable[[T], None], blocks: Sequence[T]) -> None:
    """Runs ``job`` on every block, on one worker a core; raises what a job raised."""

    def quietly(block: T) -> None:
        # infinite inputs give infinities and NaN, as on a GPU, and no warnings
        with np.errstate(over="ignore", invalid="ignore"):
            job(block)

    with one_blas_thread():
        waiting = list(blocks)
        started = []
        try:
            while len(blocks) > 1 and cores() > 1 and waiting:
                started.append(_pool.submit(quietly, waiting[0]))
                waiting.pop(0)
        except RuntimeError:  # the main thread has ended: no more threads, this one goes on alone
            pass
        for block in waiting:
            quietly(block)
        for future in started:
            future.result()


def _start_again() -> None:
    global _blas_limit, _pool
    _controller.cache_clear()
    _blas_limit, _pool = _BlasLimit(_blas_limit.original), _workers()


# A forked child has none of its parent's threads
os.register_at_fork(after_in_child=_start_again)
