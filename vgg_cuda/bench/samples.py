"""Medians of times, how sure they are, and when enough is measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

LEAST = 6
"""Samples: of fewer no pair holds the median in 95 % of all cases."""

MOST = 2000


@dataclass(frozen=True)
class Summary:
    """Of several times of one call, in seconds.

    ``confidence``: the 95 % interval of the median from order statistics, which assumes nothing of
    how times are distributed; of fewer than ``LEAST`` samples all that was seen, which is less.
    """

    samples: int
    median: float
    iqr: float
    confidence: tuple[float, float]
    percentiles: dict[str, float]

    @property
    def noise(self) -> float:
        """The width of the interval as a part of the median."""
        low, high = self.confidence
        return (high - low) / self.median if self.median > 0 else math.inf


def summarize(times: Sequence[float]) -> Summary:
    """Raises ``ValueError`` for no times at all."""
    if not times:
        raise ValueError("no times to summarize")
    ordered = sorted(times)
    low, high = interval(len(ordered))
    percentiles = {f"p{p}": quantile(ordered, p / 100) for p in (50, 90, 95, 99)}
    return Summary(
        samples=len(ordered),
        median=statistics.median(ordered),
        iqr=quantile(ordered, 0.75) - quantile(ordered, 0.25),
        confidence=(ordered[low], ordered[high]),
        percentiles=percentiles,
    )


def quantile(ordered: Sequence[float], part: float) -> float:
    """Linear between neighbours, as NumPy's default."""
    place = part * (len(ordered) - 1)
    below = min(int(place), len(ordered) - 2) if len(ordered) > 1 else 0
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@lru_cache(maxsize=4096)
def interval(n: int) -> tuple[int, int]:
    """Indices into ``n`` ordered samples that enclose the median in at least 95 % of all cases.

    How many samples are below the median is binomial: the interval leaves out as many at each end
    as come with a probability of at most 2.5 %.
    """
    allowed = 2**n // 40  # 2.5 % of all outcomes
    cumulative, outcomes, left_out = 0, 1, 0
    for k in range(n // 2):
        cumulative += outcomes  # of at most k below
        if cumulative > allowed:
            break
        left_out = k + 1
        outcomes = outcomes * (n - k) // (k + 1)
    first = max(left_out - 1, 0)
    return first, n - 1 - first


def enough(times: Sequence[float], noise: float, least: int = LEAST) -> bool:
    """Is the median known to within ``noise``, or are there as many samples as anyone wants?"""
    if len(times) < least:
        return False
    return len(times) >= MOST or summarize(times).noise <= noise
