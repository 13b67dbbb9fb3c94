"""How variants are ranked: by the time that a GPU takes, or by the emulator's counters."""

from __future__ import annotations

from typing import Any, Protocol

from .. import _C
from ..backends.emulator import EmulatorBackend
from ..backends.kernels import KernelBackend
from ..backends.options import options
from . import counters
from .clock import CudaTimer, Timer
from .problems import Chain, Problem
from .trial import Trial, working_set


class Meter(Protocol):
    """A measure of variants, in ``unit``; the least is the best."""

    unit: str

    @property
    def scratch_bytes(self) -> int:
        """Device memory that :meth:`cost` allocates."""
        ...

    def sized(self, problem: Problem, arch: _C.Arch) -> Problem:
        """Return the operation to run in place of ``problem``, of the same or smaller sizes."""
        ...

    def executor(self) -> _C.Executor:
        """Return an executor on the current stream."""
        ...

    def cost(self, trial: Trial, problem: Problem, chain: Chain, full: Chain) -> float:
        """Return the measure of ``full``, the launches at full size.

        ``problem`` and ``chain`` are those to run, for which ``trial`` was made.
        """
        ...


class Clocked:
    """Microseconds on a GPU. The L2 cache is cleared for operands below twice its size."""

    unit = "us"

    def __init__(self, backend: KernelBackend, timer: Timer) -> None:
        self._on, self._timer = backend, timer
        self.scratch_bytes = timer.scratch_bytes

    def sized(self, problem: Problem, arch: _C.Arch) -> Problem:
        return problem

    def executor(self) -> _C.Executor:
        return self._on.executor()

    def cost(self, trial: Trial, problem: Problem, chain: Chain, full: Chain) -> float:
        def run() -> None:
            trial.run(chain, trial.y, self.executor)

        clear_cache = working_set(problem, chain) < 2 * self._timer.cache_bytes
        return 1e6 * self._timer.measure(run, clear_cache)


class Counted:
    """Cycles from the emulator's counters, as ``counters.py`` defines them; not a measurement."""

    unit = "cycles"
    scratch_bytes = 0

    def __init__(self, backend: EmulatorBackend) -> None:
        self._on = backend

    def sized(self, problem: Problem, arch: _C.Arch) -> Problem:
        small = problem.reduced(counters.MAX_MACS)
        return small if small.variants(arch) == problem.variants(arch) else problem

    def executor(self) -> _C.Emulator:
        with options(races=False):  # the check of races takes most of the time
            return self._on.executor()

    def cost(self, trial: Trial, problem: Problem, chain: Chain, full: Chain) -> float:
        executors: list[_C.Emulator] = []

        def executor() -> _C.Executor:
            executors.append(self.executor())
            return executors[-1]

        trial.run(chain, trial.y, executor)
        total = 0.0
        for used, small, planned in zip(executors, chain, full, strict=True):
            assert small.plan is not None
            assert planned.plan is not None
            total += counters.cycles(used.counters(), small.plan, planned.plan, self._on.arch)
        return total


def meter_for(backend: Any) -> Meter:
    """Return the meter of a backend's device."""
    if isinstance(backend, EmulatorBackend):
        return Counted(backend)
    return Clocked(backend, CudaTimer(backend))
