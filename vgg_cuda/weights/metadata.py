"""Metadata of weights in a safetensors header: preset, labels, activation and architecture.

The header's metadata has one key, "vgg_cuda": a JSON object with ``version``, ``preset``,
``labels``, ``activation`` and ``batch_norm``. It is one key, since safetensors writes several keys
in random order and equal weights should give equal files. In version 1, names and shapes determine
the architecture; otherwise version 2 states it as ``config``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..configs import Config
from ..images.presets import PRESETS, Preset
from ..text import one_line
from .architecture import config_from_dict, shapes_suffice
from .canonical import Weights, WeightsError

KEY, PLAIN, WITH_CONFIG = "vgg_cuda", 1, 2  # the versions


@dataclass(frozen=True)
class Stated:
    """Metadata of a file; ``present`` is False if it has none and all values are defaults."""

    present: bool = False
    preset: Preset = PRESETS["torchvision"]
    labels: tuple[str, ...] | None = None
    activation: str | None = None
    batch_norm: bool = False
    config: Config | None = None


def parse(metadata: Mapping[str, str], source: str) -> Stated:
    """Return the contents of ``metadata``. Raises :class:`WeightsError` for invalid ones."""
    if KEY not in metadata:
        return Stated()
    try:
        given: Any = json.loads(metadata[KEY])
    except (ValueError, RecursionError) as error:  # RecursionError: brackets nested too deep
        raise WeightsError(
            f"{source}: {KEY}: expected JSON in the metadata: {one_line(error)}"
        ) from error
    if not isinstance(given, dict):
        raise WeightsError(f"{source}: {KEY}: expected a JSON object in the metadata")
    if given.get("version", PLAIN) not in (PLAIN, WITH_CONFIG):
        raise WeightsError(
            f"{source}: version: expected {PLAIN} or {WITH_CONFIG}, got "
            f"{one_line(given['version'])}; upgrade vgg_cuda"
        )
    return Stated(
        present=True,
        preset=_preset(given, source),
        labels=_labels(given.get("labels"), source),
        activation=given.get("activation"),
        batch_norm=given.get("batch_norm", False) is True,
        config=None if "config" not in given else config_from_dict(given["config"], source),
    )


def to_metadata(weights: Weights) -> dict[str, str]:
    """Return the metadata of ``weights`` for a safetensors header."""
    plain = shapes_suffice(weights.config)
    stated = {
        "version": PLAIN if plain else WITH_CONFIG,
        "preset": weights.preset.to_dict(),
        "labels": weights.labels,
        "activation": weights.activation,
        "batch_norm": weights.config.batch_norm,
    }
    if not plain:
        stated["config"] = asdict(weights.config)
    return {KEY: json.dumps(stated, ensure_ascii=False)}


def _preset(given: Mapping[str, Any], source: str) -> Preset:
    if "preset" not in given:
        return PRESETS["torchvision"]
    try:
        return Preset.from_dict(given["preset"])
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WeightsError(f"{source}: {one_line(error)}") from error


def _labels(labels: Any, source: str) -> tuple[str, ...] | None:
    if labels is None:
        return None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise WeightsError(f"{source}: labels: expected a list of strings in the metadata")
    try:
        "".join(labels).encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, which is valid in JSON
        raise WeightsError(f"{source}: labels: expected Unicode text: {error.reason}") from error
    return tuple(labels)
