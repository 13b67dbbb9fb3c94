"""Conversion of weights between file formats."""

from __future__ import annotations

from pathlib import Path

from . import Source, load_weights
from .canonical import Weights
from .native import save
from .onnx.export import save_onnx
from .onnx.file import SUFFIX, import_onnx
from .torchvision import PTH_SUFFIXES, save_torchvision

TARGETS = ("native", "torchvision", "onnx")


def convert(source: Source, out: str | Path, to: str = "native") -> Weights:
    """Read ``source`` like :func:`load_weights`, write it to ``out``, and return the weights.

    ``to`` is the format:

    - "native": safetensors with preset, labels and activation;
    - "torchvision": names and layouts of torchvision's network without batch norms, which are
      folded; safetensors, or torch.save if ``out`` ends in .pth or .pt;
    - "onnx": a graph for other runtimes, see :func:`save_onnx`.

    A safetensors file keeps preset, labels and activation in its header, an ONNX file in its
    metadata; a .pth file loses them. Conversion from native and back gives the same bits.

    Raises ``ValueError`` for another ``to`` and for a suffix of another format, before reading;
    ``OSError`` if ``out`` cannot be written; and the errors of :func:`load_weights`.
    """
    if to not in TARGETS:
        raise ValueError(f"to: expected one of {', '.join(TARGETS)}, got {to!r}")
    suffix = Path(out).suffix.lower()
    if to == "native" and suffix in PTH_SUFFIXES:
        raise ValueError(
            f"{out}: expected a name like {Path(out).with_suffix('.safetensors').name} for native "
            "files, or the format torchvision"
        )
    if to == "onnx" and suffix in (*PTH_SUFFIXES, ".safetensors"):
        raise ValueError(f"{out}: expected a name like {Path(out).with_suffix(SUFFIX).name}")
    if to != "onnx" and suffix == SUFFIX:
        raise ValueError(
            f"{out}: expected a name like {Path(out).with_suffix('.safetensors').name}, or the "
            "format onnx"
        )
    if to == "onnx":
        import_onnx(str(out))  # report a missing package before a long read
    weights = load_weights(source)
    writers = {"native": save, "torchvision": save_torchvision, "onnx": save_onnx}
    writers[to](weights, out)
    return weights
