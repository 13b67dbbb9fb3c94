"""One piece of work, by all programs in turn: checked first, then timed until it is known enough.

Programs take turns, a slice of samples each, so that a noisy machine and a GPU's clocks trouble
them alike. Only one of them runs at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .connection import Lost, Message, Worker
from .replies import checked
from .samples import MOST, enough
from .work import Work

SLICE_S = 0.25
LEAST_LATE = 3  # samples, where a call takes so long that there is no time for more
MAX_SLICE = 200  # samples
LARGEST = 1e15  # relative error: what is beyond is infinite


@dataclass(frozen=True)
class Patience:
    """Seconds. ``timeout``: of one program's samples; what it takes beyond is given up.

    ``prepare``: to load, to lay out weights, to compile, and to be checked; ``grace``: beyond
    ``timeout``, before a worker is killed.
    """

    timeout: float
    prepare: float = 300.0
    grace: float = 30.0


@dataclass
class Taken:
    """What one program did: ``status`` as in a report, ``said`` the replies of its worker."""

    status: str = "ok"
    reason: str | None = None
    relative_error: float | None = None
    said: Message = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    enqueue: list[float] = field(default_factory=list)
    parts: list[list[float]] = field(default_factory=list)

    @property
    def has_figures(self) -> bool:
        """Is there anything to report but a status?"""
        counted = bool(self.said.get("counters")) and self.relative_error is not None
        return self.status == "ok" and (bool(self.times) or counted)


def measure(
    work: Work, workers: Sequence[Worker], *, exact: str | None, bound: float, noise: float,
    patience: Patience, now: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = lambda _: None, found: dict[str, Taken] | None = None,
) -> dict[str, Taken]:  # fmt: skip
    """What every worker's program took for ``work``, by its name.

    ``exact``: the file of what is right, None where there is nothing to check; ``bound``: on the
    relative error. A program that is wrong is not timed, one that fails or hangs stops no other.
    ``found``: is filled and returned, so that an exception leaves what was measured before it.
    """
    found = {} if found is None else found
    running: list[Worker] = []
    for worker in workers:
        say(f"{work.name}: {worker.name} is checked")
        taken = found[worker.name] = _checked(work, worker, exact, bound, patience)
        if taken.status == "ok" and not taken.said.get("counters"):
            running.append(worker)
    spent = dict.fromkeys(found, 0.0)
    while running:
        for worker in list(running):
            taken = found[worker.name]
            say(f"{work.name}: {worker.name}, {len(taken.times)} samples")
            start = now()
            try:
                if not taken.times:
                    taken.said |= ask(worker, {"do": "warm"}, patience.timeout + patience.grace)
                    start = now()
                _sample(worker, taken, patience, spent[worker.name])
            except Gone as gone:
                _lose(taken, gone)
                running.remove(worker)
                continue
            spent[worker.name] += now() - start
            late = spent[worker.name] >= patience.timeout and len(taken.times) >= LEAST_LATE
            if late or enough(taken.times, noise):
                running.remove(worker)
                try:
                    taken.said |= ask(worker, {"do": "finish"}, patience.prepare)
                except Gone as gone:
                    _lose(taken, gone)
    return found


class Gone(Exception):  # noqa: N818 (an outcome, which is reported)
    """No answer that helps; ``status`` as in a report."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def ask(worker: Worker, message: Message, patience: float) -> Message:
    """The reply; raises :class:`Gone` for a program that is absent, fails or hangs."""
    worker.send(message)
    return answer(worker, message["do"], patience)


def answer(worker: Worker, do: str, patience: float) -> Message:
    """The reply to a message that was sent, which said ``do``, checked."""
    try:
        reply = worker.receive(patience)
    except Lost as lost:
        raise Gone(lost.status, str(lost)) from None
    if "absent" in reply:
        raise Gone("n/a", _unicode(reply["absent"]))
    if "error" in reply:
        raise Gone("failed", _unicode(reply["error"]))
    try:
        return checked(do, reply)
    except ValueError as error:
        raise Gone("failed", f"its answer is not what was expected: {error}") from None


def _unicode(text: Any) -> str:
    """Without halves of characters, as names of files may have them: no file could hold those."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def _checked(
    work: Work, worker: Worker, exact: str | None, bound: float, patience: Patience
) -> Taken:
    taken = Taken()
    try:
        given = {"do": "prepare", "work": work.as_json()}
        taken.said = ask(worker, given, patience.prepare)
        if exact is None:
            return taken
        reply = ask(worker, {"do": "check", "exact": exact}, patience.prepare)
    except Gone as gone:
        _lose(taken, gone)
        return taken
    error = reply["relative_error"]
    taken.relative_error = error = None if error is None or error > LARGEST else error
    if error is None:
        taken.status, taken.reason = "wrong", "the result is not finite, or of another size"
    elif error > bound:
        taken.status = "wrong"
        taken.reason = f"relative L2 error {error:.1e} exceeds {bound:.1e}"
    return taken


def _sample(worker: Worker, taken: Taken, patience: Patience, spent: float) -> None:
    """One slice."""
    call_s = float(taken.said["call_s"])
    left = max(0.0, patience.timeout - spent)
    most = min(MAX_SLICE, MOST - len(taken.times))
    message = {"do": "sample", "seconds": min(SLICE_S, left), "most": most}
    reply = ask(worker, message, patience.timeout + patience.grace + 3 * call_s)
    taken.times += reply["times"]
    taken.enqueue += reply["enqueue"]
    taken.parts += reply["parts"]


def _lose(taken: Taken, gone: Gone) -> None:
    """No time of a program that did not come to its end is reported."""
    taken.status, taken.reason = gone.status, str(gone)
    taken.times, taken.enqueue, taken.parts = [], [], []
