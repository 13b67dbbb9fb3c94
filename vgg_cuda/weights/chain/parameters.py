"""Parameters of a network's layers as float32, with batch norms folded in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..canonical import WeightsError
from ..fold import fold_batch_norm
from .layers import Array, BatchNorm, Conv3x3, Linear


@dataclass
class Parameters:
    """A convolution or dense layer after folding; w and bias are float32."""

    name: str
    w: Array
    bias: Array
    relu: bool = False
    norm: bool = False

    @classmethod
    def of(cls, layer: Conv3x3 | Linear, source: str) -> Parameters:
        """Return the parameters of ``layer``. Raises :class:`WeightsError` for wrong shapes."""
        if 0 in layer.w.shape:
            expected = ("at least one element",)
            raise misshapen(source, f"{layer.name}: weight", expected, layer.w.shape)
        K = layer.w.shape[0]
        bias = np.zeros(K, np.float32) if layer.bias is None else _float32(layer.bias)
        if bias.shape != (K,):
            raise misshapen(source, f"{layer.name}: bias", (K,), bias.shape)
        return cls(layer.name, _float32(layer.w), bias)

    def fold(self, layer: BatchNorm, source: str) -> None:
        """Fold a batch norm into w and bias. Raises :class:`WeightsError` for bad values."""
        K = self.w.shape[0]
        parts = {"mean": layer.mean, "variance": layer.variance}
        parts["gamma"] = np.ones(K) if layer.gamma is None else layer.gamma
        parts["beta"] = np.zeros(K) if layer.beta is None else layer.beta
        for part, array in parts.items():
            if array.shape != (K,):
                raise misshapen(source, f"{layer.name}: {part}", (K,), array.shape)
            if not np.isfinite(array).all():
                raise WeightsError(
                    f"{source}: {layer.name}: {part}: expected finite values, found NaN or infinity"
                )
        if not (0 < layer.epsilon < math.inf) or parts["variance"].min() < 0:
            raise WeightsError(
                f"{source}: {layer.name}: expected epsilon > 0 and variances >= 0, got "
                f"{layer.epsilon} and {parts['variance'].min()}"
            )
        with np.errstate(over="ignore", invalid="ignore"):  # infinities are refused later
            self.w, self.bias = fold_batch_norm(self.w, self.bias, **parts, epsilon=layer.epsilon)
        self.norm = True


def misshapen(
    source: str, what: str, expected: tuple[Any, ...], got: tuple[int, ...]
) -> WeightsError:
    """Return an error about an array of the wrong shape."""
    wanted = ", ".join(map(str, expected))
    return WeightsError(f"{source}: {what}: expected [{wanted}], got {list(got)}")


def _float32(x: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are refused later
        return np.ascontiguousarray(x, np.float32)
