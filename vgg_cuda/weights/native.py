"""The native file format: safetensors with canonical names, and metadata in the header.

:mod:`.metadata` describes the header. Format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..configs import IN_CHANNELS, Config, config_name
from ..text import listed
from . import safetensors_file
from .canonical import (
    Array,
    HeadDroppedWarning,
    Weights,
    WeightsError,
    as_float32,
    check_shapes,
    infer_head,
    is_all_nan,
    shapes,
    warn_caller,
)
from .metadata import Stated, to_metadata

# At most three digits: no network has more layers, and int() fails for thousands of digits.
_INDEX = "([1-9][0-9]{0,2})"
_NAME = re.compile(rf"(?:conv{_INDEX}_{_INDEX}|fc{_INDEX})\.(?:weight|bias)")


def prefix(names: Iterable[str]) -> str | None:
    """Return what precedes canonical names, "module." for instance; None if there are none."""
    for name in names:
        layer, _, part = name.rpartition(".")
        before, dot, own = layer.rpartition(".")
        if _NAME.fullmatch(f"{own}.{part}") and (not dot or own.startswith("conv")):
            return before + dot
    return None


def without_prefix(tensors: dict[str, Array]) -> dict[str, Array]:
    """Return ``tensors`` without the prefix of their names, if all have it."""
    before = prefix(tensors) or ""
    if not all(name.startswith(before) for name in tensors):
        return tensors
    return {name.removeprefix(before): tensor for name, tensor in tensors.items()}


def from_tensors(tensors: Mapping[str, Array], source: str, stated: Stated) -> Weights:
    """Return weights from tensors with canonical names; their shapes determine the architecture.

    Raises :class:`WeightsError`.
    """
    config = stated.config or infer_config(tensors, batch_norm=stated.batch_norm)
    check_shapes(dict(shapes(config)), tensors, config.name)
    labels, activation = stated.labels, stated.activation
    if is_all_nan(tensor for name, tensor in tensors.items() if name.startswith("fc")):
        warn_head_dropped(source)
        tensors = {name: t for name, t in tensors.items() if not name.startswith("fc")}
        channels, norm = config.in_channels, config.batch_norm
        config = Config(
            config.name, config.widths, (), batch_norm=norm, in_channels=channels,
            affine_after=config.affine_after,
        )  # fmt: skip
        labels = activation = None
    converted = {name: as_float32(tensor) for name, tensor in tensors.items()}
    return Weights(
        config, converted, stated.preset, labels, activation, source, stated.preset_stated,
        stated.normalization,
    )  # fmt: skip


def infer_config(tensors: Mapping[str, Array], *, batch_norm: bool) -> Config:
    """Return the config for canonical names and shapes. Raises :class:`WeightsError`."""
    blocks: dict[int, dict[int, int]] = {}
    dense: dict[int, Array] = {}
    unknown = []
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            unknown.append(name)
        elif name.endswith(".bias"):
            continue
        elif match[3]:
            dense[int(match[3])] = tensor
        else:
            blocks.setdefault(int(match[1]), {})[int(match[2])] = (*tensor.shape, 0)[0]
    if unknown:
        raise WeightsError(
            f"{listed(unknown)}: expected canonical names such as conv1_1.weight and fc6.bias"
        )
    widths: list[int | str] = []
    for block in range(1, max(blocks, default=0) + 1):
        indices = sorted(blocks.get(block, {}))
        if not indices or indices != list(range(1, len(indices) + 1)):
            raise WeightsError(
                f"block {block}: expected conv{block}_1, conv{block}_2, … without a gap, "
                f"got {', '.join(f'conv{block}_{i}' for i in indices) or 'none'}"
            )
        widths += [*(blocks[block][i] for i in indices), "M"]
    if sum(width == "M" for width in widths) != 5:
        raise WeightsError(f"expected five blocks of convolutions, got {len(blocks)}")
    if sorted(dense) != list(range(6, 6 + len(dense))):
        found = ", ".join(f"fc{i}" for i in sorted(dense))
        raise WeightsError(f"dense layers: expected fc6, fc7, … without a gap, got {found}")
    head, grid = infer_head({f"fc{i}.weight": dense[i] for i in sorted(dense)}, widths)
    first = tensors.get("conv1_1.weight")  # an array of another rank is reported by its shape
    channels = IN_CHANNELS if first is None or first.ndim != 4 else first.shape[3]
    return Config(
        config_name(tuple(widths)), tuple(widths), head, grid, batch_norm, in_channels=channels
    )


def warn_head_dropped(source: str) -> None:
    """Warn that the head is dropped, since all its values are NaN."""
    warn_caller(
        f"{source}: every value of the dense layers is NaN: the dense head is dropped; use "
        "features(), classify() is unavailable",
        HeadDroppedWarning,
    )


def save(weights: Weights, path: str | Path) -> None:
    """Write ``weights`` as a native file, under a temporary name until it is complete."""
    safetensors_file.write(weights.tensors, path, to_metadata(weights))
