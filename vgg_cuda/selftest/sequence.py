"""The order of the self-test's parts, and what follows from their failures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..backends.switches import ARCH, DISABLE, FAMILIES, PDL, TUNING
from ..system.cache import VARIABLE as CACHE
from ..system.interruption import Interruption
from .outcome import Job, Outcome
from .part import run_part
from .report import PARTS, Part, Result
from .tally import PORTABLE

EARLY = "early"
NAMES = ("maps", "portable", *FAMILIES, "forward", EARLY, "graph")
"""Names of the parts, in order."""
CHECK = "check"


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    ``arch`` has the kernel ``families``, of which the user has switched the ``disabled`` ones off;
    ``early`` launches are on if the user permits them. ``limit_s`` and ``repeats`` are as for
    ``selftest``, and ``only`` names the parts to run. ``cache`` is an empty folder, so that earlier
    verdicts have no effect.
    """

    device: str
    arch: str
    families: tuple[str, ...]
    disabled: tuple[str, ...]
    early: bool
    limit_s: float
    repeats: int
    only: frozenset[str]
    cache: str


class Sequence:
    """A run of the parts; ``parts`` have ended, ``stopped`` is the reason if the run ended early.

    ``progress`` receives the name of each part.
    """

    def __init__(
        self, settings: Settings, stop: Interruption, progress: Callable[[str], None]
    ) -> None:
        self._settings, self._stop, self._progress = settings, stop, progress
        self._on = [f for f in settings.families if f not in settings.disabled]
        self._early = settings.early
        self._parts: dict[str, Part] = {}
        self.stopped = ""

    @property
    def parts(self) -> list[Part]:
        """The parts that ran, in order."""
        return list(self._parts.values())

    def run(self) -> None:
        """Run the parts. Raises ``Interrupted`` after a signal."""
        maps = self._run("maps")
        portable = self._run(PORTABLE)
        if portable.verdict in ("ok", "not run") and PORTABLE in maps.families:
            self._fail(PORTABLE, Outcome(maps.families[PORTABLE], maps.detail), "maps")
        for family in FAMILIES:
            self._family(family, maps)
        digests = self._forward().digests
        self._early_launches(digests)
        self._graph(digests)

    def _family(self, name: str, maps: Outcome) -> None:
        if name not in self._settings.families:
            self._add(name, "none", f"{self._settings.arch} has no such kernels")
        elif name in self._settings.disabled:
            self._add(name, "off", DISABLE)
        elif self._run(name).verdict not in ("ok", "not run"):
            self._on.remove(name)
        elif name in maps.families:
            self._fail(name, Outcome(maps.families[name], maps.detail), "maps")

    def _forward(self) -> Outcome:
        """Run forwards until they are right, each time without the families that may be wrong."""
        failed: list[str] = []
        while True:
            outcome = self._run("forward", early=False)
            suspects = [f for f in outcome.families or self._on if f in self._on]
            if outcome.verdict in ("ok", "not run") or not suspects:
                break
            for family in suspects:
                self._fail(family, outcome, "forward")
            failed += suspects
        if failed:
            detail = "; ".join(filter(None, (f"without {', '.join(failed)}", outcome.detail)))
            self._parts["forward"] = replace(self._parts["forward"], detail=detail)
        return outcome

    def _early_launches(self, digests: dict[str, str]) -> None:
        if not self._settings.early:
            self._add(EARLY, "off", f"{PDL}=0")
        elif self._run(EARLY, digests).verdict != "ok":
            self._early = False

    def _graph(self, digests: dict[str, str]) -> None:
        outcome = self._run("graph", digests)
        if outcome.verdict in ("ok", "not run") or not self._early or self.stopped:
            return
        self._early = False
        if self._run("graph", digests).verdict == "ok":
            self._fail(EARLY, outcome, "graph")

    def _run(
        self, name: str, digests: dict[str, str] | None = None, *, early: bool = True
    ) -> Outcome:
        """Run one part, unless the run has stopped, and add it to the parts."""
        if name not in self._settings.only:
            return Outcome("not run")
        if self.stopped or digests == {}:
            reason = "the run was stopped" if self.stopped else "needs whole forwards"
            self._add(name, "not run", reason)
            return Outcome("not run", reason)
        self._progress(name)
        begun = time.monotonic()
        outcome = self._launch(name, digests or {}, early=early)
        seconds = time.monotonic() - begun
        self._parts[name] = Part(
            name, outcome.verdict, outcome.detail, seconds, outcome.cases, outcome.worst
        )
        if outcome.verdict not in ("ok", "wrong", "refused"):
            self._check(name, outcome)
        return outcome

    def _launch(self, name: str, digests: dict[str, str], *, early: bool = True) -> Outcome:
        settings = self._settings
        off = [family for family in settings.families if family not in self._on]
        env = {
            ARCH: "",
            CACHE: settings.cache,
            DISABLE: ",".join(off),
            PDL: str(int(early and self._early)),
            TUNING: "never",
        }
        job = Job(name, settings.device, settings.arch, settings.repeats, digests)
        return run_part(job, settings.limit_s, self._stop, env)

    def _check(self, name: str, failed: Outcome) -> None:
        """Stop the run if the device no longer works after a part failed."""
        found = self._launch(CHECK, {}) if failed.started else failed
        if not found.started:
            self.stopped = f"{found.detail}; this says nothing about {self._settings.device}"
        elif found.verdict != "ok":
            self.stopped = (
                f"{self._settings.device} does not work after the part {name} ({failed.verdict}): "
                f"{found.detail}; reset it or restart the machine, then run the self-test again"
            )

    def _fail(self, name: str, outcome: Outcome, during: str) -> None:
        """Record that ``name`` failed in another part than its own; it is off from now on."""
        if name in self._on:
            self._on.remove(name)
        before = self._parts.get(name, Part(name, "ok"))
        self._parts[name] = replace(
            before, verdict=outcome.verdict, detail=f"in {PARTS[during]}: {outcome.detail}"
        )

    def _add(self, name: str, verdict: Result, detail: str) -> None:
        if name in self._settings.only:
            self._parts[name] = Part(name, verdict, detail)
