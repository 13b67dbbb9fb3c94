"""The parent's side of a worker: messages with a time limit, and an end that leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

from ..text import one_line
from .interruption import Interruption
from .worker import COMMAND

Message = dict[str, Any]
TICK_S = 0.1  # between looks at whether somebody wants this to end
GRACE_S = 2.0  # between SIGTERM and SIGKILL
MAX_REASON = 300  # characters


class Lost(Exception):  # noqa: N818 (an outcome, which is reported)
    """A worker that is no more; ``status``: "failed" or "timeout"; the text says why."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Worker(Protocol):
    """Somebody who measures one program; see :class:`vgg_cuda.bench.session.Session`."""

    name: str
    alive: bool

    def send(self, message: Message) -> None:
        """A message to be answered; raises nothing, whatever became of it."""
        ...

    def receive(self, patience: float) -> Message:
        """The reply to the last message. Raises :class:`Lost`."""
        ...

    def close(self) -> None:
        """Ends it and all that it started."""
        ...


class Process:
    """A worker in a process that leads a group of its own."""

    def __init__(self, name: str, stop: Interruption) -> None:
        self.name, self._stop = name, stop
        self.alive = True
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this)
        path = json.dumps([str(Path(entry or ".").absolute()) for entry in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, path, str(os.getpid())], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True,
        )  # fmt: skip
        stop.on_second_signal(self.kill)
        self._pending, self._reaped = b"", False

    def send(self, message: Message) -> None:
        """As :class:`Worker` says."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has died: told when its reply is waited for
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def receive(self, patience: float) -> Message:
        """The reply to the last message, a dict.

        Raises :class:`Lost` where it ends or takes longer than ``patience`` seconds, for which it
        is killed, and ``Interrupted`` where somebody wants all of this to end.
        """
        assert self._process.stdout is not None
        end = time.monotonic() + patience
        while b"\n" not in self._pending:
            self._stop.check()
            if time.monotonic() > end:
                self.close()
                raise Lost("timeout", f"no answer in {patience:.0f} s{self._said('; it said: ')}")
            ready, _, _ = select.select([self._process.stdout], [], [], TICK_S)
            if not ready:
                continue
            more = os.read(self._process.stdout.fileno(), 1 << 16)
            if not more:
                self.close()
                raise Lost("failed", self._ended())
            self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            self.close()
            raise Lost(
                "failed", f"its answer is no JSON: {one_line(line.decode(errors='replace'))}"
            )
        return reply

    def close(self) -> None:
        """Ends the process and its group, a compiler that it runs included."""
        self.alive = False
        process = self._process
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            if process.poll() is None:
                self._signal(signal.SIGTERM)
                process.wait(GRACE_S)
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
            self._reaped = True
        if process.stdout is not None:
            process.stdout.close()

    def kill(self) -> None:
        """At once, the whole group: what it started may outlive it."""
        if not self._reaped:  # its number could be somebody else's by now
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _ended(self) -> str:
        code = self._process.returncode
        how = f"exit status {code}"
        if code is not None and code < 0:
            how = f"killed by {signal.Signals(-code).name}"
        return f"{how}{self._said(': ')}"

    def _said(self, before: str) -> str:
        """The last line on its standard error."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 65536))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return before + one_line(lines[-1], MAX_REASON) if lines else ""
