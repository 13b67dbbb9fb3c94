"""Child processes: end them with this process, and end all processes of a session."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

GRACE_S = 2.0  # between SIGTERM and SIGKILL
PR_SET_PDEATHSIG = 1  # linux/prctl.h

# not in preexec_fn, which is unsafe if this process has threads
ENDS_WITH = f"""
import ctypes, os, signal, sys
try:
    ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, signal.SIGKILL, 0, 0, 0)
except (OSError, AttributeError):  # not Linux
    pass
if os.getppid() != int(sys.argv[1]):  # the parent died before
    sys.exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{{sys.argv[2]}}: {{error.strerror}}")
"""


def ends_with_this(command: Sequence[str]) -> list[str]:
    """Return ``command`` wrapped so that Linux kills it when this process dies, even by SIGKILL.

    Processes that the command starts are not killed.
    """
    return [sys.executable, "-I", "-S", "-c", ENDS_WITH, str(os.getpid()), *command]


def end_session(process: subprocess.Popen[bytes]) -> None:
    """End all processes of the session that ``process`` leads."""
    for number, grace in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        end = time.monotonic() + grace
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
    """Return the running processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # after the process name in brackets: state, parent, group, session
            words = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(words[3]) == leader and words[0] not in "ZX":
                found.append(int(stat.parent.name))
    return found
