"""What a worker does when it is told to: one program, from its loading to its last sample."""

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

Message = dict[str, Any]
UPLOADS = 5
LONG_S = 1.0  # of a call that was made for its result before: once more will do
SETTLE = 2  # a call no longer than so many slices goes once before each, untimed


class Session:
    """Messages and their replies are dicts of JSON; ``do`` names the method.

    A reply holds ``absent`` where the program is not there, or not for this work.
    """

    def __init__(self) -> None:
        self._peer: Peer | None = None
        self._job: Job | None = None
        self._program: Program | None = None
        self._turn = 0
        self._call_s = 0.0

    def handle(self, message: Message) -> Message:
        """Raises whatever the program raises."""
        do = {
            "open": self.open, "prepare": self.prepare, "check": self.check, "warm": self.warm,
            "sample": self.sample, "finish": self.finish,
        }[message["do"]]  # fmt: skip
        try:
            return do(message)
        except Absent as reason:
            return {"absent": str(reason)}

    def open(self, message: Message) -> Message:
        """Loads the library called ``peer`` for ``job``."""
        start = time.perf_counter()
        self._job = Job(**message["job"])
        self._peer = peers.start(message["peer"], self._job)
        return {"load_s": time.perf_counter() - start, "versions": self._peer.versions}

    def prepare(self, message: Message) -> Message:
        """Builds the program for ``work``; an earlier one is gone before."""
        assert self._peer is not None
        self._program = None
        self._turn, self._call_s = 0, 0.0
        start = time.perf_counter()
        program = self._program = self._peer.prepare(Work.from_json(message["work"]))
        return {
            "prepare_s": time.perf_counter() - start, "how": program.how,
            "kernels": program.kernels, "counters": program.counters, "steps": program.steps,
        }  # fmt: skip

    def check(self, message: Message) -> Message:
        """The relative L2 error against the array in the file ``exact``."""
        got = np.asarray(self.program.result())
        error = relative_l2(got, np.load(message["exact"], allow_pickle=False))
        return {"relative_error": error if np.isfinite(error) else None}

    def warm(self, _: Message) -> Message:
        """Two calls, of a long one one; how long the last took until it was done."""
        _forget_peak()  # of building the program
        for _turn in range(2):
            start = time.perf_counter()
            self._time()
            self._call_s = time.perf_counter() - start
            if self._call_s > LONG_S:
                break
        return {"call_s": self._call_s}

    def sample(self, message: Message) -> Message:
        """Calls for about ``seconds``, at least one and at most ``most``."""
        seconds = float(message["seconds"])
        spans: list[Span] = []
        if self._call_s <= SETTLE * seconds:  # others had their turn: caches, clocks are theirs
            self._time()
        end = time.perf_counter() + seconds
        while not spans or (time.perf_counter() < end and len(spans) < message["most"]):
            spans.append(self._time())
        return {
            "times": [span.total_s for span in spans],
            "enqueue": [span.enqueue_s for span in spans if span.enqueue_s is not None],
            "parts": [list(span.parts) for span in spans if span.parts],
        }

    def finish(self, _: Message) -> Message:
        """What is measured once: the copy to the device, and the most memory that was held."""
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
        """The one that was prepared last."""
        assert self._program is not None
        return self._program

    def _time(self) -> Span:
        program, turn = self.program, self._turn % self.program.copies
        self._turn += 1
        if program.before is not None:
            program.before(turn)
        return program.clock.time(lambda: program.call(turn))


def _forget_peak() -> None:
    """The most memory that is resident counts from here on; on Linux."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int | None:
    """Most bytes that this process had resident; getrusage would count those of the parent, too."""
    try:
        line = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(line[1]) * 1024 if line else None
