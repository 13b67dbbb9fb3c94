"""Preset and labels that a user states for weights, and the assumptions about a preset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from ..images.presets import Preset, RangeWarning, as_preset
from ..system.notices import warn_once
from .canonical import AssumedWarning, Weights
from .labels import read_labels

Labels = str | os.PathLike[str] | Sequence[str]


def with_stated(
    weights: Weights, preset: str | Preset | None = None, labels: Labels | None = None
) -> Weights:
    """Return ``weights`` with a stated preset, with labels, or both.

    ``preset`` is a name, which is fitted to the network's image size, the path of a .json file or a
    :class:`Preset`. ``labels`` are names, or the path of a file for :func:`read_labels`. Raises
    ``ValueError`` for unknown names and wrong numbers, ``FileNotFoundError`` for missing files.
    """
    if preset is not None:
        chosen = as_preset(preset, preset_size(weights))
        weights = replace(weights, preset=chosen, preset_stated=True)
    if labels is not None:
        names = read_labels(labels) if isinstance(labels, (str, os.PathLike)) else tuple(labels)
        if len(names) != weights.config.num_classes:
            expected = weights.config.num_classes or "no"
            raise ValueError(f"labels: expected {expected} names, one per class, got {len(names)}")
        weights = replace(weights, labels=names)
    return weights


def preset_size(weights: Weights) -> tuple[int, int] | None:
    """Return height and width that named presets are fitted to; None for their own."""
    return weights.config.input_size or weights.preset.size


def normalized_twice(weights: Weights, preset: Preset) -> str | None:
    """Return a warning if ``preset`` scales pixels that the network's input layers scale, too."""
    takes_pixels = weights.preset_stated and weights.preset.input_range == (0, 255)
    if not takes_pixels or preset.input_range == (0, 255):
        return None
    return (
        f"{weights.source} takes pixels from 0 to 255, which it normalizes itself; preset "
        f"{preset.name!r} normalizes them, too ({preset.describe_values()})"
    )


def chosen_preset(weights: Weights, preset: str | Preset) -> Preset:
    """Return the preset for images of ``weights``, by name or as it is.

    Warns once if it is an assumption, and if it scales pixels that the network scales itself.
    """
    if preset is weights.preset:
        warn_if_assumed(weights)
    chosen = as_preset(preset, preset_size(weights))
    if twice := normalized_twice(weights, chosen):
        warn_once(twice, RangeWarning)
    return chosen


def warn_if_assumed(weights: Weights) -> None:
    """Warn, once per source, if nothing states how images are preprocessed."""
    if not weights.preset_stated:
        preset = weights.preset
        warn_once(
            f"assumed preprocessing: {preset.describe_size()}; {preset.describe_values()} (preset "
            f"{preset.name}): {weights.source} does not state any; pass preset= to VGG.load or "
            "classify",
            AssumedWarning,
        )
