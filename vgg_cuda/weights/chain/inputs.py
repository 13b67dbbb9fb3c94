"""Input layers of a network: affine maps per channel before the first convolution."""

from __future__ import annotations

import numpy as np

from ...images.normalization import Normalization
from ..canonical import WeightsError
from .layers import Affine, Array, BatchNorm, UnsupportedError
from .parameters import Parameters, affine_of, misshapen


class InputLayers:
    """The composition of the affine maps so far, in float64; scale and offset are [1] or [C]."""

    def __init__(self) -> None:
        self.scale: Array = np.ones(1)
        self.offset: Array = np.zeros(1)
        self.reverse = False
        self.name = ""  # of the last layer; empty without any

    def add(self, layer: Affine | BatchNorm) -> None:
        """Add a map. Raises :class:`WeightsError` for other shapes and for values without use."""
        if isinstance(layer, BatchNorm):
            layer = batch_norm_as_affine(layer)
        scale = np.asarray(layer.scale, np.float64).reshape(-1)
        offset = np.asarray(layer.offset, np.float64).reshape(-1)
        step = -1 if layer.reverse else 1
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                self.offset = self.offset[::step] * scale + offset
                self.scale = self.scale[::step] * scale
        except ValueError:
            raise misshapen(f"{layer.name}: scale", (self.scale.size,), scale.shape) from None
        self.reverse ^= layer.reverse
        self.name = layer.name
        if not (np.isfinite(self.scale).all() and np.isfinite(self.offset).all()):
            raise WeightsError(f"{layer.name}: expected finite values, found NaN or infinity")
        if not self.scale.all():
            raise WeightsError(f"{layer.name}: expected scales other than 0, got 0")

    def folded(self, first: Parameters) -> Normalization | None:
        """Fold the maps into the first convolution; return what padding forbids to fold.

        Zeros of the padding are not normalized, so an offset cannot be folded. Raises
        :class:`WeightsError` for another number of channels.
        """
        if not self.name:
            return None
        channels = first.w.shape[3]
        if not {self.scale.size, self.offset.size} <= {1, channels}:
            raise misshapen(self.name, (channels,), (max(self.scale.size, self.offset.size),))
        scale, offset = (np.broadcast_to(part, channels) for part in (self.scale, self.offset))
        if offset.any():
            return Normalization(tuple(scale.tolist()), tuple(offset.tolist()), self.reverse)
        w = first.w * scale
        first.w = np.ascontiguousarray(w[..., ::-1] if self.reverse else w, np.float32)
        return None


def arithmetic(name: str, kind: str, value: Array, swapped: bool = False) -> Affine:
    """Return images ``kind`` value ("add", "sub", "mul" or "div") as an affine map.

    ``swapped``: the value is on the left. Raises :class:`UnsupportedError` for other divisions than
    by numbers.
    """
    value = np.asarray(value, np.float64).reshape(-1)
    one, none = np.ones(1), np.zeros(1)
    if kind == "add":
        return Affine(name, one, value)
    if kind == "sub":
        return Affine(name, -one, value) if swapped else Affine(name, one, -value)
    if kind == "mul":
        return Affine(name, value, none)
    if swapped or not value.all():
        raise UnsupportedError(f"{name}: expected a division by numbers other than 0")
    return Affine(name, 1 / value, none)


def reversal(name: str) -> Affine:
    """Return a reversal of the channels as an affine map."""
    return Affine(name, np.ones(1), np.zeros(1), reverse=True)


def batch_norm_as_affine(layer: BatchNorm) -> Affine:
    """Return a batch norm of images as an affine map. Raises :class:`WeightsError`."""
    return Affine(layer.name, *affine_of(layer, None))
