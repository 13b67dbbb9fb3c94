"""Constants of estimates (``_C.Arch.rates``) that fit the times of entries best.

The error is the root mean square of log(estimate / time), without its mean: the mean is the clock,
which no entry knows. Gauss-Newton steps and changes of single constants alternate, in logarithms
and within bounds, until neither lowers the error: estimates have edges, where derivatives mislead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import _C
from .entries import Entry

KNOWN = ("wgmma_macs", "ffma_macs", "port_bytes")  # from the programming guide; not guessed
MAX_CHANGE = 4.0  # of a constant, up or down
FRACTIONS = ("port_free",)  # at most 1
FIRST_STEP, LAST_STEP = 1.5, 1.002  # factors
DAMPING = (0.0, 1e-3, 1e-1, 10.0)
MAX_ROUNDS = 100

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Constants before and after a fit, without those on which no estimate depends.

    ``errors`` are root mean squares of log(estimate / time) before and after; ``clock`` is the
    number of cycles per unit of time after, ``count`` the number of times. ``limited`` names the
    constants that end at the limit of the search.
    """

    before: dict[str, float]
    after: dict[str, float]
    errors: tuple[float, float]
    clock: float
    count: int
    limited: tuple[str, ...]


def fit(arch: _C.Arch, entries: Iterable[Entry]) -> Fit:
    """Return the rates of ``arch`` that fit the times in ``entries`` best.

    The rate of tensor cores stays: the clock scales all estimates alike. Raises ``ValueError`` if
    the entries have too few times.
    """
    samples = [(entry, name) for entry in entries for name in entry.times]
    samples = [(entry, name) for entry, name in samples if entry.op in ("conv3x3", "linear")]
    times = np.log([entry.times[name] for entry, name in samples])

    def estimates(rates: dict[str, float]) -> Vector:
        target = arch.with_rates(**rates)
        return np.log([_cycles(entry, name, target) for entry, name in samples])

    fixed = KNOWN if arch.families else (*KNOWN, "mma_macs")
    names = [
        name for name, value in arch.rates.items()
        if name not in fixed and value > 0
        and any(np.any(estimates({name: value * f}) != estimates({})) for f in (0.5, 2.0))
    ]  # fmt: skip
    if not names or len(samples) < len(names) + 2:
        raise ValueError(
            f"--fit: expected at least {len(names) + 2} measured kernels, got {len(samples)}; run "
            '"vgg-cuda tune" for a network with several batch sizes first'
        )
    start = np.log([arch.rates[name] for name in names])
    low, high = start - np.log(MAX_CHANGE), start + np.log(MAX_CHANGE)
    high = np.where(np.isin(names, FRACTIONS), np.minimum(high, 0.0), high)

    def rates_at(x: Vector) -> dict[str, float]:
        return dict(zip(names, np.exp(x).tolist(), strict=True))

    def residuals(x: Vector) -> Vector:
        return np.asarray(estimates(rates_at(x)) - times)

    found = _search(residuals, start, low, high)
    last = residuals(found)
    errors = float(residuals(start).std()), float(last.std())
    clock = float(np.exp(last.mean()))
    ends = np.isclose(found, low) | np.isclose(found, high)
    limited = tuple(name for name, is_end in zip(names, ends, strict=True) if is_end)
    before = {name: arch.rates[name] for name in names}
    after = {name: float(f"{value:.6g}") for name, value in rates_at(found).items()}
    return Fit(before, after, errors, clock, len(samples), limited)


def _cycles(entry: Entry, variant: str, arch: _C.Arch) -> float:
    plan: Callable[..., _C.Plan] = getattr(_C, f"plan_{entry.op}")
    return plan(*entry.sizes, **entry.options, variant=variant, arch=arch).estimate["cycles"]


def _search(
    residuals: Callable[[Vector], Vector], start: Vector, low: Vector, high: Vector
) -> Vector:
    """Return the x between ``low`` and ``high`` with the least deviation of residuals."""
    best, least, step = start, float(residuals(start).std()), np.log(FIRST_STEP)
    for _ in range(MAX_ROUNDS):
        before = least
        moves = list(step * np.eye(len(start)))
        for move in [*_newton_moves(residuals, best), *moves, *(-move for move in moves)]:
            x = np.clip(best + move, low, high)
            error = float(residuals(x).std())
            if error < least:
                best, least = x, error
        if least > before * (1 - 1e-4):
            if step <= np.log(LAST_STEP):
                break
            step /= 2
    return best


def _newton_moves(residuals: Callable[[Vector], Vector], x: Vector) -> list[Vector]:
    """Return the steps to the least squares of linearized residuals, with several dampings."""
    h = 1e-3
    columns = [(residuals(x + h * e) - residuals(x - h * e)) / (2 * h) for e in np.eye(len(x))]
    jacobian = np.stack(columns, axis=1)
    jacobian -= jacobian.mean(axis=0)
    centered = residuals(x) - residuals(x).mean()
    square, gradient = jacobian.T @ jacobian, jacobian.T @ centered
    ridge = np.trace(square) / len(x) * np.eye(len(x))
    return [
        -np.linalg.lstsq(square + damping * ridge, gradient, rcond=1e-12)[0] for damping in DAMPING
    ]
