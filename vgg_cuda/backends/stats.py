"""What operations launched, for those who ask: benchmarks, tests, ``return_stats=True``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypedDict


class Stats(TypedDict):
    """One operation.

    ``kernel`` is the name of what computed it; ``plan`` says what was launched (empty on the CPU);
    ``counters`` are the emulator's, of this operation alone (empty elsewhere), as
    csrc/emulator/emulator.h explains them; beside the multiply-adds that were issued, ``mma_macs``
    or ``fma``, stand the ``useful_macs``.
    """

    kernel: str
    plan: dict[str, Any]
    counters: dict[str, int]


_recorded: ContextVar[list[Stats] | None] = ContextVar("recorded", default=None)


@contextmanager
def recording() -> Iterator[list[Stats]]:
    """A list that the operations of this thread enter themselves in while it is open."""
    outer = _recorded.get()
    found: list[Stats] = []
    token = _recorded.set(found)
    try:
        yield found
    finally:
        _recorded.reset(token)
        if outer is not None:
            outer.extend(found)


def record(
    kernel: str,
    plan: Callable[[], dict[str, Any]] = dict,
    counters: Callable[[], dict[str, int]] = dict,
) -> None:
    """Enters an operation where somebody records; costs nothing otherwise."""
    found = _recorded.get()
    if found is not None:
        found.append(Stats(kernel=kernel, plan=plan(), counters=counters()))
