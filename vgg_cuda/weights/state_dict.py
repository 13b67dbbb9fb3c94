"""State dicts of PyTorch VGGs: ``features.{i}`` KCRS with batch norms, and dense layers in CHW.

torchvision's and timm's networks differ in the names of the dense layers only.
Source: torchvision/models/vgg.py, timm/models/vgg.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..configs import CONFIGS, HIDDEN, Config, config_name
from ..images.presets import PRESETS
from ..text import listed
from .canonical import (
    Array,
    Tensors,
    Weights,
    WeightsError,
    as_float32,
    check_finite,
    check_shapes,
    infer_head,
    is_all_nan,
)
from .fold import fold_batch_norm
from .labels import imagenet_labels
from .metadata import Stated
from .native import warn_head_dropped

INDEX = "(0|[1-9][0-9]{0,2})"  # bounded, since int() fails for thousands of digits
FEATURE = re.compile(
    rf"features\.{INDEX}\.(weight|bias|running_mean|running_var|num_batches_tracked)"
)
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
BN_EPSILON = 1e-5  # torch.nn.BatchNorm2d's default; the file does not hold it


def build(
    tensors: dict[str, Array], dense: Sequence[str], source: str, stated: Stated, kind: str
) -> Weights:
    """Return weights from a state dict whose dense layers are named ``dense``, fc6 first.

    Tensors are removed from the dict one by one, so that at most one exists twice. ``kind`` names
    the layout in messages. Raises :class:`WeightsError`.
    """
    convs, batch_norm = conv_indices(tensors)
    widths = _widths(tensors, convs, 3 if batch_norm else 2)
    name, norm = config_name(widths), batch_norm or stated.batch_norm
    head, grid = infer_head({(n := f"{prefix}.weight"): tensors[n] for prefix in dense}, widths)
    config = Config(name, widths, head, grid, norm)
    expected = _expected(tensors, config, convs, dense, batch_norm)
    check_shapes(expected, tensors, f"{name} with {kind} names")

    labels, activation, preset = stated.labels, stated.activation, stated.preset
    if is_all_nan(tensors[n] for n in expected if not n.startswith("features.")):
        warn_head_dropped(source)
        config, dense = Config(name, widths, (), batch_norm=norm), ()
        labels = activation = None
        if not (
            stated.present or stated.preset_stated
        ):  # the only published file without a head has its own preset
            preset = PRESETS["features"]
    if not stated.present and name in CONFIGS and config.head == (*HIDDEN, 1000):
        labels = imagenet_labels()
    result = _convert(tensors, config, convs, dense, batch_norm)
    layers = [layer.name for layer in config.convs] + [layer.name for layer in config.dense]
    prefixes = [*(f"features.{i}" for i in convs), *dense]
    names = {
        f"{layer}.{part}": f"{prefix}.{part}"
        for layer, prefix in zip(layers, prefixes, strict=True)
        for part in ("weight", "bias")
    }
    return Weights(
        config, result, preset, labels, activation, source, stated.preset_stated,
        stated.normalization, names,
    )  # fmt: skip


def chw_to_hwc(w: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Return fc6's weight [K, C*H*W] as [K, H*W*C]: columns from CHW to HWC order."""
    chw = w.reshape(w.shape[0], channels, -1)
    return np.ascontiguousarray(chw.transpose(0, 2, 1)).reshape(w.shape)


