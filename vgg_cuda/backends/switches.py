"""Environment variables that choose kernels, read once per process. Needs no extension."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

Tune = Literal["never", "cached", "now"]
TUNE: tuple[Tune, ...] = get_args(Tune)
FAMILIES = ("halo", "swap_ab", "dense", "fused_conv1_block")
"""Kernel families that can be switched off; ``_C.families()`` returns the same names."""

ARCH, DISABLE, PDL, TUNING = (
    "VGG_CUDA_ARCH", "VGG_CUDA_DISABLE", "VGG_CUDA_PDL", "VGG_CUDA_TUNE",
)  # fmt: skip


class SwitchError(ValueError):
    """Raised for a value of an environment variable that is unknown, with the known values."""


@dataclass(frozen=True)
class Switches:
    """Values of the environment variables.

    - ``arch``: GPU architecture to plan for, if a call names none (``VGG_CUDA_ARCH``).
    - ``disable``: kernel families that are off (``VGG_CUDA_DISABLE``, separated by commas).
    - ``pdl``: whether launches may begin before the previous launch has ended, which CUDA calls
      programmatic dependent launch (``VGG_CUDA_PDL``, 0 or 1).
    - ``tune``: default of ``VGG.load``'s argument of that name (``VGG_CUDA_TUNE``).
    """

    arch: str | None = None
    disable: tuple[str, ...] = ()
    pdl: bool = True
    tune: Tune = "cached"


@cache
def switches() -> Switches:
    """Return the switches; later changes of the environment have no effect.

    An empty variable is the same as none. Raises :class:`SwitchError`; the architecture is checked
    when a GPU or the emulator is first used.
    """
    named = [name.strip() for name in os.environ.get(DISABLE, "").split(",")]
    disable = tuple(dict.fromkeys(name for name in named if name))
    for name in disable:
        _check(DISABLE, name, FAMILIES)
    pdl = os.environ.get(PDL, "").strip() or "1"
    _check(PDL, pdl, ("0", "1"))
    tune = os.environ.get(TUNING, "").strip() or "cached"
    _check(TUNING, tune, TUNE)
    return Switches(
        arch=os.environ.get(ARCH, "").strip() or None,
        disable=disable,
        pdl=pdl == "1",
        tune=next(known for known in TUNE if known == tune),
    )


def tune_mode(tune: str | None) -> Tune:
    """Return ``tune``, by default the value of ``VGG_CUDA_TUNE``; ``ValueError`` if unknown."""
    if tune is None:
        return switches().tune
    for known in TUNE:
        if tune == known:
            return known
    raise ValueError(f"tune: expected one of {', '.join(TUNE)}, got {tune!r}")


def _check(variable: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SwitchError(f"{variable}: expected one of {', '.join(known)}, got {value!r}")
