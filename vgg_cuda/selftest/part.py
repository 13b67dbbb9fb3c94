"""One part of the self-test in a child process, which may hang or crash."""

from __future__ import annotations

import signal
from collections.abc import Mapping

import msgspec

from ..system.interruption import Interruption
from ..system.processes import Child, ChildEnded, ChildSilent
from .outcome import Done, Event, Job, Outcome, Ready

WORKER = "vgg_cuda.selftest.worker"
START_S = 60.0  # until a child has loaded the packages and opened its device


def run_part(job: Job, limit_s: float, stop: Interruption, env: Mapping[str, str]) -> Outcome:
    """Run ``job`` in a child process with the variables ``env``, and return what it found.

    A child that is silent for ``limit_s`` seconds is killed: it reports every case before its
    launches, so that a kernel has hung. A line that a kernel of a build with debug waits printed
    begins the detail of a failure. Raises ``Interrupted`` after a signal.
    """
    if job.part == "maps":  # launches nothing, but the driver may compile kernels for a new GPU
        limit_s = max(limit_s, START_S)
    child = Child(WORKER, stop, env)
    try:
        outcome = _received(child, job, limit_s)
    finally:
        child.close()
    if outcome.verdict == "ok" or not child.kernel_line:
        return outcome
    return msgspec.structs.replace(outcome, detail=f"{child.kernel_line}; {outcome.detail}")


def _received(child: Child, job: Job, limit_s: float) -> Outcome:
    ready, case = False, ""
    try:
        child.send(msgspec.to_builtins(job))
        while True:
            message = child.receive(limit_s if ready else START_S)
            event: Event = msgspec.convert(message, Event)
            if isinstance(event, Done):
                return event.outcome
            if isinstance(event, Ready):
                ready = True
            else:
                case = event.case
    except ChildEnded as error:
        reason = f"{case}: {error}" if case else str(error)
        if not ready and error.signal is None and not isinstance(error, ChildSilent):
            return Outcome("not run", f"a child process could not start: {error}", started=False)
        if not ready or error.signal == signal.SIGKILL:  # by Linux, because memory ran out
            return Outcome("not run", reason)
        return Outcome("hung" if isinstance(error, ChildSilent) else "crashed", reason)