def hwc_to_chw(w: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Return fc6's weight [K, H*W*C] as [K, C*H*W]."""
    hwc = w.reshape(w.shape[0], -1, channels)
    return np.ascontiguousarray(hwc.transpose(0, 2, 1)).reshape(w.shape)


def conv_indices(tensors: Mapping[str, Array]) -> tuple[list[int], bool]:
    """Return the indices of the convolutions, and whether a batch norm follows each."""
    matches = [match for match in map(FEATURE.fullmatch, tensors) if match]
    indices = sorted({int(match[1]) for match in matches})
    missing = [f"features.{i}.weight" for i in indices if f"features.{i}.weight" not in tensors]
    if missing:
        raise WeightsError(f"missing: {listed(missing)}")
    convs = [i for i in indices if tensors[f"features.{i}.weight"].ndim == 4]
    norms = [i for i in indices if i not in convs]
    if norms and norms != [i + 1 for i in convs]:
        raise WeightsError(
            "expected a batch norm after every convolution or after none, got convolutions at "
            f"features.{convs} and other layers at features.{norms}"
        )
    return convs, bool(norms)


def _widths(tensors: Mapping[str, Array], convs: list[int], step: int) -> tuple[int | str, ...]:
    """Return the config's widths: a gap of one module between convolutions is a pool."""
    widths: list[int | str] = []
    for index, following in zip(convs, [*convs[1:], None], strict=True):
        widths.append(len(tensors[f"features.{index}.weight"]))
        gap = step + 1 if following is None else following - index
        if gap not in (step, step + 1):
            raise WeightsError(
                f"missing: features.{index + step}.weight or the next: expected a 3x3 convolution "
                f"or a 2x2 pool after features.{index}, found a gap of {gap - step} modules"
            )
        widths += ["M"] * (gap - step)
    if (convs and convs[0]) or sum(width == "M" for width in widths) != 5:
        raise WeightsError(
            "expected features.0 and five blocks of convolutions, got convolutions at "
            f"features.{convs}"
        )
    return tuple(widths)


def _expected(
    tensors: Mapping[str, Array],
    config: Config,
    convs: list[int],
    dense: Sequence[str],
    batch_norm: bool,
) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor of the file, in the file's layout."""
    shapes: dict[str, tuple[int, ...]] = {}
    for conv, index in zip(config.convs, convs, strict=True):
        k = conv.out_channels
        shapes[f"features.{index}.weight"] = (k, conv.in_channels, 3, 3)
        # A bias before a batch norm has no effect and may be missing.
        if not batch_norm or f"features.{index}.bias" in tensors:
            shapes[f"features.{index}.bias"] = (k,)
        if batch_norm:
            shapes |= {f"features.{index + 1}.{part}": (k,) for part in NORM_PARTS}
            counter = f"features.{index + 1}.num_batches_tracked"
            if counter in tensors:  # allowed, not used
                shapes[counter] = tensors[counter].shape
    for layer, prefix in zip(config.dense, dense, strict=True):
        shapes[f"{prefix}.weight"] = (layer.out_features, layer.in_features)
        shapes[f"{prefix}.bias"] = (layer.out_features,)
    return shapes


def _convert(
    tensors: dict[str, Array],
    config: Config,
    convs: list[int],
    dense: Sequence[str],
    batch_norm: bool,
) -> Tensors:
    """Return the canonical tensors; remove the converted ones from ``tensors``."""
    result: Tensors = {}
    for conv, index in zip(config.convs, convs, strict=True):
        w = as_float32(tensors.pop(f"features.{index}.weight"))
        bias = as_float32(tensors.pop(f"features.{index}.bias", np.zeros(conv.out_channels)))
        if batch_norm:
            parts = [_pop_norm(tensors, f"features.{index + 1}.{part}") for part in NORM_PARTS]
            w, bias = fold_batch_norm(w, bias, *parts, epsilon=BN_EPSILON)
        result[f"{conv.name}.weight"] = np.ascontiguousarray(w.transpose(0, 2, 3, 1))
        result[f"{conv.name}.bias"] = bias
    for layer, prefix in zip(config.dense, dense, strict=True):
        w = as_float32(tensors.pop(f"{prefix}.weight"))
        if layer.name == "fc6":
            w = chw_to_hwc(w, config.out_channels)
        result[f"{layer.name}.weight"] = w
        result[f"{layer.name}.bias"] = as_float32(tensors.pop(f"{prefix}.bias"))
    return result


def _pop_norm(tensors: dict[str, Array], name: str) -> NDArray[np.float32]:
    """Remove and return a batch norm's tensor, checked before folding hides its name."""
    tensor = as_float32(tensors.pop(name))
    check_finite(name, tensor)
    if name.endswith("running_var") and tensor.min() < 0:
        raise WeightsError(f"{name}: expected variances >= 0, got {tensor.min()}")
    return tensor
