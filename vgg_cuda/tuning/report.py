"""Results of tuning for a forward, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .entries import Entry
from .problems import APART, BlockProblem, Problem


@dataclass(frozen=True)
class Row:
    """One operation of a forward, and its entry; None if there is none."""

    layer: str
    entry: Entry | None

    @property
    def gain(self) -> float | None:
        """Time that the chosen variant saves, as a fraction of the plan's own choice's time."""
        if self.entry is None or self.entry.planned_time is None:
            return None
        return 1 - self.entry.time / self.entry.planned_time

    def error(self, rate: float) -> float | None:
        """Return the relative error of the estimate, for a clock of ``rate`` cycles per unit."""
        cycles = None if self.entry is None else self.entry.cycles.get(self.entry.variant)
        if self.entry is None or cycles is None:
            return None
        return cycles / (rate * self.entry.time) - 1


class Rows:
    """Collector of rows: the ``report`` of a :class:`~vgg_cuda.tuning.TunedPlanner`.

    ``layers`` are the packed layers of the network by name.
    """

    def __init__(self, layers: Mapping[str, Any]) -> None:
        self._names = {id(layer): name for name, layer in layers.items()}
        self._apart: Any = None
        self.rows: list[Row] = []

    def __call__(self, problem: Problem, entry: Entry | None) -> None:
        """Add a row; the second convolution of a block has none, its time is the block's."""
        if problem.layers[0] is self._apart:
            return
        if isinstance(problem, BlockProblem) and entry is not None and entry.variant == APART:
            self._apart = problem.layers[1]
        names = [self._names[id(layer)] for layer in problem.layers]
        self.rows.append(Row(" ".join(names), entry))

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


def clock_rate(entries: Iterable[Entry]) -> float:
    """Return the cycles per unit of time for which the estimates fit the measurements best."""
    rows = [Row("", entry) for entry in entries if entry.variant in entry.times]
    ratios = [math.log(error + 1) for row in rows if (error := row.error(1.0)) is not None]
    return math.exp(sum(ratios) / len(ratios)) if ratios else 1.0


def totals(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the sums of the chosen variants' times and of those that plans choose themselves."""
    entries = [row.entry for row in rows if row.entry is not None]
    planned = sum(e.time if e.planned_time is None else e.planned_time for e in entries)
    return sum(entry.time for entry in entries), planned
