"""A whole run: workers are started, ceilings and all work measured, and a report comes out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..files import unfinished
from ..text import plain
from ..weights import save
from . import machine
from .ceiling import measured, none
from .connection import Process, Worker
from .interruption import Interrupted, Interruption
from .measure import Gone, Patience, Taken, answer, measure
from .options import LEAST_S, Asked
from .peers import CEILINGS, OURS
from .report import Report
from .reporting import empty_report, line, valid
from .results import profile_results, result, with_ratios
from .truth import truth
from .work import Job, Work

CEILING_S = 2.0  # of each
CEILING_PART = 0.05  # of a budget
RESTARTS = 2  # of one program that crashes or hangs, for the work after that

Start = Callable[[str, Interruption], Worker]


class Suite:
    """One run of what was ``asked``; ``say`` gets what happens now, ``start`` makes workers.

    Raises ``ValueError`` for what no report can hold.
    """

    def __init__(
        self, asked: Asked, stop: Interruption, say: Callable[[str], None] = lambda _: None,
        start: Start = Process,
    ) -> None:  # fmt: skip
        self._asked, self._stop, self._say, self._start = asked, stop, say, start
        self._end = None if asked.budget is None else time.monotonic() + asked.budget
        self._workers: dict[str, Worker] = {}
        self._loads: dict[str, float] = {}
        self._absent: dict[str, Gone] = {}
        self._restarts: dict[str, int] = {}
        self._truths: dict[Any, tuple[str, float]] = {}
        self._names = (OURS, *asked.peers)
        self.report = empty_report(asked)
        self.report.to_json()
        self.error: OSError | MemoryError | None = None

    def run(self) -> Report:
        """The report, ``interrupted`` where not all was measured.

        Either somebody wanted it to end, or there is an ``error`` now, which is no program's: no
        memory, no room for a file. Nothing that was started is left.
        """
        try:
            with _folder() as folder:
                self._measure(folder)
        except Interrupted:
            self.report.interrupted = True
        except (OSError, MemoryError) as error:
            self.report.interrupted, self.error = True, error
        finally:
            for worker in self._workers.values():
                worker.close()
        if self.report.kind != "profile":
            self.report.results = with_ratios(self.report.results)
        self.report.environment["after"] = machine.state(self._asked.job.device)
        return self.report

    def _measure(self, folder: Path) -> None:
        asked = self._asked
        job = asked.job
        if asked.weights is not None:
            self._say("the weights are written")
            path = folder / "weights.safetensors"
            save(asked.weights, path)
            job = replace(job, weights=str(path))
        first = [*self._names] if asked.on_emulator else [CEILINGS, *self._names]
        self._open(first, job)
        self._truth(asked.works[0], job, folder)  # while they load
        self._loaded(first)
        self._ceilings()
        for i, work in enumerate(asked.works):
            left = self._left()
            if left is not None and left < LEAST_S:
                self._no_time(work)
                continue
            exact, bound = self._truth(work, job, folder)
            self._stop.check()
            self._reopen(job)
            self._one(work, exact, bound, self._patience(len(asked.works) - i))

    def _one(self, work: Work, exact: str, bound: float, patience: Patience) -> None:
        """All programs on one piece of work, into the report."""
        asked = self._asked
        there = [self._workers[name] for name in self._names if name in self._workers]
        found: dict[str, Taken] = {}
        whole = False
        try:
            measure(
                work, there, exact=exact, bound=bound, noise=asked.noise, patience=patience,
                say=self._say, found=found,
            )  # fmt: skip
            whole = True
        finally:
            if whole or any(taken.has_figures for taken in found.values()):
                self._enter_all(work, found)

    def _enter_all(self, work: Work, found: dict[str, Taken]) -> None:
        """Whoever has figures, or a reason to have none."""
        for name in self._names:
            taken = found.get(name)
            if taken is None and name in self._absent:
                taken = _gone(self._absent[name])
            if taken is not None and (taken.has_figures or taken.status != "ok"):
                self._enter(work, name, taken)

    def _enter(self, work: Work, name: str, taken: Taken) -> None:
        asked, ceilings = self._asked, self.report.ceilings
        dtype, size = asked.job.dtype, asked.size
        if work.kind == "profile":
            rows = profile_results(work, taken, dtype=dtype, size=size, ceilings=ceilings)
        else:
            rows = [
                result(
                    work, name, taken, dtype=dtype, size=size, ceilings=ceilings,
                    load_s=self._loads.get(name),
                )
            ]  # fmt: skip
        rows = [valid(row, self.report) for row in rows]
        self.report.results += rows
        self._say(line(rows[0] if len(rows) == 1 else None, work, name))

    # ---- Workers ----

    def _open(self, names: list[str], job: Job) -> None:
        """Starts them; all load at once."""
        for name in names:
            worker = self._workers[name] = self._start(name, self._stop)
            self._absent.pop(name, None)
            worker.send({"do": "open", "peer": name, "job": asdict(job)})

    def _loaded(self, names: list[str]) -> None:
        """Waits for them."""
        for name in names:
            self._say(f"{name} is loaded")
            try:
                reply = answer(self._workers[name], "open", self._asked.patience.prepare)
            except Gone as gone:
                self._absent[name] = gone
                self._workers.pop(name).close()
                continue
            self._loads[name] = reply["load_s"]
            self.report.versions |= {k: plain(str(v)) for k, v in reply["versions"].items()}

    def _reopen(self, job: Job) -> None:
        """Those that a crash or a hang has ended, for the work that is left."""
        ended = [n for n in self._names if n in self._workers and not self._workers[n].alive]
        for name in ended:
            self._restarts[name] = self._restarts.get(name, 0) + 1
            if self._restarts[name] > RESTARTS:
                del self._workers[name]
                self._absent[name] = Gone("failed", f"ended {RESTARTS + 1} times before")
                ended = [n for n in ended if n != name]
        self._open(ended, job)
        self._loaded(ended)

    # ---- What is right, and what can be had ----

    def _truth(self, work: Work, job: Job, folder: Path) -> tuple[str, float]:
        """The file with the first images' result, and the bound; computed once for all batches."""
        few = work.few()
        key = (few.layers, few.shape)
        if key not in self._truths:
            self._say(f"{work.name}: the reference is computed")
            tensors = few.tensors(job)
            exact, bound = truth(few.layers, tensors, few.input(job.seed), job.dtype)
            path = folder / f"exact{len(self._truths)}.npy"
            np.save(path, exact.astype(np.float32))
            self._truths[key] = str(path), bound
        return self._truths[key]

    def _ceilings(self) -> None:
        """A copy and a product, into the report; without them there are no floors."""
        job, left = self._asked.job, self._left()
        worker, missing = self._workers.get(CEILINGS), {}
        if (gone := self._absent.pop(CEILINGS, None)) is not None:
            missing = none(job, f"{gone.status} ({gone})")
        elif worker is not None and left is not None and left < LEAST_S:
            missing = none(job, "no time")
        elif worker is not None:
            most = CEILING_S if left is None else min(CEILING_S, left * CEILING_PART)
            seconds = min(most, self._asked.patience.timeout)
            patience = replace(self._asked.patience, timeout=seconds)
            self.report.ceilings, missing = measured(
                worker, job, noise=self._asked.noise, patience=patience, say=self._say
            )
        if missing:
            self.report.environment["no_ceilings"] = missing
        if worker is not None:
            self._workers.pop(CEILINGS).close()

    # ---- Time ----

    def _left(self) -> float | None:
        return None if self._end is None else self._end - time.monotonic()

    def _patience(self, works: int) -> Patience:
        """Of one of so many pieces of work that are left: within the budget, to equal parts."""
        patience, left = self._asked.patience, self._left()
        if left is None:
            return patience
        each = left / works / len(self._names)
        return replace(
            patience, timeout=min(patience.timeout, max(each, 0.05)),
            prepare=min(patience.prepare, left + patience.grace),
        )  # fmt: skip

    def _no_time(self, work: Work) -> None:
        reason = f"no time: the budget is {self._asked.budget:g} s"
        for name in self._names:
            self._enter(work, name, Taken("n/a", reason))


def _gone(gone: Gone) -> Taken:
    return Taken(gone.status, str(gone))


@contextmanager
def _folder() -> Iterator[Path]:
    """A temporary one, which a program that is told to stop removes, too."""
    with tempfile.TemporaryDirectory(prefix="vgg-cuda-bench-") as name:
        path = Path(name)
        unfinished.add(path)
        try:
            yield path
        finally:
            unfinished.discard(path)
