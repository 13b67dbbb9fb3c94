"""Worker processes: each measures one program and answers the parent's messages over a pipe."""

from __future__ import annotations

import json
import traceback
import warnings
from multiprocessing.connection import Connection

from ..system.interruption import Interruption
from ..system.processes import Child, ChildEnded, ChildSilent, Message

__all__ = ["Message", "PeerFailed", "Worker", "WorkerDied"]


class PeerFailed(Exception):  # noqa: N818 (the name of the outcome)
    """A program gave no usable answer; ``status`` is the one to report."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class WorkerDied(PeerFailed):
    """The worker process ended, or was killed after its timeout."""


class Worker(Child):
    """A process that measures one program; :class:`vgg_cuda.bench.session.Session` runs in it."""

    def __init__(self, name: str, stop: Interruption) -> None:
        super().__init__(__name__, stop)
        self.name = name

    def receive(self, timeout: float) -> Message:
        """Return the reply to the last message.

        Raises :class:`WorkerDied` if the worker ends or is killed after ``timeout`` seconds, and
        ``Interrupted`` after a signal.
        """
        try:
            return super().receive(timeout)
        except ChildEnded as error:
            status = "timeout" if isinstance(error, ChildSilent) else "failed"
            raise WorkerDied(status, str(error)) from None


def serve(pipe: Connection) -> None:
    """Answer the parent's messages until it closes the pipe; runs in the worker."""
    warnings.simplefilter("ignore")  # the last line printed is reported as a failure's reason
    from .session import Session

    session = Session()
    while True:
        try:
            message = pipe.recv()
        except EOFError:
            return
        try:
            reply = json.dumps(session.handle(message))
        except Exception as error:  # any error of any library: the parent reports it
            traceback.print_exc()
            reply = json.dumps({"error": f"{type(error).__name__}: {error}"})
        pipe.send_bytes(reply.encode())
