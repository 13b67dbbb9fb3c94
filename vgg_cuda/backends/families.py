"""Kernel families of a device: which are off, and why."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from .. import _C
from .switches import ARCH, DISABLE, SwitchError, switches
from .verdicts import Verdict, device_header, read_verdicts

PORTABLE = "portable"
"""Family of the kernels that cannot be switched off."""

WORDS = {
    "wrong": "wrong results",
    "refused": "refused by the driver",
    "hung": "did not end",
    "crashed": "crashed",
}
"""Verdicts of the self-test in words."""


@dataclass(frozen=True)
class Families:
    """Kernel families that ``arch`` has, before any of them is refused.

    ``off`` has a reason for each family that is off. ``verdicts`` are those of the self-test, None
    if none has run on this device. ``runs`` names all architectures that the device can run.
    """

    arch: _C.Arch
    off: Mapping[str, str]
    verdicts: Mapping[str, Verdict] | None = None
    runs: Sequence[str] = ()

    def warning(self, gpu: str) -> str | None:
        """Return what to report to a user of ``gpu``: families that failed, or no self-test.

        Families that the user has switched off are no reason for a warning.
        """
        verdicts, disabled = self.verdicts or {}, switches().disable
        used = [family for family in self.arch.families if family not in disabled]
        failed = [f"{family} ({self.off[family]})" for family in used if family in self.off]
        if failed:
            return (
                f"{gpu}: kernels are off, and slower ones replace them: {', '.join(failed)}; "
                "`vgg-cuda selftest` tests them again"
            )
        if any(family not in verdicts for family in used):
            return (
                f"{gpu}: its kernels have not been tested with this driver and build; run "
                "`vgg-cuda selftest` once"
            )
        return None


def families_of(arch: _C.Arch, runs: Sequence[str], device: _C.Device | None = None) -> Families:
    """Return the families of ``arch`` that the switches and the self-test of ``device`` leave on.

    ``device`` is None for the emulator, which has no self-test to rely on. ``runs`` are the
    architectures that it can run.
    """
    off = dict.fromkeys(switches().disable, DISABLE)
    verdicts = None
    if device is not None and arch.families:
        verdicts = read_verdicts(device_header(device, arch.name))
        for family, found in (verdicts or {}).items():
            if found.verdict != "ok":
                detail = f": {found.detail}" if found.detail else ""
                off.setdefault(family, f"self-test: {WORDS[found.verdict]}{detail}")
    return Families(arch, {f: off[f] for f in arch.families if f in off}, verdicts, runs)


def arch_named(name: str | None, runs: Sequence[str], device: str) -> _C.Arch | None:
    """Return the architecture ``name``, by default that of ``VGG_CUDA_ARCH``; None without both.

    ``runs`` are the names that ``device`` can run. Raises ``ValueError`` for others,
    :class:`SwitchError` if the variable names one of them.
    """
    chosen = switches().arch if name is None else name
    if chosen is None or chosen in runs:
        return None if chosen is None else _C.arch(chosen)
    what, error = ("arch", ValueError) if name is not None else (ARCH, SwitchError)
    raise error(f"{what}: expected one of {', '.join(runs)} for {device}, got {chosen!r}")


class Replanned(Protocol):
    """A user of plans, which drops those with families that are off."""

    def replan(self, refused: Mapping[str, str]) -> None: ...


class Refusals:
    """Families that the driver of one device refused, for the rest of the process."""

    def __init__(self) -> None:
        self._refused: dict[str, str] = {}
        self._users: weakref.WeakSet[Replanned] = weakref.WeakSet()
        self._lock = threading.Lock()

    def register(self, user: Replanned) -> None:
        """Call ``user.replan`` with the families refused so far, and after every refusal."""
        with self._lock:
            self._users.add(user)
            user.replan(self._refused)

    def add(self, family: str, reason: str) -> bool:
        """Switch ``family`` off; return False if it was off already."""
        with self._lock:
            if family in self._refused:
                return False
            self._refused = {**self._refused, family: f"refused by the driver: {reason}"}
            for user in list(self._users):
                user.replan(self._refused)
        return True


@cache
def refusals(device: str) -> Refusals:
    """Return the record of ``device``, which its backends for all architectures share."""
    return Refusals()
