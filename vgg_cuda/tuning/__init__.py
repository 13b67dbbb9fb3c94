"""Tuning: the fastest kernel of every layer, measured on the device that runs it.

Without tuning, plans choose kernels by estimated times. Here the kernels are launched, compared
with a portable kernel, and timed (``tuner.py``); what is found is kept in the user's cache folder
(``entries.py``) and preferred by later plans (``planner.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from ..backends.kernels import KernelBackend
from ..backends.operations import Planner
from ..backends.switches import Tune
from .entries import Entries, Entry, header_of
from .meters import meter_for
from .planner import TunedPlanner
from .tuner import Tuner

__all__ = [
    "Entries", "Entry", "TunedPlanner", "Tuner", "header_of", "meter_for", "planner_for",
]  # fmt: skip


def planner_for(backend: KernelBackend, tune: Tune) -> Callable[[], Planner]:
    """Return the function that returns the planner of a model on ``backend``.

    After the driver has refused a kernel family, it returns another planner.
    """
    if tune == "never":
        return lambda: backend.plan
    entries = Entries(header_of(backend))
    tuner = Tuner(backend, meter_for(backend)) if tune == "now" else None

    @lru_cache(maxsize=1)
    def tuned(plan: Planner) -> TunedPlanner:
        return TunedPlanner(plan.arch, entries, tuner)

    return lambda: tuned(backend.plan)
