"""Worker threads of the CPU backend, each with BLAS limited to one thread.

Their number is :func:`vgg_cuda.system.cpus.get_num_threads`.

The threads of BLAS would share a product, but not the copies and transforms around it. They also
spin for a while after each product and slow other threads down.
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

from ..system.cpus import get_num_threads

T = TypeVar("T")


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def blas_libraries() -> list[dict[str, Any]]:
    """Return the BLAS libraries in this process, as described by threadpoolctl."""
    return [library for library in _controller().info() if library["user_api"] == "blas"]


class _BlasLimit:
    """Context that limits BLAS to one thread while any caller is inside.

    Most BLAS libraries have one limit per process, so overlapping callers share it, and the last
    one to leave lifts it. threadpoolctl lets only the thread that set a limit change it, hence a
    dedicated thread. All counting happens there, so that an interrupted caller leaves a consistent
    state.
    """

    def __init__(self, original: list[dict[str, Any]] | None = None) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vgg_cuda_blas")
        self._holders = 0
        self._here = threading.local()  # depth: nested entries of the calling thread
        # Limits of the libraries before the first entry; a forked child inherits its parent's
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
        except RuntimeError:  # the interpreter is shutting down: continue without the limit
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
    # BLAS on OpenMP has one limit per thread; the process-wide limit does not change it
    _controller().select(threading_layer="openmp").limit(limits=1)


def _workers() -> ThreadPoolExecutor:
    """Return the pool of workers, new if their number has changed; work starts the threads."""
    global _pool
    with _pool_lock:
        count = get_num_threads()
        if _pool is None or _pool[0] != count:
            if _pool is not None:
                _pool[1].shutdown(wait=False)  # finishes what it has begun
            _pool = count, ThreadPoolExecutor(count, "vgg_cuda", initializer=_limit_this_thread)
        return _pool[1]


_blas_limit = _BlasLimit()
_pool: tuple[int, ThreadPoolExecutor] | None = None
_pool_lock = threading.Lock()


def one_blas_thread() -> contextlib.AbstractContextManager[None]:
    """Return a context that limits BLAS to one thread while any caller is inside."""
    return _blas_limit


def run_blocks(job: Callable[[T], None], blocks: Sequence[T]) -> None:
    """Run ``job`` on every block in the workers; re-raise errors of jobs."""

    def quietly(block: T) -> None:
        # as on a GPU, infinities and NaN come without warnings
        with np.errstate(over="ignore", invalid="ignore"):
            job(block)

    with one_blas_thread():
        started = []
        if len(blocks) > 1 and get_num_threads() > 1:
            # A pool raises after the main thread has ended, and after set_num_threads has replaced
            # it: this thread then runs the blocks.
            with contextlib.suppress(RuntimeError):
                pool = _workers()
                for block in blocks:
                    started.append(pool.submit(quietly, block))  # noqa: PERF401 (kept on errors)
        for block in blocks[len(started) :]:
            quietly(block)
        for future in started:
            future.result()


def _restart() -> None:
    global _blas_limit, _pool, _pool_lock
    _controller.cache_clear()
    _blas_limit, _pool, _pool_lock = _BlasLimit(_blas_limit.original), None, threading.Lock()


# Threads of the parent do not exist in a forked child
os.register_at_fork(after_in_child=_restart)
