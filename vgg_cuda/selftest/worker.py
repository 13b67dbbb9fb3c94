"""The child process of the self-test, which tests one part."""

from __future__ import annotations

import ctypes
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import msgspec

from .outcome import Done, Event, Job, Outcome, Ready
from .tally import Tally

if TYPE_CHECKING:
    from .launches import Target


def serve(pipe: Connection) -> None:
    """Test the part of the message that arrives, and report every step to the parent."""
    warnings.simplefilter("ignore")  # the last line printed is reported as a failure's reason
    job = msgspec.convert(pipe.recv(), Job)
    pipe_encoder = msgspec.json.Encoder()

    def send(event: Event) -> None:
        pipe.send_bytes(pipe_encoder.encode(event))

    outcome = tested(job, send)
    ctypes.CDLL(None).fflush(None)  # lines that kernels printed; the parent ends this process
    send(Done(outcome))


def tested(job: Job, send: Callable[[Event], None]) -> Outcome:
    """Test a part, and return the outcome; ``send`` receives the messages before it."""
    tally, ready = Tally(send), False
    try:
        from .launches import Target  # loads CUDA

        target = Target(job.device, job.arch)
        target.backend.synchronize()  # a GPU's context is created
        ready = True
        send(Ready())
        _run(job, target, tally)
        for family, reason in target.refused().items():
            tally.fail("refused", [family], reason)
    except MemoryError as error:
        return tally.failed("not run", str(error))
    except Exception as error:  # any error of any library: the parent reports it
        traceback.print_exc()
        return tally.failed("crashed" if ready else "not run", f"{type(error).__name__}: {error}")
    return tally.outcome()


def _run(job: Job, target: Target, tally: Tally) -> None:
    from . import forwards, kernels

    match job.part:
        case "check":
            kernels.check(target, tally)
        case "maps":
            kernels.maps(target, tally)
        case "portable":
            kernels.portable(target, tally)
        case "forward":
            forwards.forward(target, tally, job.repeats)
        case "early":
            forwards.again(target, tally, job.repeats, job.digests)
        case "graph":
            forwards.graph(target, tally, job.repeats, job.digests)
        case family:
            kernels.family(target, tally, family)
