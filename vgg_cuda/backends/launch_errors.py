"""Errors of launches in words for a user, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _C
from ..system.notices import warn_once
from .errors import KernelError, KernelRefusedError, device_lost
from .families import PORTABLE, refusals
from .switches import ARCH, DISABLE, PDL, switches


def launch_error(
    device: str, plan: _C.Plan, error: _C.CudaError, runs: Sequence[str]
) -> KernelError:
    """Return the error of a launch on ``device`` that raised ``error``.

    If the driver refused a kernel that others can replace, its family is off from now on. ``runs``
    names the architectures that the device can run.
    """
    if isinstance(error, _C.DeviceLost):
        return device_lost(device, error)
    if isinstance(error, _C.LaunchRefused) and plan.family != PORTABLE:
        _switch_off(device, plan.family, str(error))
        return KernelRefusedError(
            f"{device} refused a kernel ({error}): the family {plan.family} is off from now on, "
            "and the next call uses other kernels"
        )
    verb = "refused" if isinstance(error, _C.LaunchRefused) else "could not run"
    others = [f"{DISABLE}={plan.family}"] if plan.family != PORTABLE else []
    others += [f"{ARCH}={name}" for name in runs if name != plan.arch][:1]
    others += [f"{PDL}=0"] if switches().pdl else []
    advice = f"environment variables that select other launches: {', '.join(others)}"
    return KernelError(
        f"{device} {verb} {plan.kernel}, planned for {plan.arch} ({error}); "
        f"{advice if others else '`vgg-cuda selftest` tests all kernels'}"
    )


def _switch_off(device: str, family: str, reason: str) -> None:
    if refusals(device).add(family, reason):
        warn_once(
            f"{device}: the driver refused a kernel ({reason}); the kernels of the family {family} "
            "are off from now on, and others, which may be slower, replace them. Run "
            f"`vgg-cuda selftest` to test all kernels, or set {DISABLE}={family}"
        )
