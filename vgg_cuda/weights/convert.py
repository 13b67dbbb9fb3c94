"""From any file that can be read to one of the three that can be written."""

from __future__ import annotations

from pathlib import Path

from . import Source, load_weights
from .canonical import Weights
from .native import save
from .onnx_export import save_onnx
from .onnx_file import SUFFIX, import_onnx
from .torchvision import PTH_SUFFIXES, save_torchvision

TARGETS = ("native", "torchvision", "onnx")


def convert(source: Source, out: str | Path, to: str = "native") -> Weights:
    """Reads ``source`` as :func:`load_weights` does and writes it to ``out``; returns the weights.

    ``to`` is "native" (safetensors with everything that is needed to use it), "torchvision" (names
    and layouts of torchvision's network without batch norms, since these are folded: safetensors,
    or torch.save where ``out`` ends in .pth or .pt) or "onnx" (a graph for other runtimes, as
    :func:`save_onnx` writes it). torchvision's names hold no preset, labels or activation: a
    safetensors file carries them in its header, as an ONNX file does in its metadata, where
    :func:`load_weights` finds them; a .pth file loses them. Native to the others and back gives the
    same bits.

    Raises ``ValueError`` for another ``to`` and for a name that ends as another format's, before
    reading; ``OSError`` where ``out`` cannot be written; and what :func:`load_weights` raises.
    """
    if to not in TARGETS:
        raise ValueError(f"unknown format {to!r}: expected one of {', '.join(TARGETS)}")
    suffix = Path(out).suffix.lower()
    if to == "native" and suffix in PTH_SUFFIXES:
        raise ValueError(
            f"{out}: native files are safetensors: expected a name like "
            f"{Path(out).with_suffix('.safetensors').name}, or the format torchvision"
        )
    if to == "onnx" and suffix in (*PTH_SUFFIXES, ".safetensors"):
        raise ValueError(f"{out}: expected a name like {Path(out).with_suffix(SUFFIX).name}")
    if to != "onnx" and suffix == SUFFIX:
        raise ValueError(
            f"{out}: expected a name like {Path(out).with_suffix('.safetensors').name}, or the "
            "format onnx"
        )
    if to == "onnx":
        import_onnx(str(out))  # what is missing is told before a long read
    weights = load_weights(source)
    writers = {"native": save, "torchvision": save_torchvision, "onnx": save_onnx}
    writers[to](weights, out)
    return weights
