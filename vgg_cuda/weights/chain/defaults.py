"""Defaults of a network's config, and the sizes of its preset."""

from __future__ import annotations

from dataclasses import replace

from ...configs import POOL_GRID, Config
from ...images.presets import Preset


def normalized(config: Config) -> Config:
    """Return ``config`` with defaults in place of equal explicit values."""
    usual = {layer.name for layer in replace(config, without_relu=None).dense if not layer.relu}
    return replace(
        config,
        pooling=None if config.pooling == ("avg" if config.head else "none") else config.pooling,
        pool_grid=POOL_GRID if config.reduces == "none" else config.pool_grid,
        flat=config.flat and not config.head,
        without_relu=None if set(config.without_relu or ()) == usual else config.without_relu,
    )


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
