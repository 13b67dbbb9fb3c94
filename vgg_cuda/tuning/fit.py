"""Constants of estimates (``_C.Arch.rates``) that fit the times of an :class:`Entry` best.

The error is the root mean square of log(estimate / time), without its mean: the mean is the clock,
which no entry knows. A search along one constant after the other halves its steps until none of
them lowers the error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .. import _C
from .entries import Entry

MAX_CHANGE = 4.0  # of a constant, up or down
FIRST_STEP, LAST_STEP = 1.5, 1.005  # factors
MAX_SWEEPS = 200


@dataclass(frozen=True)
class Fit:
    """Constants before and after a fit, without those on which no estimate depends.

    ``errors`` are root mean squares of log(estimate / time) before and after; ``clock`` is the
    number of cycles per unit of time after, ``count`` the number of times.
    """

    before: dict[str, float]
    after: dict[str, float]
    errors: tuple[float, float]
    clock: float
    count: int


def fit(arch: _C.Arch, entries: Iterable[Entry]) -> Fit:
    """Return the rates of ``arch`` that fit the times in ``entries`` best.

    The rate of tensor cores stays: the clock scales all estimates alike. Raises ``ValueError`` if
    the entries have too few times.
    """
    samples = [(entry, name) for entry in entries for name in entry.times]
    samples = [(entry, name) for entry, name in samples if entry.op in ("conv3x3", "linear")]
    plans = [partial(_cycles, entry, name) for entry, name in samples]
    times = np.log([entry.times[name] for entry, name in samples] or [1.0])
    anchor = "wgmma_macs" if arch.families else "mma_macs"
    start = {name: value for name, value in arch.rates.items() if name != anchor and value > 0}
    start = {name: value for name, value in start.items() if _matters(arch, plans, name, value)}
    if len(samples) < len(start) + 2 or not start:
        raise ValueError(
            f"--fit: expected at least {len(start) + 2} measured kernels, got {len(samples)}; run "
            '"vgg-cuda tune" for a network with several batch sizes first'
        )

    def residuals(rates: dict[str, float]) -> NDArray[np.float64]:
        target = arch.with_rates(**rates)
        return np.log([plan(target) for plan in plans]) - times

    found = _search(start, lambda rates: float(residuals(rates).std()))
    last = residuals(found)
    errors = float(residuals(start).std()), float(last.std())
    return Fit(start, found, errors, float(np.exp(last.mean())), len(samples))


def _search(
    start: dict[str, float], error: Callable[[dict[str, float]], float]
) -> dict[str, float]:
    """Return the rates with the least error that changes of single rates reach."""
    best, least = dict(start), error(start)
    step = FIRST_STEP
    for _ in range(MAX_SWEEPS):
        improved = False
        for name, value in start.items():
            for factor in (step, 1 / step):
                changed = best[name] * factor
                if not value / MAX_CHANGE <= changed <= value * MAX_CHANGE:
                    continue
                found = error({**best, name: changed})
                if found < least * (1 - 1e-6):
                    best, least, improved = {**best, name: changed}, found, True
                    break
        if not improved:
            if step <= LAST_STEP:
                break
            step = max(step**0.5, LAST_STEP)
    return best


def _cycles(entry: Entry, variant: str, arch: _C.Arch) -> float:
    plan: Callable[..., _C.Plan] = getattr(_C, f"plan_{entry.op}")
    return plan(*entry.sizes, **entry.options, variant=variant, arch=arch).estimate["cycles"]


def _matters(arch: _C.Arch, plans: list[partial[float]], name: str, value: float) -> bool:
    """Return whether any estimate depends on the rate ``name``, within the bounds of a search."""
    low, high = (arch.with_rates(**{name: value * f}) for f in (1 / MAX_CHANGE, MAX_CHANGE))
    return any(plan(low) != plan(high) for plan in plans)
