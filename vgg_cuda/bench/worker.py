"""The process around a session: a line of JSON in, a line of JSON out, until its input ends."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import traceback
import warnings
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h

COMMAND = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from vgg_cuda.bench.worker import main
main(int(sys.argv[2]))
"""
"""Run with the parent's ``sys.path`` and process id: it imports what the parent would."""


def main(parent: int) -> None:
    """Answers messages. What libraries print goes to standard error."""
    _end_with(parent)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")  # the parent reads the last line on stderr as a failure's
    from .session import Session  # after what is printed at import cannot be taken for an answer

    session = Session()
    for line in sys.stdin:
        reply: dict[str, Any]
        try:
            reply = session.handle(json.loads(line))
        except Exception as error:  # whatever a library raises: the parent reports it
            traceback.print_exc()
            sys.stderr.flush()
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


def _end_with(parent: int) -> None:
    """Asks the kernel to kill this process when its parent dies, however that happens; on Linux."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before
        sys.exit(1)
