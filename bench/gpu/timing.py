"""Times of calls on a GPU or the CPU: medians, with the programs taking turns.

    a, b = clock.repeated([call] * 10), other.repeated([its_call] * 10)
    samples = side_by_side({"a": a, "b": b}, seconds=1.0)

Programs take turns so that what the clocks of the GPU do troubles them alike.
"""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Call = Callable[[], Any]

LEAST, MOST = 5, 500  # samples


@dataclass(frozen=True)
class Sample:
    """Seconds of one call."""

    median_s: float
    iqr_s: float
    samples: int

    def as_dict(self, **more: Any) -> dict[str, Any]:
        """With whatever else is known of the program."""
        return {
            "median_s": self.median_s, "iqr_s": self.iqr_s, "samples": self.samples,
        } | more  # fmt: skip


@dataclass(frozen=True)
class Repeated:
    """Several calls in a row, as one; ``graph``: replayed from a CUDA graph, else ``why`` not."""

    run: Call
    count: int
    clock: Clock
    graph: bool = False
    why: str = ""


class Clock(ABC):
    """How long what is enqueued takes where it runs."""

    @abstractmethod
    def time(self, call: Call) -> float:
        """Seconds of one call, until its work is done."""

    def repeated(self, calls: Sequence[Call]) -> Repeated:
        """All of ``calls`` as one."""
        return Repeated(in_turn(calls), len(calls), self)


class HostClock(Clock):
    """Of calls that return when they are done."""

    def time(self, call: Call) -> float:
        """By the wall."""
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


class CupyClock(Clock):
    """CUDA events on CuPy's current stream."""

    def __init__(self) -> None:
        import cupy

        self._cuda = cupy.cuda
        self._events = cupy.cuda.Event(), cupy.cuda.Event()

    def time(self, call: Call) -> float:
        """Between two events."""
        start, stop = self._events
        start.record()
        call()
        stop.record()
        stop.synchronize()
        return float(self._cuda.get_elapsed_time(start, stop)) / 1e3

    def repeated(self, calls: Sequence[Call]) -> Repeated:
        """A CUDA graph of them where they can be captured."""
        run = in_turn(calls)
        stream = self._cuda.Stream(non_blocking=True)
        try:
            with stream:
                run()  # scratch memory is kept by stream, and none can be had in a capture
                stream.synchronize()
                stream.begin_capture()
                try:
                    run()
                finally:
                    graph = stream.end_capture()
            here = self._cuda.get_current_stream()
            graph.launch(here)
            here.synchronize()
        except Exception as error:
            return Repeated(run, len(calls), self, False, f"{type(error).__name__}: {error}")
        return Repeated(lambda: graph.launch(here), len(calls), self, True)


class TorchClock(Clock):
    """CUDA events on PyTorch's current stream."""

    def __init__(self) -> None:
        import torch

        self._torch: Any = torch
        self._events = [self._torch.cuda.Event(enable_timing=True) for _ in range(2)]

    def time(self, call: Call) -> float:
        """Between two events."""
        start, stop = self._events
        start.record()
        call()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop)) / 1e3

    def repeated(self, calls: Sequence[Call]) -> Repeated:
        """A CUDA graph of them where they can be captured. They must have run once before.

        What they return is kept, so that none writes where another has.
        """
        kept: list[Any] = []
        graph = self._torch.cuda.CUDAGraph()
        try:
            self._torch.cuda.synchronize()
            with self._torch.cuda.graph(graph):
                kept.extend(call() for call in calls)
            graph.replay()
            self._torch.cuda.synchronize()
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            return Repeated(in_turn(calls), len(calls), self, False, why)
        return Repeated(lambda: (graph.replay(), kept), len(calls), self, True)


def in_turn(calls: Sequence[Call]) -> Call:
    """One call that makes all of them."""

    def run() -> None:
        for call in calls:
            call()

    return run


def side_by_side(programs: Mapping[str, Repeated], seconds: float) -> dict[str, Sample]:
    """Every program's seconds per call, measured in turns for about ``seconds`` altogether."""
    for program in programs.values():
        program.clock.time(program.run)
    times: dict[str, list[float]] = {name: [] for name in programs}
    stop = time.monotonic() + seconds
    for turn in range(MOST):
        if turn >= LEAST and time.monotonic() > stop:
            break
        for name, program in programs.items():
            times[name].append(program.clock.time(program.run) / program.count)
    return {name: sample(found) for name, found in times.items()}


def sample(times: Sequence[float]) -> Sample:
    """Of several seconds."""
    ordered = sorted(times)
    iqr = ordered[len(ordered) * 3 // 4] - ordered[len(ordered) // 4]
    return Sample(statistics.median(ordered), iqr, len(ordered))
