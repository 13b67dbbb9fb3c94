"""Clocks: the time of a call on the host, or between two events on a GPU's stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

Call = Callable[[], Any]


@dataclass(frozen=True)
class Span:
    """Time of one call in seconds, until its work is done.

    ``enqueue_s`` is the time until the call returned, if it only enqueues work; ``parts`` are the
    times of its steps.
    """

    total_s: float
    enqueue_s: float | None = None
    parts: tuple[float, ...] = ()


class Clock(Protocol):
    """Times calls."""

    def time(self, call: Call) -> Span:
        """Time one call; return when its work is done."""
        ...


class HostClock:
    """Times calls that return when their work is done."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now

    def time(self, call: Call) -> Span:
        """Time one call."""
        start = self._now()
        call()
        return Span(self._now() - start)


class EventClock:
    """Times calls that enqueue work on ``stream``, by events before and after the work.

    ``event`` makes a timing event, and ``elapsed_ms`` returns the time between two reached events.
    Work that was enqueued before the call, such as clearing a cache, is not in the call's time, and
    keeps the GPU busy while the call is enqueued.
    """

    def __init__(
        self, event: Callable[[], Any], elapsed_ms: Callable[[Any, Any], float], stream: Any,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self._event, self._elapsed_ms, self._stream, self._now = event, elapsed_ms, stream, now
        self._ends = event(), event()

    def time(self, call: Call) -> Span:
        """Time one call on the stream, and its enqueueing on the host."""
        start, stop = self._ends
        start.record(self._stream)
        begun = self._now()
        call()
        enqueue_s = self._now() - begun
        stop.record(self._stream)
        stop.synchronize()
        return Span(self._elapsed_ms(start, stop) / 1e3, enqueue_s)

    def mark(self) -> Any:
        """Record and return a new event."""
        event = self._event()
        event.record(self._stream)
        return event

    def seconds(self, start: Any, stop: Any) -> float:
        """Return the seconds between two marks, after the second was reached."""
        return self._elapsed_ms(start, stop) / 1e3


def cupy_clock(stream: Any) -> EventClock:
    """Return a clock of CuPy's events on ``stream``."""
    import cupy

    return EventClock(cupy.cuda.Event, cupy.cuda.get_elapsed_time, stream)


def torch_clock(stream: Any) -> EventClock:
    """Return a clock of PyTorch's events on ``stream``."""
    import torch as any_torch

    torch: Any = any_torch

    def event() -> Any:
        return torch.cuda.Event(enable_timing=True)

    return EventClock(event, lambda start, stop: float(start.elapsed_time(stop)), stream)
