"""Measurement of one operation's variants, and the comparison of their results."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .. import _C
from ..backends.families import PORTABLE
from ..backends.kernels import KernelBackend
from ..backends.operations import Planner
from ..system.notices import warn_once
from ..text import one_line
from . import operands
from .entries import Entry
from .meters import Meter
from .problems import FUSED, BlockProblem, Chain, Problem
from .trial import Trial, reserving

MAX_ESTIMATE = 1.5  # of the best estimate; variants beyond it are skipped
NOT_WRITTEN = 0xFF  # bytes of NaNs, which no kernel returns for these operands
WRONG = "its result differs from the portable kernel's"


class Tuner:
    """Finds the fastest variant of operations on one device.

    Variants whose estimate exceeds 1.5 times the best are skipped. The result of every other
    variant is compared with that of a portable kernel, to the bit, on integers whose sums are exact
    (``operands.py``). Variants with other results, and those that the driver refuses, are dropped
    and reported as :class:`~vgg_cuda.DeviceWarning`. The rest are measured on random images and on
    the weights of the network.
    """

    def __init__(self, backend: KernelBackend, meter: Meter) -> None:
        self._on, self._meter = backend, meter

    def tune(self, problem: Problem, arch: _C.Arch) -> Entry | None:
        """Return what was found for ``problem``; None if it cannot be measured, with a warning.

        Nothing is measured while the current stream captures a graph.
        """
        if self._on.is_capturing():
            return None
        planner = Planner(arch)
        planned = _planned(problem, planner)
        names = problem.variants(arch)
        all_chains = {name: problem.chain(planner, name, problem.layers) for name in names}
        kept = names if isinstance(problem, BlockProblem) else _promising(all_chains)
        chains = {name: all_chains[name] for name in kept}
        dropped: dict[str, str] = {}
        try:
            with self._on.active():
                times = self._measure(problem, planner, chains, dropped)
        except MemoryError as error:
            warn_once(f"{error}; the variant with the best estimate is used")
            return None
        except _C.LaunchRefused as error:
            warn_once(f"tuning {problem.key}: the portable kernel was refused: {error}")
            return None
        for name, reason in dropped.items():
            warn_once(f"tuning {problem.key}: {name} is not used: {reason}")
        if not times:
            warn_once(f"tuning {problem.key}: no variant is left")
            return None
        return Entry(
            op=problem.op,
            sizes=problem.sizes,
            options=problem.options,
            variant=min(times, key=lambda name: (times[name], name != planned)),
            planned=planned,
            times=times,
            cycles={name: cycles for name in kept if (cycles := _estimate(chains[name]))},
            candidates=len(names),
            dropped=dropped,
        )

    def _measure(
        self, problem: Problem, planner: Planner, full: Mapping[str, Chain], dropped: dict[str, str]
    ) -> dict[str, float]:
        """Return the measure of every variant that is right; add the others to ``dropped``."""
        on, meter = self._on, self._meter
        portable = Planner(planner.arch.without(_C.families()))
        run = meter.sized(problem, planner.arch)
        layouts = [run.chain(portable, None, run.layers)]
        layouts += [run.chain(planner, name, run.layers) for name in full]
        with reserving(on, run, layouts, meter.scratch_bytes):
            trial = Trial(on, run, layouts)
            exact = operands.exact_layers(on, run)
        check = operands.checked(run)
        operands.fill_exact(on, run, trial.x)
        trial.run(check.chain(portable, None, exact), trial.expected, meter.executor)
        right: list[str] = []
        for name in full:
            trial.y.reshape(-1).view("uint8").fill(NOT_WRITTEN)
            try:
                trial.run(check.chain(planner, name, exact), trial.y, meter.executor)
            except _C.LaunchRefused as error:
                dropped[name] = one_line(error)
                continue
            if operands.same(trial.y, trial.expected):
                right.append(name)
            else:
                dropped[name] = f'{WRONG}; run "vgg-cuda selftest" to test all kernels'
        layers = exact if run is not problem else problem.layers
        del exact
        operands.fill_random(on, run, trial.x)
        times: dict[str, float] = {}
        for name in right:
            chain = run.chain(planner, name, layers)
            times[name] = meter.cost(trial, run, chain, full[name])
        return times


def _estimate(chain: Chain) -> float:
    """Return the estimated cycles of all launches; 0 if a plan has no estimate."""
    cycles = [operation.plan.estimate.get("cycles", 0.0) for operation in chain if operation.plan]
    return sum(cycles) if all(cycles) else 0.0


def _promising(chains: Mapping[str, Chain]) -> list[str]:
    """Return the variants whose estimate is at most 1.5 times the best.

    Estimates of portable kernels come from another model: they have their own best.
    """
    best: dict[bool, float] = {}
    for chain in chains.values():
        portable = _is_portable(chain)
        best[portable] = min(best.get(portable, math.inf), _estimate(chain))
    return [n for n, c in chains.items() if _estimate(c) <= MAX_ESTIMATE * best[_is_portable(c)]]


def _is_portable(chain: Chain) -> bool:
    return all(operation.plan is None or operation.plan.family == PORTABLE for operation in chain)


def _planned(problem: Problem, planner: Planner) -> str:
    """Return the variant that is planned without tuning."""
    if isinstance(problem, BlockProblem):
        return FUSED
    [operation] = problem.chain(planner, None, problem.layers)
    assert operation.plan is not None
    return operation.plan.variant
