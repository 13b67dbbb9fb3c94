"""Peak memory of this process, from Linux: getrusage's figure starts with the parent's peak."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path


def reset_peak() -> None:
    """Makes the peak what is in use now; without the right to, peaks only add up."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_kib() -> int:
    """The most memory that was resident since the start or the last reset."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])
