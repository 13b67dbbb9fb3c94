"""torchvision's names: ``features.{i}``, ``classifier.{0,3,6}``. Source: torchvision/models/vgg.py.

These names hold neither preset nor labels nor activation. A safetensors file written here carries
them in its header (:mod:`.metadata`); a ``.pth`` file cannot.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..configs import HIDDEN, Conv
from ..text import listed
from . import pth, safetensors_file
from .architecture import is_told_by_shapes
from .canonical import Array, Tensors, Weights, WeightsError
from .metadata import Stated, to_metadata
from .state_dict import FEATURE, INDEX, build, hwc_to_chw

_DENSE = re.compile(rf"classifier\.{INDEX}\.(weight|bias)")
PTH_SUFFIXES = (".pth", ".pt")


def matches(names: list[str]) -> bool:
    """Whether any of these names is one of a torchvision VGG's state dict."""
    return any(FEATURE.fullmatch(name) or _DENSE.fullmatch(name) for name in names)


def from_tensors(tensors: dict[str, Array], source: str, stated: Stated) -> Weights:
    """Weights from a torchvision state dict, which it empties. Raises :class:`WeightsError`."""
    unknown = [n for n in tensors if not FEATURE.fullmatch(n) and not _DENSE.fullmatch(n)]
    if unknown:
        raise WeightsError(
            f"{source}: not expected: {listed(unknown)}: expected torchvision's names "
            "(features.N.…, classifier.N.…)"
        )
    indices = sorted({int(match[1]) for match in map(_DENSE.fullmatch, tensors) if match})
    missing = [f"classifier.{i}.weight" for i in indices if f"classifier.{i}.weight" not in tensors]
    # Two layers numbered like torchvision's first two, of its sizes: cut off, not a custom head
    cut = indices == [0, 3] and not missing
    if cut and not stated.present and tensors["classifier.3.weight"].shape == HIDDEN:
        missing.append("classifier.6.weight")
    if missing:
        raise WeightsError(f"{source}: missing: {listed(missing)}")
    return build(tensors, [f"classifier.{i}" for i in indices], source, stated, "torchvision")


def to_state_dict(weights: Weights) -> Tensors:
    """The tensors by torchvision's names and in its layouts, without batch norms (folded).

    They fit torchvision's network of the same name without ``_bn``. Dense layers stand at
    ``classifier.0``, ``.3``, ``.6``, … Where dense layers read all pixels of images of one size,
    torchvision's adaptive pool does nothing at that size. Raises :class:`WeightsError` for a
    network that torchvision's names cannot describe.
    """
    config, result = weights.config, Tensors()
    rows, columns = config.grid
    like = replace(config, pooling=None, pool_grid=rows or config.pool_grid, input_size=None)
    if not is_told_by_shapes(like) or config.reduces == "max" or rows != columns:
        raise WeightsError(
            f"{weights.source}: torchvision's names describe five blocks of convolutions with "
            "ReLUs, an average pool or a square grid, and dense layers; this network differs: "
            "write it as native"
        )
    index = 0
    for layer in config.features:
        if isinstance(layer, Conv):
            w = weights.tensors[f"{layer.name}.weight"]
            result[f"features.{index}.weight"] = np.ascontiguousarray(w.transpose(0, 3, 1, 2))
            result[f"features.{index}.bias"] = weights.tensors[f"{layer.name}.bias"]
            index += 1  # the ReLU after it
        index += 1
    for position, dense in enumerate(config.dense):
        w = weights.tensors[f"{dense.name}.weight"]
        if position == 0:
            w = hwc_to_chw(w, config.out_channels)
        result[f"classifier.{3 * position}.weight"] = w
        result[f"classifier.{3 * position}.bias"] = weights.tensors[f"{dense.name}.bias"]
    return result


def save_torchvision(weights: Weights, path: str | Path) -> None:
    """Writes ``weights`` with torchvision's names, under a temporary name until it is whole.

    A ``path`` that ends in .pth or .pt is written by torch.save (needs torch) and holds the
    tensors alone; any other is safetensors with preset, labels and activation in the header.
    Raises ``OSError``, and :class:`WeightsError` where torch is needed and missing.
    """
    tensors = to_state_dict(weights)
    if Path(path).suffix.lower() in PTH_SUFFIXES:
        pth.write(tensors, path)
    else:
        safetensors_file.write(tensors, path, to_metadata(weights))
