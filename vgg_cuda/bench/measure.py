"""Measure one piece of work with every program: check each result, then take samples in turns.

Programs take turns, a slice of samples each, so that a noisy machine and a GPU's clocks affect all
of them alike. Only one program runs at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from .report import LONGEST_S, Amount, CallTime, typed
from .samples import MAX_SAMPLES, enough
from .work import Work
from .workers import Message, PeerFailed, Worker

SLICE_S = 0.25
MIN_LATE = 3  # samples of calls that are too slow for more within the timeout
MAX_SLICE = 200  # samples
MAX_ERROR = 1e15  # relative errors beyond this count as not finite

Seconds = Annotated[float, Meta(ge=0, lt=LONGEST_S)]


class Opened(TypedDict):
    """Reply to "open"."""

    load_s: Seconds
    versions: dict[str, Any]


class Prepared(TypedDict, total=False):
    """Reply to "prepare"."""

    how: str
    kernels: list[str] | None
    counters: dict[str, Amount] | None
    steps: list[dict[str, Any]]


class Checked(TypedDict):
    """Reply to "check"."""

    relative_error: Amount | None


class Warmed(TypedDict):
    """Reply to "warm"."""

    call_s: Seconds


class Sampled(TypedDict):
    """Reply to "sample"."""

    times: Annotated[list[CallTime], Meta(min_length=1)]
    enqueue: list[Seconds]
    parts: list[list[Seconds]]


class Finished(TypedDict, total=False):
    """Reply to "finish"."""

    host_to_device_s: Seconds | None
    peak_bytes: Annotated[int, Meta(ge=0, lt=2**60)] | None


REPLIES: dict[str, Any] = {
    "open": Opened, "prepare": Prepared, "check": Checked, "warm": Warmed, "sample": Sampled,
    "finish": Finished,
}  # fmt: skip


@dataclass(frozen=True)
class Timeouts:
    """Time limits in seconds.

    ``sampling`` limits the samples of one program, ``prepare`` its loading, compiling and checking.
    A worker is killed ``grace`` seconds after the sampling limit.
    """

    sampling: float
    prepare: float = 300.0
    grace: float = 30.0


@dataclass
class Measurements:
    """Samples of one program for one piece of work.

    ``status`` and ``reason`` are as in a report; ``info`` merges the worker's other replies.
    """

    status: str = "ok"
    reason: str | None = None
    relative_error: float | None = None
    info: Message = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    enqueue: list[float] = field(default_factory=list)
    parts: list[list[float]] = field(default_factory=list)

    @property
    def has_figures(self) -> bool:
        """True if there are times, or the emulator's counters of a checked result."""
        counted = bool(self.info.get("counters")) and self.relative_error is not None
        return self.status == "ok" and (bool(self.times) or counted)

    def fail(self, error: PeerFailed) -> None:
        """Record why the program failed and drop its times."""
        self.status, self.reason = error.status, str(error)
        self.times, self.enqueue, self.parts = [], [], []


def measure(
    work: Work, workers: Sequence[Worker], *, exact: str | None, bound: float, noise: float,
    timeouts: Timeouts, now: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = lambda _: None, found: dict[str, Measurements] | None = None,
) -> dict[str, Measurements]:  # fmt: skip
    """Measure ``work`` with every worker's program and return the measurements by name.

    ``exact`` is the file with the correct result, or None to skip the check; ``bound`` limits the
    relative error. A wrong program is not timed; one that fails or hangs does not stop the others.
    ``found`` is filled in place, so that an exception leaves the measurements made before it.
    """
    found = {} if found is None else found
    running: list[Worker] = []
    for worker in workers:
        say(f"{work.name}: checking {worker.name}")
        taken = found[worker.name] = _checked(work, worker, exact, bound, timeouts)
        if taken.status == "ok" and not taken.info.get("counters"):
            running.append(worker)
    spent = dict.fromkeys(found, 0.0)
    while running:
        for worker in list(running):
            taken = found[worker.name]
            say(f"{work.name}: {worker.name}, {len(taken.times)} samples")
            start = now()
            try:
                if not taken.times:
                    limit = timeouts.sampling + timeouts.grace
                    taken.info |= ask(worker, {"do": "warm"}, limit)
                    start = now()
                _sample(worker, taken, timeouts, spent[worker.name])
                spent[worker.name] += now() - start
                late = spent[worker.name] >= timeouts.sampling and len(taken.times) >= MIN_LATE
                if late or enough(taken.times, noise):
                    running.remove(worker)
                    taken.info |= ask(worker, {"do": "finish"}, timeouts.prepare)
            except PeerFailed as error:
                taken.fail(error)
                if worker in running:
                    running.remove(worker)
    return found


def ask(worker: Worker, message: Message, timeout: float) -> Message:
    """Send a message and return the checked reply. Raises :class:`PeerFailed`."""
    worker.send(message)
    return answer(worker, message["do"], timeout)


def answer(worker: Worker, do: str, timeout: float) -> Message:
    """Return the checked reply to a ``do`` message that was sent. Raises :class:`PeerFailed`."""
    reply = worker.receive(timeout)
    if "absent" in reply:
        raise PeerFailed("n/a", _encodable(reply["absent"]))
    if "error" in reply:
        raise PeerFailed("failed", _encodable(reply["error"]))
    try:
        checked: Message = typed(reply, REPLIES[do])
    except ValueError as error:
        raise PeerFailed("failed", f"invalid reply to {do!r}: {error}") from None
    return checked


def _encodable(text: Any) -> str:
    """Escape lone surrogates, which file names can contain and no report can."""
    return str(text).encode(errors="backslashreplace").decode()


def _checked(
    work: Work, worker: Worker, exact: str | None, bound: float, timeouts: Timeouts
) -> Measurements:
    taken = Measurements()
    try:
        taken.info = ask(worker, {"do": "prepare", "work": work}, timeouts.prepare)
        if exact is None:
            return taken
        reply = ask(worker, {"do": "check", "exact": exact}, timeouts.prepare)
    except PeerFailed as failure:
        taken.fail(failure)
        return taken
    error = reply["relative_error"]
    taken.relative_error = error = None if error is None or error > MAX_ERROR else error
    if error is None:
        taken.status, taken.reason = "wrong", "the result is not finite or has another size"
    elif error > bound:
        taken.status = "wrong"
        taken.reason = f"relative L2 error {error:.1e} exceeds {bound:.1e}"
    return taken


def _sample(worker: Worker, taken: Measurements, timeouts: Timeouts, spent: float) -> None:
    """Take one slice of samples."""
    left = max(0.0, timeouts.sampling - spent)
    max_calls = min(MAX_SLICE, MAX_SAMPLES - len(taken.times))
    message = {"do": "sample", "seconds": min(SLICE_S, left), "max_calls": max_calls}
    limit = timeouts.sampling + timeouts.grace + 3 * float(taken.info["call_s"])
    reply = ask(worker, message, limit)
    taken.times += reply["times"]
    taken.enqueue += reply["enqueue"]
    taken.parts += reply["parts"]
