"""Verdicts of the self-test about a device's kernel families, kept in the user's cache folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec

from .. import _C
from ..system.cache import CacheFile

DRIVER = Path("/proc/driver/nvidia/version")
EMULATOR = "emulator"


class Verdict(msgspec.Struct, frozen=True):
    """Result of one part of the self-test; ``detail`` explains any other verdict than "ok"."""

    verdict: Literal["ok", "wrong", "refused", "hung", "crashed"]
    detail: str = ""


def device_header(device: _C.Device | None, arch: str) -> dict[str, str | int]:
    """Return the header of cache files: what results on a device depend on.

    ``device`` is None for the emulator. ``arch`` is the GPU architecture that is planned for.
    """
    build = {
        "version": version("vgg-cuda"),
        "commit": _build(),
        "cuda": _C.cuda_version() or "none",
        "arch": arch,
    }
    if device is None:
        return {**build, "gpu": EMULATOR, "sm_count": _C.arch(arch).sm_count, "driver": "none"}
    return {
        **build,
        "gpu": device["name"],
        "sm_count": device["sm_count"],
        "driver": _driver_version(),
    }


def read_verdicts(header: Mapping[str, str | int]) -> dict[str, Verdict] | None:
    """Return the verdicts by family, or None if no self-test has run."""
    return CacheFile("selftest", header, Verdict).read()


def write_verdicts(header: Mapping[str, str | int], verdicts: Mapping[str, Verdict]) -> Path:
    """Add ``verdicts``, and return the file. Raises ``CacheError`` if it cannot be written."""
    file = CacheFile("selftest", header, Verdict)
    file.merge(verdicts)
    return file.path


def _build() -> str:
    """Return the commit, and for uncommitted sources what identifies the compiled module."""
    commit = _C.commit()
    if commit != "unknown" and not commit.endswith("-dirty"):
        return commit
    file = Path(_C.__file__).stat()
    return f"{commit}-{file.st_size}-{file.st_mtime_ns}"


def _driver_version() -> str:
    """Return the driver's version, such as "580.65.06", else the CUDA version that it supports."""
    try:
        # "Kernel Module  535.104.05", or "Open Kernel Module for x86_64  580.65.06"
        found = re.search(r"Module\s+(?:for\s+\S+\s+)?(\d[\d.]*)", DRIVER.read_text())
    except OSError:
        found = None
    return found[1] if found else _C.device_info()["driver"] or "unknown"
