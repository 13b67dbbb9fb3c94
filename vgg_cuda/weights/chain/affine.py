"""A scale and shift per channel that waits for the dense layer behind it, which takes it over.

An average over pixels, a flattening and, for scales >= 0, a maximum commute with it exactly. A
convolution does not: its padding adds zeros, which have no shift. There, the map stays a layer of
its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..canonical import as_float32
from ..fold import Float64, fold_inputs
from .layers import AdaptiveAvgPool, Affine, BatchNorm, Flatten, GlobalPool, Layer, MaxPool2x2
from .parameters import Parameters, misshapen


@dataclass
class Waiting:
    """Affine map of a layer's output: ``scale`` and ``shift`` [C].

    ``pixels`` says that the output is an image, ``place`` is for messages.
    """

    layer: BatchNorm | Affine
    scale: Float64
    shift: Float64
    pixels: bool
    place: str

    def lets_pass(self, layer: Layer) -> bool:
        """Return whether the map may as well follow ``layer``."""
        if isinstance(layer, MaxPool2x2) or (isinstance(layer, GlobalPool) and layer.kind == "max"):
            return bool(self.scale.min() >= 0)
        return isinstance(layer, (AdaptiveAvgPool, GlobalPool, Flatten))

    def then(self, scale: Float64, shift: Float64) -> None:
        """Append the map ``scale`` and ``shift`` [C]."""
        with np.errstate(over="ignore", invalid="ignore"):
            self.scale, self.shift = self.scale * scale, self.shift * scale + shift

    def parameters(self) -> Parameters:
        """Return the map as a layer's float32 weight and bias [C]."""
        return Parameters(self.layer.name, as_float32(self.scale), as_float32(self.shift))

    def fold(self, dense: Parameters, order: str) -> None:
        """Fold the map into the dense layer; ``order`` ("HWC", "CHW") is that of its inputs."""
        inputs, channels = dense.w.shape[1], len(self.scale)
        if inputs % channels or (inputs != channels and not self.pixels):
            raise misshapen(f"{self.layer.name}: scale", (inputs,), self.scale.shape)
        spread: Any = np.repeat if order == "CHW" else np.tile
        scale, shift = (spread(part, inputs // channels) for part in (self.scale, self.shift))
        dense.w, dense.bias = fold_inputs(dense.w, dense.bias, scale, shift)
