"""Worker processes: each measures one program and answers the parent's messages over a pipe.

A worker is a subprocess rather than a ``multiprocessing.Process``: it leads its own session from
the start, so that Ctrl-C reaches the parent alone, and it does not import the caller's main module.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..text import one_line
from .interruption import Interruption

Message = dict[str, Any]
TICK_S = 0.1  # between checks for an interruption
GRACE_S = 2.0  # between SIGTERM and SIGKILL
MAX_REASON = 300  # characters
PR_SET_PDEATHSIG = 1  # linux/prctl.h

COMMAND = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from vgg_cuda.bench.workers import serve
serve(int(sys.argv[2]), int(sys.argv[3]))
"""
"""The worker's program. It imports from the parent's ``sys.path``."""


class PeerFailed(Exception):  # noqa: N818 (the name of the outcome)
    """A program gave no usable answer; ``status`` is the one to report."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class WorkerDied(PeerFailed):
    """The worker process ended, or was killed after its timeout."""


class Worker:
    """A process that measures one program; :class:`vgg_cuda.bench.session.Session` runs in it."""

    def __init__(self, name: str, stop: Interruption) -> None:
        self.name, self.alive, self._stop = name, True, stop
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
        self._pipe, theirs = multiprocessing.Pipe()
        path = json.dumps([str(Path(entry or ".").absolute()) for entry in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, path, str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL, stdout=self._errors, stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()], start_new_session=True,
        )  # fmt: skip
        theirs.close()
        stop.on_second_signal(self.kill)

    def send(self, message: Message) -> None:
        """Send a message. Does not raise: ``receive`` reports a dead worker."""
        with contextlib.suppress(OSError):
            self._pipe.send(message)

    def receive(self, timeout: float) -> Message:
        """Return the reply to the last message.

        Raises :class:`WorkerDied` if the worker ends or is killed after ``timeout`` seconds, and
        ``Interrupted`` after a signal.
        """
        end = time.monotonic() + timeout
        try:
            self._stop.check()
            while not self._pipe.poll(TICK_S):
                self._stop.check()
                if time.monotonic() > end:
                    self.close()
                    said = self._last_line("; last output: ")
                    raise WorkerDied("timeout", f"no answer in {timeout:.0f} s{said}")
            reply: Message = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            self.close()
            code = self._process.returncode
            killed = code is not None and code < 0
            how = f"killed by {signal.Signals(-code).name}" if killed else f"exit status {code}"
            if code == -signal.SIGKILL:  # as Linux ends a process when memory runs out
                how += ", probably out of memory"
            raise WorkerDied("failed", how + self._last_line(": ")) from None
        return reply

    def close(self) -> None:
        """End the worker's process group, which includes any compiler that it runs."""
        if not self.alive:
            return
        self._pipe.close()
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        self.kill()
        self.alive = False
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)

    def kill(self) -> None:
        """Kill the process group at once; processes that the worker started can outlive it."""
        if self.alive:  # else its number may belong to another process by now
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _last_line(self, before: str) -> str:
        """Return the last line that the worker printed, after ``before``."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 65536))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return before + one_line(lines[-1], MAX_REASON) if lines else ""


def serve(descriptor: int, parent: int) -> None:
    """Answer the parent's messages until it closes the pipe; runs in the worker."""
    _end_with(parent)
    with contextlib.suppress(OSError):  # if memory runs out, Linux kills workers, not the parent
        Path("/proc/self/oom_score_adj").write_text("1000")
    os.set_inheritable(descriptor, False)  # a child of the worker must not hold the pipe open
    pipe = Connection(descriptor)
    warnings.simplefilter("ignore")  # the last line printed is reported as a failure's reason
    from .session import Session

    session = Session()
    while True:
        try:
            message = pipe.recv()
        except EOFError:
            return
        try:
            reply = json.dumps(session.handle(message))
        except Exception as error:  # any error of any library: the parent reports it
            traceback.print_exc()
            reply = json.dumps({"error": f"{type(error).__name__}: {error}"})
        pipe.send_bytes(reply.encode())


def _end_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, for whatever reason."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the call
        sys.exit(1)
