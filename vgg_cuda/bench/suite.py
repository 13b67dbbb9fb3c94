"""A benchmark run: start the workers, measure ceilings and all work, and return a report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..system.files import temporary_folder
from ..system.interruption import Interrupted, Interruption
from ..text import plain
from ..weights import save
from . import machine, results
from .measure import Measurements, Timeouts, answer, measure
from .options import MIN_BUDGET_S, Settings
from .peers import CEILINGS, OURS, ceilings
from .report import Report
from .truth import truth
from .work import Job, Work
from .workers import PeerFailed, Worker

CEILING_S = 2.0  # time limit of each ceiling
CEILING_SHARE = 0.05  # of the budget
MAX_RESTARTS = 2  # of a program that crashed or hung

Start = Callable[[str, Interruption], Worker]


class Suite:
    """One benchmark run with ``settings``.

    ``say`` receives progress messages; ``start`` makes workers. Raises ``ValueError`` for settings
    that a report cannot hold.
    """

    def __init__(
        self, settings: Settings, stop: Interruption, say: Callable[[str], None] = lambda _: None,
        start: Start = Worker,
    ) -> None:  # fmt: skip
        self._settings, self._stop, self._say, self._start = settings, stop, say, start
        self._end = None if settings.budget is None else time.monotonic() + settings.budget
        self._workers: dict[str, Worker] = {}
        self._load_s: dict[str, float] = {}
        self._failures: dict[str, PeerFailed] = {}
        self._restarts: dict[str, int] = {}
        self._truths: dict[Any, tuple[str, float]] = {}
        self._names = (OURS, *settings.peers)
        self.report = results.empty_report(settings)
        self.report.to_json()
        self.error: OSError | MemoryError | None = None

    def run(self) -> Report:
        """Measure everything and return the report; no started process is left.

        The report is ``interrupted`` after a signal or a system error, such as a full disk or lack
        of memory in this process; ``error`` then holds the system error.
        """
        try:
            with temporary_folder("vgg-cuda-bench-") as folder:
                self._measure(folder)
        except Interrupted:
            self.report.interrupted = True
        except (OSError, MemoryError) as error:
            self.report.interrupted, self.error = True, error
        finally:
            for worker in self._workers.values():
                worker.close()
        if self.report.kind != "profile":
            self.report.results = results.with_ratios(self.report.results)
        self.report.environment["after"] = machine.state(self._settings.job.device)
        return self.report

    def _measure(self, folder: Path) -> None:
        settings, job = self._settings, self._settings.job
        if settings.weights is not None:
            self._say("writing the weights")
            path = folder / "weights.safetensors"
            save(settings.weights, path)
            job = replace(job, weights=str(path))
        first = [*self._names] if settings.on_emulator else [CEILINGS, *self._names]
        self._open(first, job)
        self._truth(settings.works[0], job, folder)  # while the programs load
        self._wait_loaded(first)
        self._ceilings()
        for i, work in enumerate(settings.works):
            left = self._left()
            if left is not None and left < MIN_BUDGET_S:
                reason = f"no time: the budget is {settings.budget:g} s"
                for name in self._names:
                    self._enter(work, name, Measurements("n/a", reason))
                continue
            exact, bound = self._truth(work, job, folder)
            self._stop.check()
            self._restart(job)
            self._measure_work(work, exact, bound, self._timeouts(len(settings.works) - i))

    def _measure_work(self, work: Work, exact: str, bound: float, timeouts: Timeouts) -> None:
        """Measure one piece of work with all programs, and enter the results into the report."""
        workers = [self._workers[name] for name in self._names if name in self._workers]
        found: dict[str, Measurements] = {}
        complete = False
        try:
            measure(
                work, workers, exact=exact, bound=bound, noise=self._settings.noise,
                timeouts=timeouts, say=self._say, found=found,
            )  # fmt: skip
            complete = True
        finally:  # an interrupted run enters what was measured until then
            if complete or any(taken.has_figures for taken in found.values()):
                for name in self._names:
                    taken = found.get(name)
                    if taken is None and (failure := self._failures.get(name)) is not None:
                        taken = Measurements(failure.status, str(failure))
                    if taken is not None and (taken.has_figures or taken.status != "ok"):
                        self._enter(work, name, taken)

    def _enter(self, work: Work, name: str, taken: Measurements) -> None:
        given: dict[str, Any] = {
            "dtype": self._settings.job.dtype, "size": self._settings.size,
            "ceilings": self.report.ceilings,
        }  # fmt: skip
        if work.kind == "profile":
            rows = results.profile_results(work, taken, **given)
        else:
            rows = [results.result(work, name, taken, load_s=self._load_s.get(name), **given)]
        rows = [results.valid(row, self.report) for row in rows]
        self.report.results += rows

    # ---- Workers ----

    def _open(self, names: list[str], job: Job) -> None:
        """Start workers, which load their programs at the same time."""
        for name in names:
            worker = self._workers[name] = self._start(name, self._stop)
            self._failures.pop(name, None)
            worker.send({"do": "open", "peer": name, "job": job})

    def _wait_loaded(self, names: list[str]) -> None:
        for name in names:
            self._say(f"loading {name}")
            try:
                reply = answer(self._workers[name], "open", self._settings.timeouts.prepare)
            except PeerFailed as failure:
                self._failures[name] = failure
                self._workers.pop(name).close()
                continue
            self._load_s[name] = reply["load_s"]
            self.report.versions |= {k: plain(str(v)) for k, v in reply["versions"].items()}

    def _restart(self, job: Job) -> None:
        """Restart the workers that died, for the remaining work."""
        dead = [n for n in self._names if n in self._workers and not self._workers[n].alive]
        for name in list(dead):
            self._restarts[name] = self._restarts.get(name, 0) + 1
            if self._restarts[name] > MAX_RESTARTS:
                del self._workers[name]
                self._failures[name] = PeerFailed("failed", f"died {MAX_RESTARTS + 1} times before")
                dead.remove(name)
        self._open(dead, job)
        self._wait_loaded(dead)

    # ---- Exact results and ceilings ----

    def _truth(self, work: Work, job: Job, folder: Path) -> tuple[str, float]:
        """Return the file of the first images' exact result, and the bound on the error.

        Both are computed once for all batch sizes.
        """
        few = work.few()
        key = (few.layers, few.shape)
        if key not in self._truths:
            self._say(f"{work.name}: computing the reference")
            exact, bound = truth(few.layers, few.tensors(job), few.input(job.seed), job.dtype)
            path = folder / f"exact{len(self._truths)}.npy"
            np.save(path, exact.astype(np.float32))
            self._truths[key] = str(path), bound
        return self._truths[key]

    def _ceilings(self) -> None:
        """Measure the ceilings and enter them into the report, or the reason of a missing one."""
        settings, left, missing = self._settings, self._left(), {}
        worker, failure = self._workers.get(CEILINGS), self._failures.pop(CEILINGS, None)
        if worker is None and failure is None:  # on the emulator
            return
        limit = CEILING_S if left is None else min(CEILING_S, left * CEILING_SHARE)
        timeouts = replace(settings.timeouts, sampling=min(limit, settings.timeouts.sampling))
        for work in ceilings.works(settings.job):
            if worker is None:
                missing[work.name] = f"{failure.status} ({failure})" if failure else ""
            elif left is not None and left < MIN_BUDGET_S:
                missing[work.name] = "no time"
            elif not worker.alive:
                missing[work.name] = "failed (its process had ended)"
            else:
                (taken,) = measure(
                    work, [worker], exact=None, bound=0, noise=settings.noise, timeouts=timeouts,
                    say=self._say,
                ).values()  # fmt: skip
                if taken.times:
                    self.report.ceilings[work.name] = results.ceiling(
                        work, taken, settings.job.dtype
                    )
                else:
                    missing[work.name] = f"{taken.status} ({taken.reason})"
        if missing:
            self.report.environment["no_ceilings"] = missing
        if worker is not None:
            self._workers.pop(CEILINGS).close()

    # ---- Time ----

    def _left(self) -> float | None:
        return None if self._end is None else self._end - time.monotonic()

    def _timeouts(self, works: int) -> Timeouts:
        """Return the time limits of one of ``works`` remaining works: equal parts of the budget."""
        timeouts, left = self._settings.timeouts, self._left()
        if left is None:
            return timeouts
        each = left / works / len(self._names)
        return replace(
            timeouts, sampling=min(timeouts.sampling, max(each, 0.05)),
            prepare=min(timeouts.prepare, left + timeouts.grace),
        )  # fmt: skip
