"""Records of launched operations, for benchmarks, tests and ``return_stats=True``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypedDict


class Stats(TypedDict):
    """Statistics of one operation.

    - ``kernel``: name of the kernel.
    - ``plan``: the plan of its launches; empty on the CPU.
    - ``counters``: the emulator's counters of this operation, described in csrc/emulator/; empty on
      other devices. ``useful_macs`` are the multiply-adds of the result; ``mma_macs`` and ``fma``
      are those issued.
    """

    kernel: str
    plan: dict[str, Any]
    counters: dict[str, int]


_recorded: ContextVar[list[Stats] | None] = ContextVar("recorded", default=None)


@contextmanager
def recording() -> Iterator[list[Stats]]:
    """Yield a list to which the operations of this thread are added while the context is open."""
    outer = _recorded.get()
    entries: list[Stats] = []
    token = _recorded.set(entries)
    try:
        yield entries
    finally:
        _recorded.reset(token)
        if outer is not None:
            outer.extend(entries)


def recorded() -> int:
    """Return the number of operations in the open :func:`recording`, for :func:`drop_after`."""
    return len(_recorded.get() or ())


def drop_after(count: int) -> None:
    """Forget the operations recorded after the first ``count``, of a forward that was given up."""
    entries = _recorded.get()
    if entries is not None:
        del entries[count:]


def record(
    kernel: str,
    plan: Callable[[], dict[str, Any]] = dict,
    counters: Callable[[], dict[str, int]] = dict,
) -> None:
    """Add an operation to the open :func:`recording`; without one, call neither function."""
    entries = _recorded.get()
    if entries is not None:
        entries.append(Stats(kernel=kernel, plan=plan(), counters=counters()))
