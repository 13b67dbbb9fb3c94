"""A step's result beside its exact value: how far off it is, where, and whether that can be."""

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
    """The element whose error is the largest part of its bound."""

    index: tuple[int, ...]
    got: float
    expected: float
    bound: float


@dataclass
class Row:
    """One step of a forward.

    ``of_bound`` is the largest part of its bound that any sum must be off by to have been rounded
    to what came; beyond 1 it cannot be. ``since_input`` is the relative L2 to a float64 forward of
    the weights as given, all roundings before this step included; ``relative_l2`` is that of this
    step alone, from the input that it had. ``verdict``: "ok", "wrong", "overflow" (beyond the
    dtype's range, rightly infinite) or "not finite". ``counts`` says how many elements are bad, and
    how many are "inherited": not finite because the step's input or weights are not, of which
    ``infinite_weights`` were beyond the dtype's range.
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
        """The worst that was found; "ok" where nothing was."""
        if self.counts["wrong"]:
            return "wrong"
        if self.counts["not finite"]:
            return "not finite"
        if self.counts["overflow"] or self.infinite_weights:
            return "overflow"
        return "not finite" if self.counts["inherited"] else "ok"

    @property
    def relative_l2(self) -> float:
        """Of the finite elements, from the step's own input; NaN where there is none."""
        return _ratio(*self._squares[:3])

    @property
    def since_input(self) -> float:
        """Of the finite elements, from the network's input; NaN where there is none."""
        return _ratio(*self._squares[3:])

    def add(self, step: Step, y: NDArray[Any], exact: Exact, input_finite: bool) -> None:
        """Holds a part of a result, ``y`` [N,...,K], against its exact value."""
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
        if input_finite:  # where it is not, one backend's zero is another's NaN
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
        if not rank.any():  # the last rounding explains all: what it moved most
            room = _room(y, got, exact)
            off = np.abs(got - expected) / np.where(room > 0, room, 1)
            at = np.unravel_index(int(np.where(both, off, -1).argmax()), off.shape)
        else:
            at = np.unravel_index(int(rank.argmax()), rank.shape)
        part = float(rank[at])
        if part >= 0 and (self.worst is None or part > self.of_bound):
            self._place(at, part, got, expected, exact, y)

    def add_since_input(self, y: NDArray[Any], expected: Float64, exact: Exact) -> None:
        """The same part beside the forward in float64, ``expected``."""
        got = y[exact.images, ..., exact.channels].astype(np.float64)
        self._count_squares(3, got, expected, np.isfinite(got) & np.isfinite(expected))

    def merge(self, other: Row, images: int) -> None:
        """Adds the same step of another batch, whose first image is number ``images``."""
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
        """The least error that rounds to y, as a part of the most that there may be."""
        low, high = rounded_from(y)
        if step.relu:
            low = np.where(got == 0, -np.inf, low)
        up, down = low - exact.y, exact.y - high
        part = np.where(up > 0, up / (exact.high - exact.y), 0.0)
        part = np.where(down > 0, down / (exact.y - exact.low), part)
        impossible = np.isnan(got) | ((got < 0) & step.relu)
        return np.where(impossible | np.isnan(part), np.inf, part)

    def _place(
        self, at: tuple[Any, ...], part: float, got: Float64, expected: Float64, exact: Exact,
        y: NDArray[Any],
    ) -> None:  # fmt: skip
        """Keeps ``at``, in the whole result's coordinates, as the worst element."""
        index = [int(i) for i in at]
        index[0] += exact.images.start or 0
        index[-1] += exact.channels.start or 0
        bound = float(_room(y, got, exact)[at])
        self.of_bound = part
        self.worst = Worst(tuple(index), float(got[at]), float(expected[at]), bound)


def _room(y: NDArray[Any], got: Float64, exact: Exact) -> Float64:
    """How far off an element may be: its sum, and what the last rounding does to that."""
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
