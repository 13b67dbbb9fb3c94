"""Conversion of weights between file formats."""

from __future__ import annotations

from pathlib import Path

from ..images.presets import Preset, as_preset
from . import Source, load_weights
from .canonical import Weights, prefixed
from .native import save
from .onnx.export import save_onnx
from .onnx.file import SUFFIX, import_onnx
from .stated import Labels, with_stated
from .torchvision import PTH_SUFFIXES, save_torchvision

SUFFIXES = dict.fromkeys(PTH_SUFFIXES, "torchvision") | {".safetensors": "native", SUFFIX: "onnx"}
WRITERS = {"native": save, "torchvision": save_torchvision, "onnx": save_onnx}


def convert(
    source: Source,
    out: str | Path,
    to: str = "native",
    *,
    preset: str | Preset | None = None,
    labels: Labels | None = None,
) -> Weights:
    """Read ``source`` like :func:`load_weights`, write it to ``out``, and return the weights.

    ``to`` is the format:

    - "native": safetensors with preset, labels and activation;
    - "torchvision": names and layouts of torchvision's network without batch norms, which are
      folded; safetensors, or torch.save if ``out`` ends in .pth or .pt;
    - "onnx": a graph for other runtimes, see :func:`save_onnx`.

    A safetensors file keeps preset, labels and activation in its header, an ONNX file in its
    metadata; a .pth file loses them. Conversion from native and back gives the same bits.
    ``preset`` and ``labels`` replace the source's own, as in ``VGG.load``.

    Raises ``ValueError`` for an unknown preset and wrong labels, and, before reading, for another
    ``to`` and for a suffix of another format; ``OSError`` if ``out`` cannot be written; and the
    errors of :func:`load_weights`.
    """
    if to not in WRITERS:
        raise ValueError(f"to: expected one of {', '.join(WRITERS)}, got {to!r}")
    fitting = SUFFIXES.get(Path(out).suffix.lower(), to)
    if fitting != to and (fitting, to) != ("native", "torchvision"):
        name = Path(out).with_suffix(SUFFIX if to == "onnx" else ".safetensors").name
        raise ValueError(f"{out}: expected a name like {name}, or the format {fitting}")
    if to == "onnx":
        with prefixed(str(out)):
            import_onnx()  # report a missing package before a long read
    if Path(out).suffix.lower() in PTH_SUFFIXES and not (preset is labels is None):
        raise ValueError(f"{out}: expected .safetensors or .onnx: a .pth file holds no preset")
    if preset is not None:
        as_preset(preset)
    weights = with_stated(load_weights(source), preset, labels)
    WRITERS[to](weights, out)
    return weights
