"""From any file that can be read to one of the two that can be written."""

from __future__ import annotations

from pathlib import Path

from . import Source, load_weights
from .canonical import Weights
from .native import save
from .torchvision import PTH_SUFFIXES, save_torchvision

TARGETS = ("native", "torchvision")


def convert(source: Source, out: str | Path, to: str = "native") -> Weights:
    """Reads ``source`` as :func:`load_weights` does and writes it to ``out``; returns the weights.

    ``to`` is "native" (safetensors with everything that is needed to use it) or "torchvision"
    (names and layouts of torchvision's network without batch norms, since these are folded:
    safetensors, or torch.save where ``out`` ends in .pth or .pt). torchvision's names hold no
    preset, labels or activation: a safetensors file carries them in its header, where
    :func:`load_weights` finds them; a .pth file loses them. Native to torchvision and back gives
    the same bits.

    Raises ``ValueError`` for another ``to`` and for a native file called .pth, before reading;
    ``OSError`` where ``out`` cannot be written; and what :func:`load_weights` raises.
    """
    if to not in TARGETS:
        raise ValueError(f"unknown format {to!r}: expected one of {', '.join(TARGETS)}")
    if to == "native" and Path(out).suffix.lower() in PTH_SUFFIXES:
        raise ValueError(
            f"{out}: native files are safetensors: expected a name like "
            f"{Path(out).with_suffix('.safetensors').name}, or the format torchvision"
        )
    weights = load_weights(source)
    (save if to == "native" else save_torchvision)(weights, out)
    return weights
