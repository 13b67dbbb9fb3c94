"""The input layers of a network that act on each channel alone, as one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .preset import Preset
from .presets import PRESETS


@dataclass(frozen=True)
class Normalization:
    """The map x -> x * scale + offset per channel of a network's inputs.

    ``reverse``: the channels are reversed first (RGB to BGR). ``scale`` and ``offset`` have a
    number per channel, in the order after that. Raises ``ValueError`` for other values.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    reverse: bool = False

    def __post_init__(self) -> None:
        numbers = (*self.scale, *self.offset)
        if not (len(self.scale) == len(self.offset) > 0 and np.isfinite(numbers).all()):
            raise ValueError("normalization: expected a finite scale and offset per channel")
        if not all(self.scale):
            raise ValueError("normalization: expected scales other than 0")

    def into(self, x: Any, y: Any, axis: int = -1) -> None:
        """Write the map of x to y, both NumPy or CuPy arrays with the channels at ``axis``.

        y has a floating-point dtype. Nothing is allocated, as the capture of a graph requires.
        """
        source, target = np.moveaxis(x, axis, -1), np.moveaxis(y, axis, -1)
        target[...] = source[..., ::-1] if self.reverse else source
        for c, (scale, offset) in enumerate(zip(self.scale, self.offset, strict=True)):
            channel = target[..., c]
            channel *= scale
            channel += offset

    def __call__(self, x: Any, axis: int = -1) -> Any:
        """Return the map of x, a NumPy or CuPy array, as a new float32 array."""
        y = x.astype(np.float32, order="C", copy=True)
        self.into(x, y, axis)
        return y

    def exactly(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return the map of x [...,C] in float64."""
        ordered = x[..., ::-1] if self.reverse else x
        return np.asarray(ordered.astype(np.float64) * self.scale + np.array(self.offset))

    def after(self, preset: Preset) -> Preset:
        """Return the preset that equals ``preset``, then this map."""
        channels = preset.channels[::-1] if self.reverse else preset.channels
        step = -1 if self.reverse else 1
        means, stds = preset.mean[::step], preset.std[::step]
        given = list(zip(means, stds, self.scale, self.offset, strict=True))
        mean: Any = tuple(m - offset * s / scale for m, s, scale, offset in given)
        std: Any = tuple(s / scale for _, s, scale, _ in given)
        return replace(preset, channels=channels, mean=mean, std=std)


def raw_preset(scale: Sequence[float], offset: Sequence[float]) -> tuple[Preset, bool] | None:
    """Return the preset of inputs that a network itself scales, and whether that is certain.

    A network that divides by more than 10, or subtracts more than 2, takes pixels from 0 to 255.
    If it scales otherwise, it takes 0 to 1 or -1 to 1: probably the range that becomes centred.
    Returns None for the identity, which says nothing.
    """
    factor, shift = float(np.mean(np.abs(scale))), float(np.mean(offset))
    if factor < 0.1 or (factor < 2 and np.abs(offset).max() > 2):
        return PRESETS["pixels"], True
    if np.allclose(scale, 1) and not np.any(offset):
        return None
    centred = abs(shift) < abs(shift + factor / 2)
    return PRESETS["tf" if centred else "unit"], False
