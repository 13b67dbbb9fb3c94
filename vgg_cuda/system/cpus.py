"""Number of CPU threads: affinity, the quota of a container, OMP_NUM_THREADS, and a setter."""

from __future__ import annotations

import contextlib
import math
import operator
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_chosen: int | None = None


def get_num_threads() -> int:
    """Return the number of threads that decode images and compute on the CPU.

    The number is that of :func:`set_num_threads`, else OMP_NUM_THREADS, else :func:`cores`.
    """
    return _chosen or _default()


def set_num_threads(num_threads: int) -> None:
    """Set the number of threads that decode images and compute on the CPU, from the next call on.

    Calls that run in other threads finish with the old number. Raises ``TypeError`` unless
    ``num_threads`` is an integer, ``ValueError`` if it is below 1.
    """
    global _chosen
    try:
        found = operator.index(num_threads)
    except TypeError:
        raise TypeError(
            f"num_threads: expected an integer, got {type(num_threads).__name__}"
        ) from None
    if found < 1:
        raise ValueError(f"num_threads: expected 1 or more, got {found}")
    _chosen = found


@cache
def cores() -> int:
    """Return the number of cores that this process may use by its affinity and cgroup quota."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    return max(1, min([count, *(math.ceil(quota) for quota in quotas())]))


@cache
def _default() -> int:
    # "4,2": the number of threads per level of nested parallel regions
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if re.fullmatch("0*[1-9][0-9]{0,5}", first) else cores()


def quotas(
    process: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[float]:
    """Yield the CPU quotas, in cores, of the process's cgroups and their parents."""
    try:
        lines = process.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 1 mounts a controller in a folder; inside a container, the path is often outside
        # of the mounted tree, whose root is then the container's cgroup.
        top = root / controllers if controllers else root
        folder = top / path.lstrip("/")
        for each in dict.fromkeys([folder, *folder.parents, top]):
            if each == top or top in each.parents:
                with contextlib.suppress(OSError, ValueError):
                    quota, period = _quota(each, version=1 if controllers else 2)
                    if quota > 0 and period > 0:
                        yield quota / period


def _quota(folder: Path, version: int) -> tuple[int, int]:
    """Return microseconds of CPU time per period. Raises ``ValueError`` for no limit ("max")."""
    if version == 2:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota), int(period)
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")  # a quota of -1: no limit
    quota, period = ((folder / name).read_text() for name in names)
    return int(quota), int(period)
