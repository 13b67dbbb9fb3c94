"""The worker's side of a measurement: one program, from loading to its last sample."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import peers
from .clock import HostClock, Span
from .peers import Absent, Peer, Program
from .truth import relative_l2
from .work import Job, Work

UPLOADS = 5
LONG_S = 1.0  # calls longer than this are warmed up once, not twice
SETTLE = 2  # calls shorter than this many slices run once, untimed, before each slice


class Session:
    """Answers messages: ``do`` names a method, the other keys are its arguments."""

    def __init__(self) -> None:
        self._peer: Peer | None = None
        self._job: Job | None = None
        self._program: Program | None = None
        self._turn = 0
        self._call_s = 0.0

    def handle(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return the reply; ``absent`` in it tells why the program cannot do the work.

        Raises any error that the program raises.
        """
        arguments = dict(message)
        try:
            reply: dict[str, Any] = getattr(self, arguments.pop("do"))(**arguments)
        except Absent as reason:
            return {"absent": str(reason)}
        return reply

    def open(self, peer: str, job: Job) -> dict[str, Any]:
        """Load the library called ``peer`` for ``job``."""
        start = time.perf_counter()
        self._job, self._peer = job, peers.start(peer, job)
        return {"load_s": time.perf_counter() - start, "versions": self._peer.versions}

    def prepare(self, work: Work) -> dict[str, Any]:
        """Build the program for ``work``, after freeing an earlier one."""
        assert self._peer is not None
        self._program = None
        self._turn, self._call_s = 0, 0.0
        program = self._program = self._peer.prepare(work)
        return {
            "how": program.how, "kernels": program.kernels, "counters": program.counters,
            "steps": program.steps,
        }  # fmt: skip

    def check(self, exact: str) -> dict[str, Any]:
        """Return the relative L2 error against the array in the file ``exact``."""
        got = np.asarray(self.program.result())
        error = relative_l2(got, np.load(exact, allow_pickle=False))
        return {"relative_error": error if np.isfinite(error) else None}

    def warm(self) -> dict[str, Any]:
        """Call the program twice, or once if a call is long, and return the last call's time."""
        _reset_peak()  # without the memory that building the program took
        for _ in range(2):
            start = time.perf_counter()
            self._time()
            self._call_s = time.perf_counter() - start
            if self._call_s > LONG_S:
                break
        return {"call_s": self._call_s}

    def sample(self, seconds: float, max_calls: int) -> dict[str, Any]:
        """Time calls for about ``seconds``: at least one call, and at most ``max_calls``."""
        spans: list[Span] = []
        if self._call_s <= SETTLE * seconds:  # other programs ran since: caches, clocks differ
            self._time()
        end = time.perf_counter() + seconds
        while not spans or (time.perf_counter() < end and len(spans) < max_calls):
            spans.append(self._time())
        return {
            "times": [span.total_s for span in spans],
            "enqueue": [span.enqueue_s for span in spans if span.enqueue_s is not None],
            "parts": [list(span.parts) for span in spans if span.parts],
        }

    def finish(self) -> dict[str, Any]:
        """Measure the copy to the device, and return the peak memory."""
        assert self._peer is not None
        assert self._job is not None
        upload, uploads = self.program.upload, []
        if upload is not None:
            upload()
            uploads = [HostClock().time(upload).total_s for _ in range(UPLOADS)]
        held = peers.peak_bytes(self._peer) if self._job.on_gpu else _peak_bytes()
        return {
            "host_to_device_s": float(np.median(uploads)) if uploads else None,
            "peak_bytes": held,
        }

    @property
    def program(self) -> Program:
        """The program that was prepared last."""
        assert self._program is not None
        return self._program

    def _time(self) -> Span:
        program, turn = self.program, self._turn % self.program.copies
        self._turn += 1
        if program.before is not None:
            program.before(turn)
        return program.clock.time(lambda: program.call(turn))


def _reset_peak() -> None:
    """Reset the kernel's record of this process's peak resident memory; on Linux."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int | None:
    """Return this process's peak resident memory; getrusage would include the parent's."""
    try:
        line = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(line[1]) * 1024 if line else None
