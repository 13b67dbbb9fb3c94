"""What a safetensors header says about using the weights.

The header's metadata has one key, "vgg_cuda", a JSON object with ``version``, ``preset``,
``labels``, ``activation`` and ``batch_norm``; one key, since safetensors writes several in random
order and the same weights should make the same file. Version 1 leaves the architecture to names and
shapes; version 2 is written where these do not tell all of it, and states it as ``config``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..configs import Config
from ..images.presets import PRESETS, Preset
from ..text import one_line
from .architecture import config_from_dict, config_to_dict, is_told_by_shapes
from .canonical import Weights, WeightsError

KEY, PLAIN, WITH_CONFIG = "vgg_cuda", 1, 2  # the versions


@dataclass(frozen=True)
class Stated:
    """What a file states; ``present`` is False where it has no such key and all is a default."""

    present: bool = False
    preset: Preset = PRESETS["torchvision"]
    labels: tuple[str, ...] | None = None
    activation: str | None = None
    batch_norm: bool = False
    config: Config | None = None


def parse(metadata: Mapping[str, str], source: str) -> Stated:
    """What ``metadata`` states. Raises :class:`WeightsError` for what cannot be understood."""
    if KEY not in metadata:
        return Stated()
    try:
        given: Any = json.loads(metadata[KEY])
    except (ValueError, RecursionError) as error:  # the latter for brackets nested too deep
        raise WeightsError(
            f"{source}: {KEY}: expected JSON in the metadata: {one_line(error)}"
        ) from error
    if not isinstance(given, dict):
        raise WeightsError(f"{source}: {KEY}: expected a JSON object in the metadata")
    if given.get("version", PLAIN) not in (PLAIN, WITH_CONFIG):
        raise WeightsError(
            f"{source}: expected version {PLAIN} or {WITH_CONFIG} of the native format, got "
            f"{one_line(given['version'])}: upgrade vgg_cuda"
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
    """What ``weights`` say about their use, for a safetensors header."""
    told = is_told_by_shapes(weights.config)
    stated = {
        "version": PLAIN if told else WITH_CONFIG,
        "preset": weights.preset.to_dict(),
        "labels": weights.labels,
        "activation": weights.activation,
        "batch_norm": weights.config.batch_norm,
    }
    if not told:
        stated["config"] = config_to_dict(weights.config)
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
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can spell
        raise WeightsError(f"{source}: labels: expected Unicode text: {error.reason}") from error
    return tuple(labels)
