"""Errors of devices and of their kernels. Needs no extension."""

from __future__ import annotations

from ..text import one_line

LOST = frozenset((201, 214, 220, 226, 700, 702, 709, 710, *range(714, 720), 721, 810, 911, 999))
"""CUDA errors after which a process can no longer use a GPU, by number.

The enumerations of the runtime and of the driver have the same numbers for them.
"""


class DeviceError(RuntimeError):
    """Raised for an unavailable device, with the reason and what to do."""


class KernelError(RuntimeError):
    """Raised if a device fails to run a kernel, with the reason and what to do."""


class KernelRefusedError(KernelError):
    """Raised if the driver refuses a kernel; its family is off from now on.

    Another plan of the same work uses other kernels.
    """


class DeviceLostError(KernelError):
    """Raised if this process can no longer use a GPU, with what to do."""


def device_lost(device: str, reason: object) -> DeviceLostError:
    """Return the error of a ``device`` that is lost; ``reason`` is CUDA's error."""
    return DeviceLostError(
        f"{device} failed ({one_line(str(reason), 200)}): its results are lost and this process "
        "cannot use it again; restart the program, and run `vgg-cuda selftest` if the failure "
        "returns"
    )


def is_lost(error: BaseException) -> bool:
    """Return whether ``error`` is CuPy's, of a GPU that this process can no longer use."""
    module = type(error).__module__.partition(".")[0]
    return module in ("cupy", "cupy_backends") and getattr(error, "status", None) in LOST
