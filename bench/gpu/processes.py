"""Child processes: that none outlives this one, and that all of a session ends with its leader."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

GRACE_S = 2.0  # between SIGTERM and SIGKILL
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def ends_with_this() -> Callable[[], None] | None:
    """What a child calls first so that it is killed when this process dies, even by SIGKILL.

    What the child has started lives on. None where the system is not Linux.
    """
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before it could be asked
            os._exit(1)

    return ask


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of the session that ``process`` leads, whatever groups it made."""
    for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        end = time.monotonic() + patience
        first = True
        while members := session(process.pid):
            if first or number == signal.SIGKILL:
                for pid in members:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)
            first = False
            process.poll()
            if time.monotonic() > end:
                break
            time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)


def session(leader: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # after the name, which may hold anything: state, parent, group, session
            words = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(words[3]) == leader and words[0] not in "ZX":
                found.append(int(stat.parent.name))
    return found
