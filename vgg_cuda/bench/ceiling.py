"""The machine's ceilings, measured at the start of a run, and why one is missing."""

from __future__ import annotations

from collections.abc import Callable

from .connection import Worker
from .measure import Patience, measure
from .peers import ceilings
from .report import Ceiling
from .reporting import ceiling
from .work import Job


def measured(
    worker: Worker, job: Job, *, noise: float, patience: Patience, say: Callable[[str], None]
) -> tuple[dict[str, Ceiling], dict[str, str]]:
    """Those of a copy and a product, and the reasons of those that there are not, by name."""
    found, missing = {}, {}
    for work in ceilings.works(job):
        if not worker.alive:
            missing[work.name] = "failed (its process had ended)"
            continue
        (taken,) = measure(
            work, [worker], exact=None, bound=0, noise=noise, patience=patience, say=say
        ).values()
        if taken.times:
            found[work.name] = ceiling(work, taken, job.dtype)
        else:
            missing[work.name] = f"{taken.status} ({taken.reason})"
    return found, missing


def none(job: Job, reason: str) -> dict[str, str]:
    """Neither of them, for one ``reason``."""
    return {work.name: reason for work in ceilings.works(job)}
