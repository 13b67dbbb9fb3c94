"""Tuning: the fastest kernel of every layer, measured on the device that runs it.

Without tuning, plans choose kernels by estimated times. Here the kernels are launched, compared
with a portable kernel, and timed (``tuner.py``); what is found is kept in the user's cache folder
(``entries.py``) and preferred by later plans (``planner.py``).
"""

from __future__ import annotations

from ..backends.kernels import KernelBackend
from ..backends.operations import Planner
from ..backends.switches import Tune
from .entries import Entries, Entry, header_of
from .meters import meter_for
from .planner import TunedPlanner
from .tuner import Tuner

__all__ = ["Entries", "Entry", "TunedPlanner", "Tuner", "header_of", "planner_for"]


def planner_for(backend: KernelBackend, tune: Tune) -> Planner:
    """Return the planner of a model on ``backend``."""
    if tune == "never":
        return backend.plan
    entries = Entries(header_of(backend))
    tuner = Tuner(backend, meter_for(backend)) if tune == "now" else None
    return TunedPlanner(backend.arch, entries, tuner)
