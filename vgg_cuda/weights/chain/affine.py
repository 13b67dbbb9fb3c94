"""A scale and shift per channel that waits for the dense layer behind it, which takes it over.

An average over pixels, a flattening and, for scales >= 0, a maximum commute with it exactly. A
convolution does not: its padding adds zeros, which have no shift. There, the map stays a separate
layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..canonical import as_float32
from ..fold import Float64, fold_inputs
from .layers import (
    AdaptiveAvgPool,
    Affine,
    BatchNorm,
    Conv3x3,
    Flatten,
    GlobalPool,
    Layer,
    MaxPool2x2,
    UnsupportedError,
    kind_of,
)
from .parameters import Parameters, misshapen

SPATIAL = (Conv3x3, MaxPool2x2, GlobalPool)  # layers that a map may precede


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

    def fold(self, dense: Parameters, order: str) -> None:
        """Fold the map into the dense layer; ``order`` ("HWC", "CHW") is that of its inputs."""
        inputs, channels = dense.w.shape[1], len(self.scale)
        if inputs % channels or (inputs != channels and not self.pixels):
            raise misshapen(f"{self.layer.name}: scale", (inputs,), self.scale.shape)
        spread: Any = np.repeat if order == "CHW" else np.tile
        scale, shift = (spread(part, inputs // channels) for part in (self.scale, self.shift))
        dense.w, dense.bias = fold_inputs(dense.w, dense.bias, scale, shift)


class Maps:
    """The affine maps that are separate layers, by the number of layers before them."""

    def __init__(self) -> None:
        self._found: dict[int, Waiting] = {}
        self.last = False  # whether a map follows the last parameters and their ReLU

    def add(self, waiting: Waiting, position: int, end: str, *, possible: bool = True) -> None:
        """Make ``waiting`` a layer behind ``position`` convolutions and max-pools.

        Raises :class:`UnsupportedError` if it is not ``possible``: vectors have no such layer.
        """
        if not possible or not waiting.pixels:
            layer = waiting.layer
            raise UnsupportedError(
                f"{layer.name}: expected a convolution or dense layer right before, or a "
                f"convolution, pool or dense layer behind it, got {kind_of(layer)} "
                f"{waiting.place} and {end}"
            )
        before = self._found.setdefault(position, waiting)
        if before is not waiting:  # a global maximum is between the two
            before.then(waiting.scale, waiting.shift)
        self.last = True

    @property
    def positions(self) -> list[int]:
        """Numbers of layers before the maps."""
        return sorted(self._found)

    def parameters(self) -> list[Parameters]:
        """Return the maps as layers with float32 weight and bias [C], in order."""
        maps = [self._found[position] for position in self.positions]
        return [Parameters(m.layer.name, as_float32(m.scale), as_float32(m.shift)) for m in maps]
