"""Peak memory of this process, from Linux: getrusage's figure includes the parent's peak."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path


def reset_peak() -> None:
    """Reset the peak to the current use; without permission, peaks accumulate."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_kib() -> int:
    """Return the peak of resident memory since the start or the last reset."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])
