"""The backends, and which of them a device name means."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from ..arrays import is_cupy
from .base import Array, Backend, PackedConv3x3, PackedLinear

__all__ = [
    "Array",
    "Backend",
    "DeviceError",
    "PackedConv3x3",
    "PackedLinear",
    "get_backend",
    "of_array",
    "why_missing",
]


class DeviceError(RuntimeError):
    """A device that is not there; the text says why and what to do."""


DEVICES = '"auto", "cpu", "cuda" or "cuda:N"'


def get_backend(device: str = "auto") -> Backend:
    """The backend for ``device``: "auto", "cpu", "cuda" or "cuda:N".

    "auto" is the first GPU where there is one that works, else the CPU. Raises ``ValueError`` for
    another name and :class:`DeviceError`, saying why, for a device that is not there.
    """
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError(f"unknown device {device!r}: expected {DEVICES}")
    if device == "auto":
        device = "cuda" if why_missing("cuda") is None else "cpu"
    if device == "cpu":
        return _cpu()
    index = int(device.partition(":")[2] or 0)
    reason = why_missing("cuda", index)
    if reason is not None:
        raise DeviceError(f"device {device!r} is not available: {reason}")
    return _cuda(index)


def of_array(x: Any) -> Backend:
    """The backend on whose device the NumPy or CuPy array ``x`` lives."""
    return _cuda(int(x.device.id)) if is_cupy(x) else _cpu()


def why_missing(name: str, index: int = 0) -> str | None:
    """Why the backend "cpu", or "cuda" on GPU ``index``, cannot be used; None where it can."""
    if name == "cpu":
        return None
    from .cuda import why_unavailable

    return why_unavailable(index)


@cache
def _cpu() -> Backend:
    from .cpu import CpuBackend

    return CpuBackend()


@cache
def _cuda(index: int) -> Backend:
    from .cuda import CudaBackend

    return CudaBackend(index)
