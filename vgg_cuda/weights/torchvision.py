"""Writing with torchvision's names: ``features.{i}``, ``classifier.{0,3,6}``.

:mod:`.state_dict` reads them. Source: torchvision/models/vgg.py.

A safetensors file written by this package has preset, labels and activation in its header
(:mod:`.metadata`); a ``.pth`` file cannot store them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..configs import Conv
from . import pth, safetensors_file
from .canonical import Tensors, Weights, WeightsError, hwc_to_chw
from .metadata import shapes_suffice, to_metadata

PTH_SUFFIXES = (".pth", ".pt")


def to_state_dict(weights: Weights, *, metadata: bool = False) -> Tensors:
    """Return the tensors by torchvision's names and in its layouts, with batch norms folded.

    They fit torchvision's network of the same name without ``_bn``. Dense layers are
    ``classifier.0``, ``.3``, ``.6``, … If dense layers read all pixels of images of one size,
    torchvision's adaptive pool changes nothing at that size. ``metadata``: a header will state the
    network's input layers, which have no tensors. Raises :class:`WeightsError` for a
    network that torchvision's names cannot describe.
    """
    config, result = weights.config, Tensors()
    if weights.normalization is not None and not metadata:
        raise WeightsError(
            f"{weights.source}: expected a network without input layers (its normalization of "
            "images) for a .pth file, got one with them; write it as safetensors"
        )
    rows, columns = config.grid
    like = replace(
        config, pooling=None, pool_grid=rows or config.pool_grid, input_size=None, exact_size=False
    )
    if not shapes_suffice(like) or config.reduces == "max" or rows != columns:
        raise WeightsError(
            f"{weights.source}: expected five blocks of convolutions with ReLUs, an average pool "
            "or a square grid, and dense layers for torchvision's names, got another network; "
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
    """Write ``weights`` with torchvision's names, under a temporary name until complete.

    A ``path`` that ends in .pth or .pt is written by torch.save (needs torch) without metadata; any
    other is safetensors with preset, labels and activation in the header. Raises ``OSError``, and
    :class:`WeightsError` if torch is needed and missing.
    """
    has_header = Path(path).suffix.lower() not in PTH_SUFFIXES
    tensors = to_state_dict(weights, metadata=has_header)
    if not has_header:
        pth.write(tensors, path)
    else:
        safetensors_file.write(tensors, path, to_metadata(weights))
