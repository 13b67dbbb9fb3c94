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
    instruction_limit: int = 2**28


_options: ContextVar[Options] = ContextVar("emulator_options", default=Options())  # noqa: B039


LIMITS = {"seed": (0, 2**32 - 1), "workers": (0, 4096), "instruction_limit": (1, 2**62)}


def options(
    *,
    schedule: Schedule | None = None,
    lazy: bool | None = None,
    races: bool | None = None,
    seed: int | None = None,
    workers: int | None = None,
    instruction_limit: int | None = None,
) -> contextlib.AbstractContextManager[Options]:
    """How the emulator runs what this thread calls while it is open; None: as outside.

    ``schedule`` is the order in which a block's warps run: "forward", "reverse", "round_robin" or
    "random" (with ``seed``). ``lazy``: asynchronous copies happen as late as is legal, else as
    early. ``races``: whether accesses are checked for happens-before. ``workers``: CPU threads,
    0 for one a core. ``instruction_limit``: how many instructions a warp may execute before its
    loop is taken to be endless. Raises ``ValueError`` for other values,
    ``TypeError`` for other types.
    """
    if schedule is not None and schedule not in SCHEDULES:
        raise ValueError(f"schedule: expected one of {', '.join(SCHEDULES)}, got {schedule!r}")
    for name, flag in (("lazy", lazy), ("races", races)):
        if flag is not None and not isinstance(flag, bool):
            raise TypeError(f"{name}: expected True or False, got {flag!r}")
    numbers = {"seed": seed, "workers": workers, "instruction_limit": instruction_limit}
    for name, value in numbers.items():
        if value is None:
            continue
        least, most = LIMITS[name]
        expected = f"{name}: expected an integer >= {least} and <= {most}, got {value!r}"
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(expected)
        if not least <= value <= most:
            raise ValueError(expected)
    given = {"schedule": schedule, "lazy": lazy, "races": races, **numbers}
    return _opened({name: value for name, value in given.items() if value is not None})


@contextlib.contextmanager
def _opened(given: dict[str, Any]) -> Iterator[Options]:
    token = _options.set(replace(_options.get(), **given))
    try:
        yield _options.get()
    finally:
        _options.reset(token)


def current_options() -> Options:
    """Those of the innermost :func:`options` that is open here."""
    return _options.get()
