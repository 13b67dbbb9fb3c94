"""Kernel families of a device: which are off, and why."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .. import _C
from .switches import ARCH, DISABLE, PDL, SwitchError, switches
from .verdicts import Verdict, device_header, read_verdicts

PORTABLE = "portable"
"""Family of the kernels that cannot be switched off."""

VITAL = {PORTABLE: "portable kernels", "forward": "whole forwards"}
"""Parts of the self-test that nothing replaces, in words."""

LAUNCHES = {"early": "early launches", "graph": "CUDA graphs"}
"""Other parts of the self-test that can be switched off, in words."""

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

    ``off`` has a reason for each family, and for each of :data:`LAUNCHES`, that is off.
    ``verdicts`` come from the self-test; None if it has not run on this device. ``runs`` names all
    architectures that the device can run.
    """

    arch: _C.Arch
    off: Mapping[str, str]
    verdicts: Mapping[str, Verdict] | None = None
    runs: Sequence[str] = ()

    def warning(self, gpu: str) -> str | None:
        """Return a warning for a user of ``gpu``: parts that failed, or no complete self-test.

        Families that the user has switched off are not reported.
        """
        verdicts = self.verdicts or {}
        faults = [
            f"{words} ({_in_words(verdicts[name])})"
            for name, words in VITAL.items()
            if name in verdicts and verdicts[name].verdict != "ok"
        ]
        if faults:
            return (
                f"{gpu}: the self-test found faults that nothing replaces, and results may be "
                f"wrong: {', '.join(faults)}; `vgg-cuda selftest` tests this build again"
            )
        failed = [
            f"{LAUNCHES.get(name, name)} ({reason})"
            for name, reason in self.off.items()
            if reason not in (DISABLE, PDL)
        ]
        if failed:
            return (
                f"{gpu}: slower kernels or launches replace {', '.join(failed)}; "
                "`vgg-cuda selftest` tests them again"
            )
        if not {PORTABLE, *self.arch.families} <= {*verdicts, *self.off}:
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
    if not switches().pdl:
        off["early"] = PDL
    verdicts = None if device is None else read_verdicts(device_header(device, arch.name))
    for name, found in (verdicts or {}).items():
        if found.verdict != "ok":
            off.setdefault(name, f"self-test: {_in_words(found)}")
    known = (*arch.families, *LAUNCHES)
    return Families(arch, {name: off[name] for name in known if name in off}, verdicts, runs)


def _in_words(found: Verdict) -> str:
    return WORDS[found.verdict] + (f": {found.detail}" if found.detail else "")


def gpu_families(device: _C.Device, arch: str | None = None) -> Families:
    """Return the kernel families of a GPU, for ``arch`` if the GPU can run its kernels.

    By default ``arch`` is ``VGG_CUDA_ARCH``, else the GPU's own. Raises ``ValueError`` for others.
    """
    major, minor = device["compute_capability"]
    runs = [name for name in _C.arch_names() if _C.can_run(_C.arch(name), major, minor)]
    own = _C.device_arch(major, minor, device["sm_count"])
    chosen = arch_named(arch, runs, f"{device['name']} (sm_{major}{minor})")
    if chosen is None or chosen.name == own.name:
        chosen = own  # with the number of SMs that this GPU has
    return families_of(chosen, runs, device)


def kernels_arch(device: str, arch: str | None) -> str | None:
    """Return ``arch``, by default on the emulator the architecture with kernel families.

    ``VGG_CUDA_ARCH`` comes before that default. None leaves the choice to the backend.
    """
    if device != "emulator" or arch is not None or switches().arch is not None:
        return arch
    known = (_C.arch(name) for name in _C.architectures() if name in _C.arch_names())
    return next((each.name for each in known if each.families), None)


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


_refusals: dict[str, Refusals] = {}


def refusals(device: str) -> Refusals:
    """Return the record of ``device``, which its backends for all architectures share."""
    return _refusals.setdefault(device, Refusals())  # atomic, unlike functools.cache
