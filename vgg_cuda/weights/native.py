"""The native file: safetensors with canonical names, and what is needed to use it in the header.

The header's metadata has one key, "vgg_cuda", a JSON object with ``version`` (1), ``preset``,
``labels``, ``activation`` and ``batch_norm``; one key, since safetensors writes several in random
order and the same weights should make the same file. Format:
https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs import Config, config_name
from ..preprocess import PRESETS, Preset
from .canonical import Weights, WeightsError

KEY, VERSION = "vgg_cuda", 1
_NAME = re.compile(r"conv(\d+)_(\d+)\.(?:weight|bias)|fc(\d+)\.(?:weight|bias)")


def matches(names: list[str]) -> bool:
    """Whether these tensor names are canonical ones."""
    return "conv1_1.weight" in names


def from_tensors(
    tensors: Mapping[str, NDArray[Any]], source: str, metadata: Mapping[str, str] | None = None
) -> Weights:
    """Weights from tensors with canonical names; architecture, head and classes from their shapes.

    Raises :class:`WeightsError`.
    """
    given = _parse((metadata or {}).get(KEY, "{}"), source)
    config = infer_config(tensors, source, batch_norm=given.get("batch_norm", False) is True)
    try:
        preset = Preset.from_dict(given["preset"]) if "preset" in given else PRESETS["torchvision"]
    except ValueError as error:
        raise WeightsError(f"{source}: {error}") from error
    labels = given.get("labels")
    if labels is not None and not (
        isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    ):
        raise WeightsError(f"{source}: labels: expected a list of strings in the metadata")
    return Weights(
        config=config,
        tensors={name: np.ascontiguousarray(t, np.float32) for name, t in tensors.items()},
        preset=preset,
        labels=None if labels is None else tuple(labels),
        activation=given.get("activation"),
        source=source,
    )


def infer_config(
    tensors: Mapping[str, NDArray[Any]], source: str, *, batch_norm: bool = False
) -> Config:
    """The architecture that canonical names and shapes describe. Raises :class:`WeightsError`."""
    blocks: dict[int, dict[int, int]] = {}
    dense: dict[int, tuple[int, ...]] = {}
    unknown = []
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            unknown.append(name)
        elif name.endswith(".bias"):
            continue
        elif match[3]:
            dense[int(match[3])] = tensor.shape
        else:
            blocks.setdefault(int(match[1]), {})[int(match[2])] = (*tensor.shape, 0)[0]
    if unknown:
        raise WeightsError(
            f"{source}: {unknown[0]}: expected canonical names such as conv1_1.weight and fc6.bias"
        )
    widths: list[int | str] = []
    for block in range(1, max(blocks, default=0) + 1):
        indices = sorted(blocks.get(block, {}))
        if not indices or indices != list(range(1, len(indices) + 1)):
            raise WeightsError(
                f"{source}: block {block}: expected conv{block}_1, conv{block}_2, … without a gap, "
                f"got {', '.join(f'conv{block}_{i}' for i in indices) or 'none'}"
            )
        widths += [*(blocks[block][i] for i in indices), "M"]
    if sum(width == "M" for width in widths) != 5:
        raise WeightsError(f"{source}: expected five blocks of convolutions, got {len(blocks)}")
    channels = next(w for w in reversed(widths) if isinstance(w, int))
    head, grid = _infer_head(dense, channels, source)
    name = config_name(tuple(widths))
    return Config(name, tuple(widths), head, grid, batch_norm)


def _infer_head(
    dense: dict[int, tuple[int, ...]], channels: int, source: str
) -> tuple[tuple[int, ...], int]:
    """Output features of fc6, fc7, …, and the side of the grid that fc6 reads."""
    if not dense:
        return (), 7
    if sorted(dense) != list(range(6, 6 + len(dense))) or any(len(s) != 2 for s in dense.values()):
        raise WeightsError(
            f"{source}: dense layers: expected fc6, fc7, … of rank 2, got "
            + ", ".join(f"fc{i} {list(s)}" for i, s in sorted(dense.items()))
        )
    cells = dense[6][1] / channels
    grid = round(cells**0.5)
    if grid < 1 or grid * grid != cells:
        raise WeightsError(
            f"{source}: fc6.weight: expected [K, g*g*{channels}] for a square grid of g x g "
            f"cells (7 x 7 in the published networks), got {list(dense[6])}"
        )
    return tuple(dense[i][0] for i in sorted(dense)), grid


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise WeightsError(f"{source}: {KEY}: expected JSON in the metadata: {error}") from error
    if not isinstance(given, dict):
        raise WeightsError(f"{source}: {KEY}: expected a JSON object in the metadata")
    if given.get("version", VERSION) != VERSION:
        raise WeightsError(
            f"{source}: expected version {VERSION} of the native format, got {given['version']}: "
            "upgrade vgg_cuda"
        )
    return given


def save(weights: Weights, path: str | Path) -> None:
    """Writes ``weights`` as a native file: under a temporary name, renamed when it is whole."""
    from safetensors.numpy import save_file

    from ..files import replacing

    stated = {
        "version": VERSION,
        "preset": weights.preset.to_dict(),
        "labels": weights.labels,
        "activation": weights.activation,
        "batch_norm": weights.config.batch_norm,
    }
    metadata = {KEY: json.dumps(stated, ensure_ascii=False)}
    with replacing(path) as temporary:
        save_file(weights.tensors, temporary, metadata=metadata)
