"""torchvision's names and layouts: ``features.{i}`` KCRS, ``classifier.{0,3,6}``, batch norms.

Source: torchvision/models/vgg.py. fc6 reads CHW there and HWC here; the permutation is done once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs import Config, config_name
from .canonical import Tensors, Weights, WeightsError
from .fold import fold_batch_norm

_NAME = re.compile(
    r"features\.(\d+)\.(weight|bias|running_mean|running_var|num_batches_tracked)"
    r"|classifier\.(\d+)\.(weight|bias)"
)
BN_EPSILON = 1e-5  # torch.nn.BatchNorm2d's default; the file does not hold it


def matches(names: list[str]) -> bool:
    """Whether these are the names of a torchvision VGG's state dict."""
    return "features.0.weight" in names


def from_tensors(tensors: Mapping[str, NDArray[Any]], source: str) -> Weights:
    """Weights from a torchvision state dict. Raises :class:`WeightsError`."""
    unknown = [name for name in tensors if not _NAME.fullmatch(name)]
    if unknown:
        raise WeightsError(
            f"{source}: {unknown[0]}: expected torchvision's names (features.N.…, classifier.N.…)"
        )
    convs, batch_norm = _conv_indices(tensors, source)
    widths = _widths(tensors, convs, 3 if batch_norm else 2, source)
    dense = sorted(int(n.split(".")[1]) for n in tensors if re.match(r"classifier\.\d+\.weight", n))
    channels = next(w for w in reversed(widths) if isinstance(w, int))
    head, grid = _head(tensors, dense, channels, source)
    config = Config(config_name(tuple(widths)), tuple(widths), head, grid, batch_norm)

    result: Tensors = {}
    for conv, index in zip(config.convs, convs, strict=True):
        w = _get(tensors, f"features.{index}.weight", source, rank=4)
        k = w.shape[0]
        bias = tensors.get(f"features.{index}.bias")
        b = np.zeros(k, np.float32) if bias is None else np.asarray(bias, np.float32)
        if batch_norm:
            prefix = f"features.{index + 1}."
            parts = [
                _get(tensors, prefix + part, source, rank=1)
                for part in ("weight", "bias", "running_mean", "running_var")
            ]
            for part in parts:
                if part.shape != (k,):
                    raise WeightsError(f"{source}: {prefix}*: expected [{k}], got {part.shape}")
            w, b = fold_batch_norm(w, b, *parts, epsilon=BN_EPSILON)
        result[f"{conv.name}.weight"] = np.ascontiguousarray(w.transpose(0, 2, 3, 1))
        result[f"{conv.name}.bias"] = b
    for layer, index in zip(config.dense, dense, strict=True):
        w = _get(tensors, f"classifier.{index}.weight", source, rank=2)
        if layer.name == "fc6":
            w = chw_to_hwc(w, channels, grid)
        result[f"{layer.name}.weight"] = w
        result[f"{layer.name}.bias"] = _get(tensors, f"classifier.{index}.bias", source, rank=1)
    return Weights(config, result, source=source)


def chw_to_hwc(w: NDArray[np.float32], channels: int, grid: int) -> NDArray[np.float32]:
    """fc6's weight [K, C*grid*grid] as [K, grid*grid*C]: columns from CHW to HWC order."""
    chw = w.reshape(w.shape[0], channels, grid * grid)
    return np.ascontiguousarray(chw.transpose(0, 2, 1)).reshape(w.shape)


def _conv_indices(tensors: Mapping[str, NDArray[Any]], source: str) -> tuple[list[int], bool]:
    weights = sorted(
        int(n.split(".")[1]) for n in tensors if re.fullmatch(r"features\.\d+\.weight", n)
    )
    convs = [i for i in weights if tensors[f"features.{i}.weight"].ndim == 4]
    norms = [i for i in weights if i not in convs]
    if norms and norms != [i + 1 for i in convs]:
        raise WeightsError(
            f"{source}: expected a batch norm after every convolution or after none, got "
            f"convolutions at features.{convs} and batch norms at features.{norms}"
        )
    return convs, bool(norms)


def _widths(
    tensors: Mapping[str, NDArray[Any]], convs: list[int], step: int, source: str
) -> list[int | str]:
    """The list of widths: a gap of one module between convolutions is a pool."""
    widths: list[int | str] = []
    for position, index in enumerate(convs):
        widths.append(tensors[f"features.{index}.weight"].shape[0])
        gap = convs[position + 1] - index if position + 1 < len(convs) else step + 1
        if gap not in (step, step + 1):
            raise WeightsError(
                f"{source}: features.{index + step}: expected a 3x3 convolution or a 2x2 pool "
                f"after features.{index}, found a gap of {gap - step} modules"
            )
        if gap == step + 1:
            widths.append("M")
    if sum(width == "M" for width in widths) != 5:
        raise WeightsError(f"{source}: expected five blocks of convolutions, got {widths}")
    return widths


def _head(
    tensors: Mapping[str, NDArray[Any]], dense: list[int], channels: int, source: str
) -> tuple[tuple[int, ...], int]:
    if not dense:
        return (), 7
    first = _get(tensors, f"classifier.{dense[0]}.weight", source, rank=2)
    cells = first.shape[1] / channels
    grid = round(cells**0.5)
    if grid < 1 or grid * grid != cells:
        raise WeightsError(
            f"{source}: classifier.{dense[0]}.weight: expected [K, {channels}*g*g] for a square "
            f"grid of g x g cells, got {list(first.shape)}"
        )
    return tuple(tensors[f"classifier.{i}.weight"].shape[0] for i in dense), grid


def _get(
    tensors: Mapping[str, NDArray[Any]], name: str, source: str, *, rank: int
) -> NDArray[np.float32]:
    if name not in tensors:
        raise WeightsError(f"{source}: missing: {name}")
    tensor = np.ascontiguousarray(tensors[name], np.float32)
    if tensor.ndim != rank:
        raise WeightsError(f"{source}: {name}: expected rank {rank}, got {list(tensor.shape)}")
    return tensor
