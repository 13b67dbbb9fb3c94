"""Options of the emulator. Imports no extension, so that ``ops`` can be imported without it."""

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
    """Options of emulated launches; see :func:`options`."""

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
    """Return a context that sets options of the emulator for this thread; None keeps a value.

    - ``schedule``: order in which the warps of a block run: "forward", "reverse", "round_robin" or
      "random" (with ``seed``).
    - ``lazy``: whether asynchronous copies complete as late as possible, or as early as possible.
    - ``races``: whether memory accesses are checked for data races.
    - ``workers``: CPU threads, 0 for one per core.
    - ``instruction_limit``: instructions per warp, after which a launch fails as endless.

    Raises ``ValueError`` for other values, ``TypeError`` for other types.
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
        low, high = LIMITS[name]
        text = f"{name}: expected an integer >= {low} and <= {high}, got {value!r}"
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(text)
        if not low <= value <= high:
            raise ValueError(text)
    values = {"schedule": schedule, "lazy": lazy, "races": races, **numbers}
    return _set({name: value for name, value in values.items() if value is not None})


@contextlib.contextmanager
def _set(values: dict[str, Any]) -> Iterator[Options]:
    token = _options.set(replace(_options.get(), **values))
    try:
        yield _options.get()
    finally:
        _options.reset(token)


def current_options() -> Options:
    """Return the options of the innermost open :func:`options` context."""
    return _options.get()
