"""Workers and the BLAS limit: interruptions, forks and exits."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest

from vgg_cuda.backends import threads
from vgg_cuda.backends.threads import blas_libraries, run_blocks


@pytest.fixture(autouse=True)
def _two_blas_threads() -> Iterator[None]:
    """Leave something to limit, whatever OMP_NUM_THREADS says.

    Only the thread that sets a limit first can change it: the one that the backend has for it.
    """

    def limit(limits: Any) -> None:
        controller = threads._controller()
        threads._blas_limit._thread.submit(controller.limit, limits=limits).result()

    before = [{key: each[key] for key in ("filepath", "num_threads")} for each in blas_libraries()]
    assert before
    limit({"blas": 2})
    assert counts() == [2] * len(before)
    yield
    limit(before)


def counts() -> list[int]:
    return [library["num_threads"] for library in blas_libraries()]


def run(program: str) -> None:
    # Python 3.12 warns of forks beside threads, which are tested here
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)]
    env = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr, done.stderr


def test_blas_limit_is_held_and_lifted() -> None:
    """threadpoolctl ignores all but the first thread that sets a limit."""
    before = counts()
    inside: list[list[int]] = []
    for _ in range(2):
        run_blocks(lambda _: inside.append(counts()), [1, 2])
        thread = Thread(target=run_blocks, args=(lambda _: inside.append(counts()), [1, 2]))
        thread.start()
        thread.join()
        assert counts() == before
    assert inside == [[1] * len(before)] * 8


def test_interrupted_entry_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = counts()
    submit = threads._blas_limit._thread.submit

    class Interrupted:
        def result(self) -> None:
            raise KeyboardInterrupt

    def interrupting(job):  # type: ignore[no-untyped-def]
        future = submit(job)
        return Interrupted() if job == threads._blas_limit._acquire else future

    monkeypatch.setattr(threads._blas_limit._thread, "submit", interrupting)
    with pytest.raises(KeyboardInterrupt):
        run_blocks(print, [1])
    monkeypatch.undo()
    run_blocks(lambda _: None, [1, 2])
    assert counts() == before


def test_error_of_job_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        run_blocks(lambda n: 1 // n, [1, 0])


SETUP = """
import os, signal, threading, time
import numpy as np
from vgg_cuda import ops
from vgg_cuda.backends.threads import blas_libraries, one_blas_thread
x = np.ones((1, 64, 64, 16), np.float32)
w = np.ones((64, 3, 3, 16), np.float32)
original = [b["num_threads"] for b in blas_libraries()]
expected = ops.conv3x3(x, w)
def child(body):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        os._exit(0 if body() else 1)
    assert os.waitpid(pid, 0)[1] == 0
"""


def test_forked_child_computes() -> None:
    """Data loaders fork workers; threads of the parent do not exist in a child."""
    run(SETUP + "child(lambda: (ops.conv3x3(x, w) == expected).all())")


def test_child_forked_during_forward_computes() -> None:
    run(
        SETUP
        + textwrap.dedent("""
        from vgg_cuda.backends import memory
        def body():
            same = (ops.conv3x3(x, w) == expected).all()
            return same and [b["num_threads"] for b in blas_libraries()] == original
        def forward():
            with one_blas_thread(), memory._lock:
                held.set()
                done.wait()
        held, done = threading.Event(), threading.Event()
        thread = threading.Thread(target=forward)
        thread.start()
        held.wait()
        child(body)
        done.set()
        thread.join()
        """)
    )


def test_thread_outliving_main_thread_computes() -> None:
    run(
        SETUP
        + textwrap.dedent("""
        def late():
            time.sleep(0.5)
            os._exit(0 if (ops.conv3x3(x, w) == expected).all() else 1)
        threading.Thread(target=late).start()
        """)
    )
