"""Child processes that answer messages over a pipe, and that a parent can lose or kill.

A child is a subprocess rather than a ``multiprocessing.Process``: it leads its own session from the
start, so that Ctrl-C reaches the parent alone, and it does not import the caller's main module.
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
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from ..text import one_line
from .interruption import Interruption

Message = dict[str, Any]
TICK_S = 0.1  # between checks for an interruption
GRACE_S = 2.0  # between SIGTERM and SIGKILL
MAX_REASON = 300  # characters
PR_SET_PDEATHSIG = 1  # linux/prctl.h

COMMAND = """
import sys
module, descriptor, parent, *sys.path[:] = sys.argv[1:]
import importlib
from vgg_cuda.system.processes import connected
importlib.import_module(module).serve(connected(int(descriptor), int(parent)))
"""
"""The child's program. It imports from the parent's ``sys.path``.

The path is set before any import from a file, because it begins with the current folder.
"""


class ChildEnded(Exception):  # noqa: N818 (not always an error)
    """A child process ended without an answer; ``signal`` ended it, or is None."""

    def __init__(self, reason: str, signal: int | None = None) -> None:
        super().__init__(reason)
        self.signal = signal


class ChildSilent(ChildEnded):
    """A child process did not answer in time, and was killed."""


class Child:
    """A process that runs ``serve(pipe)`` of ``module``, which answers JSON messages.

    ``env`` replaces variables of the environment.
    """

    def __init__(
        self, module: str, stop: Interruption, env: Mapping[str, str] | None = None
    ) -> None:
        self.alive, self._stop = True, stop
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close())
        self._last_line = ""
        self.kernel_line = ""  # the first line that a kernel printed, known after close()
        self._pipe, theirs = multiprocessing.Pipe()
        path = [str(Path(entry or ".").absolute()) for entry in sys.path]
        command = [sys.executable, "-c", COMMAND, module, str(theirs.fileno()), str(os.getpid())]
        self._process = subprocess.Popen(
            [*command, *path], env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL, stdout=self._errors, stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()], start_new_session=True,
        )  # fmt: skip
        theirs.close()
        stop.on_second_signal(self.kill)

    def send(self, message: Message) -> None:
        """Send a message. Does not raise: ``receive`` reports a dead child."""
        with contextlib.suppress(OSError):
            self._pipe.send(message)

    def receive(self, timeout: float) -> Message:
        """Return the child's next message.

        Raises :class:`ChildEnded` if the child ends, :class:`ChildSilent` if it is killed after
        ``timeout`` seconds without a message, and ``Interrupted`` after a signal.
        """
        end = time.monotonic() + timeout
        try:
            self._stop.check()
            while not self._pipe.poll(TICK_S):
                self._stop.check()
                if time.monotonic() > end:
                    self.close()
                    said = f"; last output: {self._last_line}" if self._last_line else ""
                    raise ChildSilent(f"no answer in {timeout:g} s{said}")
            reply: Message = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            self.close()
            code = self._process.returncode
            killed = code is not None and code < 0
            how = f"killed by {signal.Signals(-code).name}" if killed else f"exit status {code}"
            if code == -signal.SIGKILL:  # as Linux ends a process when memory runs out
                how += ", probably out of memory"
            reason = f"{how}: {self._last_line}" if self._last_line else how
            raise ChildEnded(reason, -code if killed else None) from None
        return reply

    def close(self) -> None:
        """End the child's process group, which includes any compiler that it runs."""
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
        self.kernel_line = _kernel_line(self._errors)
        self._last_line = _last_line(self._errors)
        self._errors.close()

    def kill(self) -> None:
        """Kill the process group at once; processes that the child started can outlive it."""
        if self.alive:  # else its number may belong to another process by now
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _kernel_line(output: IO[bytes]) -> str:
    """Return the first line that a kernel of a build with debug waits printed, or ""."""
    output.seek(0)
    found = next((line for line in output if line.startswith(b"kernel ")), b"")
    return one_line(found.decode(errors="replace"), MAX_REASON)


def _last_line(output: IO[bytes]) -> str:
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - 65536))
    lines = output.read().decode(errors="replace").strip().splitlines()
    return one_line(lines[-1], MAX_REASON) if lines else ""


def connected(descriptor: int, parent: int) -> Connection:
    """Return the pipe to the parent, with whom this child process ends."""
    _end_with(parent)
    with contextlib.suppress(OSError):  # if memory runs out, Linux kills children, not the parent
        Path("/proc/self/oom_score_adj").write_text("1000")
    os.set_inheritable(descriptor, False)  # a child of this process must not hold the pipe open
    return Connection(descriptor)


def _end_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, for whatever reason."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the call
        sys.exit(1)
