"""How the emulator runs launches. Needs no extension, so that ``ops`` imports without one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

Schedule = Literal["forward", "reverse", "round_robin", "random"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


@dataclass(frozen=True)
class Options:
    """How launches are run; see :func:`options`."""

    schedule: Schedule = "forward"
    lazy: bool = True
    races: bool = True
    seed: int = 1
    workers: int = 0


_options: ContextVar[Options] = ContextVar("emulator_options", default=Options())  # noqa: B039


@contextlib.contextmanager
def options(
    *,
    schedule: Schedule | None = None,
    lazy: bool | None = None,
    races: bool | None = None,
    seed: int | None = None,
    workers: int | None = None,
) -> Iterator[Options]:
    """How the emulator runs what this thread calls while it is open; None: as outside.

    ``schedule`` is the order in which a block's warps run: "forward", "reverse", "round_robin" or
    "random" (with ``seed``). ``lazy``: asynchronous copies happen as late as is legal, else as
    early. ``races``: whether accesses are checked for happens-before. ``workers``: CPU threads,
    0 for one a core. Raises ``ValueError`` for an unknown schedule and negative numbers.
    """
    given = {"schedule": schedule, "lazy": lazy, "races": races, "seed": seed, "workers": workers}
    if schedule is not None and schedule not in SCHEDULES:
        raise ValueError(f"schedule: expected one of {', '.join(SCHEDULES)}, got {schedule!r}")
    for name, value in (("seed", seed), ("workers", workers)):
        if value is not None and value < 0:
            raise ValueError(f"{name}: expected an integer >= 0, got {value!r}")
    known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    token = _options.set(replace(_options.get(), **known))
    try:
        yield _options.get()
    finally:
        _options.reset(token)


def current_options() -> Options:
    """Those of the innermost :func:`options` that is open here."""
    return _options.get()
