"""Running count of a part's comparisons, and the failures among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from .. import _C
from ..text import one_line
from .outcome import Event, Kind, Outcome, Started

MAX_DETAIL = 400  # characters
PORTABLE = "portable"


class Tally:
    """Counts cases and failures; ``last`` is the case that was started last.

    ``send`` receives a message before each case, so that the parent knows where a kernel hangs.
    """

    def __init__(self, send: Callable[[Event], None]) -> None:
        self._send = send
        self.cases, self.worst, self.last = 0, 0.0, ""
        self.digests: dict[str, str] = {}
        self._families: dict[str, Kind] = {}
        self._failed: dict[Kind, list[str]] = {"wrong": [], "refused": []}

    def say(self, what: str) -> None:
        """Report what is about to be launched."""
        self.last = what
        self._send(Started(what))

    @contextmanager
    def case(self, what: object, family: str = PORTABLE) -> Iterator[None]:
        """Wrap one case of a kernel family; a refused launch is a failure and ends the case."""
        self.say(str(what))
        self.cases += 1
        try:
            yield
        except _C.LaunchRefused as error:
            self.fail("refused", [family], f"{what}: {error}")

    def fail(self, verdict: Kind, families: Iterable[str], detail: str) -> None:
        """Count a failure of kernels of these families."""
        self._failed[verdict].append(one_line(detail, MAX_DETAIL))
        for family in families:
            self._families.setdefault(family, verdict)

    def outcome(self) -> Outcome:
        """Return what was found; wrong results count more than refused launches."""
        for verdict, details in self._failed.items():
            if details:
                others = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
                return self._outcome(verdict, f"{details[0]}{others}")
        return self._outcome("ok", "")

    def failed(self, verdict: Kind, reason: str) -> Outcome:
        """Return the outcome of a part that ended at the last case, for ``reason``."""
        detail = f"{self.last}: {reason}" if self.last else reason
        return self._outcome(verdict, one_line(detail, MAX_DETAIL))

    def _outcome(self, verdict: Kind, detail: str) -> Outcome:
        return Outcome(verdict, detail, self.cases, self.worst, self._families, self.digests)
