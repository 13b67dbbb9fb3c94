"""Child processes: that none outlives this one, and that all of a session ends with its leader."""

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

# not by preexec_fn, which is unsafe where this process has threads
ENDS_WITH = f"""
import ctypes, os, signal, sys
try:
    ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, signal.SIGKILL, 0, 0, 0)
except (OSError, AttributeError):  # not Linux
    pass
if os.getppid() != int(sys.argv[1]):  # it died before
    sys.exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{{sys.argv[2]}}: {{error.strerror}}")
"""


def ends_with_this(command: Sequence[str]) -> list[str]:
    """``command`` so that it is killed when this process dies, even by SIGKILL; on Linux.

    What it has started itself lives on.
    """
    return [sys.executable, "-I", "-S", "-c", ENDS_WITH, str(os.getpid()), *command]


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
