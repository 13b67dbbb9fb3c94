"""How long a call takes: by the wall, or between two events on a GPU's stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

Call = Callable[[], Any]


@dataclass(frozen=True)
class Span:
    """Seconds of one call, until its work is done.

    ``enqueue_s``: until it returned, where that is not the same; ``parts``: of its steps.
    """

    total_s: float
    enqueue_s: float | None = None
    parts: tuple[float, ...] = ()


class Clock(Protocol):
    """Times calls where they run."""

    def time(self, call: Call) -> Span:
        """Of one call; returns when its work is done."""
        ...


class HostClock:
    """Of calls that return when they are done."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now

    def time(self, call: Call) -> Span:
        """By the wall."""
        start = self._now()
        call()
        return Span(self._now() - start)


class Event(Protocol):
    """CuPy's and PyTorch's events alike."""

    def record(self, stream: Any) -> Any:
        """Happens when ``stream`` has done what it was told before."""
        ...

    def synchronize(self) -> Any:
        """Waits until it has happened."""
        ...


class EventClock:
    """Of calls that enqueue work on ``stream``, by the events around it.

    ``event`` makes one that keeps the time; ``elapsed_ms``: between two that have happened. What
    was enqueued before the call, such as clearing a cache, is not in its time: the GPU is still
    busy with it while the call is enqueued.
    """

    def __init__(
        self, event: Callable[[], Event], elapsed_ms: Callable[[Any, Any], float], stream: Any,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self._event, self._elapsed_ms, self._stream, self._now = event, elapsed_ms, stream, now
        self._ends = event(), event()

    def time(self, call: Call) -> Span:
        """On the stream; ``enqueue_s`` by the wall."""
        start, stop = self._ends
        start.record(self._stream)
        begun = self._now()
        call()
        enqueue_s = self._now() - begun
        stop.record(self._stream)
        stop.synchronize()
        return Span(self._elapsed_ms(start, stop) / 1e3, enqueue_s)

    def mark(self) -> Event:
        """An event that is recorded now."""
        event = self._event()
        event.record(self._stream)
        return event

    def seconds(self, start: Event, stop: Event) -> float:
        """Between two that ``mark`` gave, once the second has happened."""
        return self._elapsed_ms(start, stop) / 1e3


def cupy_clock(stream: Any) -> EventClock:
    """With CuPy's events on ``stream``."""
    import cupy

    return EventClock(cupy.cuda.Event, cupy.cuda.get_elapsed_time, stream)


def torch_clock(stream: Any) -> EventClock:
    """With PyTorch's events on ``stream``."""
    import torch as any_torch

    torch: Any = any_torch

    def event() -> Any:
        return torch.cuda.Event(enable_timing=True)

    return EventClock(event, lambda start, stop: float(start.elapsed_time(stop)), stream)
