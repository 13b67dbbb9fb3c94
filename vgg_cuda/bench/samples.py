"""Statistics of measured times: median, confidence interval, and when to stop sampling."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

MIN_SAMPLES = 6
"""With fewer samples, no interval between two of them covers the median in 95 % of cases."""

MAX_SAMPLES = 2000


@dataclass(frozen=True)
class Summary:
    """Statistics of several times of one call, in seconds.

    ``confidence`` is the 95 % interval of the median from order statistics, which assumes no
    distribution. With fewer than ``MIN_SAMPLES`` samples it is their range, which covers less.
    """

    samples: int
    median: float
    iqr: float
    confidence: tuple[float, float]
    percentiles: dict[str, float]

    @property
    def noise(self) -> float:
        """Width of the confidence interval relative to the median."""
        low, high = self.confidence
        return (high - low) / self.median if self.median > 0 else math.inf


def summarize(times: Sequence[float]) -> Summary:
    """Return the statistics of ``times``. Raises ``ValueError`` if there are none."""
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
    """Return a quantile, interpolated linearly as NumPy does by default."""
    place = part * (len(ordered) - 1)
    below = min(int(place), len(ordered) - 2) if len(ordered) > 1 else 0
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@lru_cache(maxsize=4096)
def interval(n: int) -> tuple[int, int]:
    """Return indices into ``n`` ordered samples that enclose the median in 95 % of cases.

    The number of samples below the median is binomial: the interval leaves out as many samples at
    each end as lie beyond the median with a probability of at most 2.5 %.
    """
    allowed = 2**n // 40  # 2.5 % of all outcomes
    cumulative, outcomes, left_out = 0, 1, 0
    for k in range(n // 2):
        cumulative += outcomes  # with at most k samples below the median
        if cumulative > allowed:
            break
        left_out = k + 1
        outcomes = outcomes * (n - k) // (k + 1)
    first = max(left_out - 1, 0)
    return first, n - 1 - first


def enough(times: Sequence[float], noise: float) -> bool:
    """Return whether the median is known to within ``noise``, or the sample limit is reached."""
    if len(times) < MIN_SAMPLES:
        return False
    return len(times) >= MAX_SAMPLES or summarize(times).noise <= noise
