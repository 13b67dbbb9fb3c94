"""Defaults of a network's config, and the sizes of its preset."""

from __future__ import annotations

from dataclasses import replace

from ...configs import POOL_GRID, Config
from ...images.presets import Preset


def normalized(config: Config) -> Config:
    """Return ``config`` with defaults in place of equal explicit values."""
    plain = replace(config, pooling=None, without_relu=None)
    if config.head and config.pooling == "avg":
        config = replace(config, pooling=None)
    if not config.head and config.pooling == "none":
        config = replace(config, pooling=None)
    if config.head:
        config = replace(config, flat=False)
    if config.reduces == "none":
        config = replace(config, pool_grid=POOL_GRID)
    usual = {layer.name for layer in plain.dense if not layer.relu}
    if set(config.without_relu or ()) == usual:
        config = replace(config, without_relu=None)
    return config


def fitted(preset: Preset, size: tuple[int, int] | None) -> Preset:
    """Return ``preset`` for images of ``size`` (H, W): resized and cropped in proportion."""
    if size is None or (preset.resize is None and preset.crop is None):
        return preset
    if preset.crop is None or not isinstance(preset.resize, int) or size[0] != size[1]:
        return preset if preset.resize == size else replace(preset, resize=size, crop=None)
    if preset.crop == size[0]:
        return preset
    shorter = round(preset.resize * size[0] / preset.crop)
    return replace(preset, resize=shorter, crop=size[0])
