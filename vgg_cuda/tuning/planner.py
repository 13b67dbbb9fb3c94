"""Planner that prefers the variants that tuning found."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .. import _C
from ..backends.operations import Operation, Planner, Spec
from ..images.presets import Preset
from .entries import Entries, Entry
from .problems import APART, BlockProblem, ConvProblem, LinearProblem, Problem
from .tuner import Tuner

_measuring = threading.Lock()  # measurements at the same time would disturb each other


class TunedPlanner(Planner):
    """Planner for ``arch`` that uses ``entries``; with a ``tuner``, missing ones are measured.

    The first plan of an operation is the time to measure it: its weights are known, and nothing is
    captured yet. ``report`` is called for every operation that has variants, in the order of plans.
    """

    def __init__(
        self,
        arch: _C.Arch,
        entries: Entries,
        tuner: Tuner | None = None,
        report: Callable[[Problem, Entry | None], None] | None = None,
    ) -> None:
        super().__init__(arch)
        self._entries, self._tuner, self._report = entries, tuner, report
        self._missing = [f for f in _C.arch(arch.name).families if f not in arch.families]

    def conv3x3(
        self, x: Spec, packed: Any, *, relu: bool, pool: bool, preset: Preset | None = None,
        aligned: bool = True, variant: str | None = None,
    ) -> Operation:  # fmt: skip
        if variant is None and _not_empty(x):
            variant = self._chosen(ConvProblem(x, (packed,), relu, pool, aligned))
        return super().conv3x3(
            x, packed, relu=relu, pool=pool, preset=preset, aligned=aligned, variant=variant
        )

    def fused_conv1_block(
        self, x: Spec, first: Any, second: Any, *, preset: Preset | None = None,
        aligned: bool = True,
    ) -> Operation | None:  # fmt: skip
        """Return None also if two convolutions are faster."""
        if _not_empty(x):
            problem = BlockProblem(x, (first, second), preset, aligned)
            if self._tuner is not None and problem.variants(self.arch):
                z = super().conv3x3(x, first, relu=True, pool=False, preset=preset).y
                found = self._entry(problem.apart(z))
                problem = replace(problem, second=None if found is None else found.variant)
            if self._chosen(problem) == APART:
                return None
        return super().fused_conv1_block(x, first, second, preset=preset, aligned=aligned)

    def linear(
        self, x: Spec, packed: Any, *, relu: bool, aligned: bool = True, variant: str | None = None
    ) -> Operation:
        if variant is None and _not_empty(x):
            variant = self._chosen(LinearProblem(x, (packed,), relu, aligned))
        return super().linear(x, packed, relu=relu, aligned=aligned, variant=variant)

    def _chosen(self, problem: Problem) -> str | None:
        """Return the variant to use, after the report; None for the plan's own choice."""
        entry = self._entry(problem)
        if self._report is not None and problem.variants(self.arch):
            self._report(problem, entry)
        return None if entry is None else entry.variant

    def _entry(self, problem: Problem) -> Entry | None:
        available = problem.variants(self.arch)
        entry = self._find(problem.key, available)
        if entry is not None or self._tuner is None or not available:
            return entry
        with _measuring:
            entry = self._find(problem.key, available)  # another thread may have measured it
            if entry is None:
                entry = self._tuner.tune(problem, self.arch)
                if entry is not None:
                    self._entries.add(self._key(problem.key), entry)
        return entry

    def _find(self, key: str, available: list[str]) -> Entry | None:
        """Return the entry of an operation, if its variant is available.

        An entry that was measured with all families is also the best without families that it did
        not choose; an entry that was measured without families is not the best with them.
        """
        for name in (self._key(key), key):
            entry = self._entries.get(name)
            if entry is not None and entry.variant in available:
                return entry
        return None

    def _key(self, key: str) -> str:
        """Return the key of entries that are found with the present families."""
        return f"{key} without {','.join(self._missing)}" if self._missing else key


def _not_empty(x: Spec) -> bool:
    return all(x.shape)
