"""Comparison of a step's result with its exact value and bounds: verdict and worst element."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .operands import rounded_from
from .steps import Exact, Step

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Worst:
    """The element whose error is the largest fraction of its bound."""

    index: tuple[int, ...]
    got: float
    expected: float
    bound: float


@dataclass
class Row:
    """The comparison of one step of a forward.

    - ``of_bound``: the largest error, as a fraction of its bound, that a sum must have had to be
      rounded to the result; a value above 1 is a fault.
    - ``relative_l2``: relative L2 error of this step alone, computed from the step's own input.
    - ``since_input``: relative L2 error against a forward in float64 of the given weights; it
      includes all roundings before this step.
    - ``verdict``: "ok", "wrong", "overflow" (correctly infinite, beyond the dtype's range) or "not
      finite".
    - ``counts``: number of elements by fault; "inherited" elements are not finite because the
      step's input or weights are not.
    - ``infinite_weights``: number of weights beyond the dtype's range.
    """

    name: str
    tap: str
    shape: tuple[int, ...]
    kernels: list[str]
    dtype: str
    infinite_weights: int = 0
    of_bound: float = 0.0
    worst: Worst | None = None
    elements: int = 0
    counts: dict[str, int] = field(
        default_factory=lambda: {"wrong": 0, "overflow": 0, "not finite": 0, "inherited": 0}
    )
    _squares: list[float] = field(default_factory=lambda: [0.0] * 6)

    @property
    def verdict(self) -> str:
        """The most serious fault, or "ok"."""
        if self.counts["wrong"]:
            return "wrong"
        if self.counts["not finite"]:
            return "not finite"
        if self.counts["overflow"] or self.infinite_weights:
            return "overflow"
        return "not finite" if self.counts["inherited"] else "ok"

    @property
    def relative_l2(self) -> float:
        """Relative L2 error of the finite elements from the step's input; NaN without any."""
        return _ratio(*self._squares[:3])

    @property
    def since_input(self) -> float:
        """Relative L2 error of the finite elements from the network's input; NaN without any."""
        return _ratio(*self._squares[3:])

    def add(self, step: Step, y: NDArray[Any], exact: Exact, input_finite: bool) -> None:
        """Compare the part ``exact`` of a result ``y`` [N,...,K]."""
        y = y[exact.images, ..., exact.channels]
        self.elements += y.size
        got = y.astype(np.float64)
        expected = np.maximum(exact.y, 0) if step.relu else exact.y
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            of_bound = self._of_bound(step, y, got, exact)
        known = np.isfinite(exact.low) & np.isfinite(exact.high)
        finite = np.isfinite(got)
        within = of_bound <= 1
        wrong = finite & known & ~within
        if input_finite:  # otherwise one backend may give zero and another NaN
            wrong |= finite & ~known & (got != expected)
        overflow = np.isinf(got) & known & within
        lost = ~finite & known & ~within
        inherited = ~finite & ~known
        if not input_finite:
            lost, inherited = np.zeros_like(lost), inherited | lost
        found = (wrong, overflow, lost, inherited)
        for name, where in zip(self.counts, found, strict=True):
            self.counts[name] += int(where.sum())
        both = finite & np.isfinite(expected)
        self._count_squares(0, got, expected, both)
        rank = np.where(both & known | wrong | lost, of_bound, -1.0)
        if not rank.any():  # the last rounding explains all errors: take its largest
            allowed = _allowed_error(y, got, exact)
            off = np.abs(got - expected) / np.where(allowed > 0, allowed, 1)
            at = np.unravel_index(int(np.where(both, off, -1).argmax()), off.shape)
        else:
            at = np.unravel_index(int(rank.argmax()), rank.shape)
        part = float(rank[at])
        if part >= 0 and (self.worst is None or part > self.of_bound):
            self._set_worst(at, part, got, expected, exact, y)

    def add_since_input(self, y: NDArray[Any], expected: Float64, exact: Exact) -> None:
        """Compare the part ``exact`` of ``y`` with a forward in float64, ``expected``."""
        got = y[exact.images, ..., exact.channels].astype(np.float64)
        self._count_squares(3, got, expected, np.isfinite(got) & np.isfinite(expected))

    def merge(self, other: Row, images: int) -> None:
        """Add the same step of another batch, whose first image has the number ``images``."""
        self.shape = (self.shape[0] + other.shape[0], *self.shape[1:])
        self.kernels += [kernel for kernel in other.kernels if kernel not in self.kernels]
        self.elements += other.elements
        self._squares = [a + b for a, b in zip(self._squares, other._squares, strict=True)]
        for name, count in other.counts.items():
            self.counts[name] += count
        if other.worst is not None and (self.worst is None or other.of_bound > self.of_bound):
            first, *rest = other.worst.index
            self.worst = replace(other.worst, index=(images + first, *rest))
            self.of_bound = other.of_bound

    def _count_squares(
        self, first: int, got: Float64, expected: Float64, where: NDArray[np.bool_]
    ) -> None:
        error, values = (got - expected)[where], expected[where]
        self._squares[first] += float(error @ error)
        self._squares[first + 1] += float(values @ values)
        self._squares[first + 2] += error.size

    def _of_bound(self, step: Step, y: NDArray[Any], got: Float64, exact: Exact) -> Float64:
        """Return the smallest error that rounds to y, as a fraction of the allowed error."""
        low, high = rounded_from(y)
        if step.relu:
            low = np.where(got == 0, -np.inf, low)
        up, down = low - exact.y, exact.y - high
        part = np.where(up > 0, up / (exact.high - exact.y), 0.0)
        part = np.where(down > 0, down / (exact.y - exact.low), part)
        impossible = np.isnan(got) | ((got < 0) & step.relu)
        return np.where(impossible | np.isnan(part), np.inf, part)

    def _set_worst(
        self, at: tuple[Any, ...], part: float, got: Float64, expected: Float64, exact: Exact,
        y: NDArray[Any],
    ) -> None:  # fmt: skip
        """Store the element ``at`` as the worst, with its index in the whole result."""
        index = [int(i) for i in at]
        index[0] += exact.images.start or 0
        index[-1] += exact.channels.start or 0
        bound = float(_allowed_error(y, got, exact)[at])
        self.of_bound = part
        self.worst = Worst(tuple(index), float(got[at]), float(expected[at]), bound)


def _allowed_error(y: NDArray[Any], got: Float64, exact: Exact) -> Float64:
    """Return the largest error that the bound of the sum and the last rounding allow."""
    low, high = rounded_from(y)
    above = exact.high - exact.y + got - low
    below = exact.y - exact.low + high - got
    return np.where(got > exact.y, above, below)


def _ratio(error: float, of: float, count: float) -> float:
    if not count:
        return math.nan
    if not error:
        return 0.0
    return math.sqrt(error / of) if of else math.inf
