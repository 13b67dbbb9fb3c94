"""Adaptation of presets to the image size of a network."""

from __future__ import annotations

from dataclasses import replace

from .preset import Preset


def fitted(preset: Preset, size: tuple[int, int] | None) -> Preset:
    """Return ``preset`` for images of ``size`` (H, W): resized and cropped in proportion."""
    crop = preset.cropped
    if size is None or preset.size == size or (preset.resize is None and crop is None):
        return preset
    height, width = size
    if preset.resize is None:
        return replace(preset, crop=height if height == width else size)
    square = height == width and crop is not None and crop[0] == crop[1]
    if not square or crop is None or not isinstance(preset.resize, int):
        return replace(preset, resize=size, crop=None)
    return replace(preset, resize=round(preset.resize * height / crop[0]), crop=height)
