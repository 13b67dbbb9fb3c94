"""Parameters of a network's layers as float32, with scales and batch norms folded in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..canonical import Tensors, WeightsError, as_float32, check_finite
from ..fold import Float64, batch_norm_affine, fold_outputs
from .layers import Affine, Array, BatchNorm, Conv3x3, Linear


@dataclass
class Parameters:
    """A convolution or dense layer after folding; w and bias are float32."""

    name: str
    w: Array
    bias: Array
    relu: bool = False
    norm: bool = False

    @classmethod
    def of(cls, layer: Conv3x3 | Linear) -> Parameters:
        """Return the parameters of ``layer``. Raises :class:`WeightsError` for wrong shapes."""
        if 0 in layer.w.shape:
            raise misshapen(f"{layer.name}: weight", ("at least one element",), layer.w.shape)
        K = layer.w.shape[0]
        bias = as_float32(np.zeros(K) if layer.bias is None else layer.bias)
        if bias.shape != (K,):
            raise misshapen(f"{layer.name}: bias", (K,), bias.shape)
        return cls(layer.name, as_float32(layer.w), bias)

    def fold(self, layer: BatchNorm | Affine) -> None:
        """Fold a scale and shift of the outputs. Raises :class:`WeightsError` for bad values."""
        self.w, self.bias = fold_outputs(self.w, self.bias, *affine_of(layer, self.w.shape[0]))
        self.norm |= isinstance(layer, BatchNorm)


def affine_of(layer: BatchNorm | Affine, channels: int | None) -> tuple[Float64, Float64]:
    """Return scale and shift of ``layer``, of any length if ``channels`` is None.

    Raises :class:`WeightsError` for other shapes and bad values.
    """
    if isinstance(layer, Affine):
        given = (np.asarray(layer.scale), np.asarray(layer.offset))
        K = max(part.size for part in given) if channels is None else channels
        scale, offset = (np.full(K, p.item()) if p.size == 1 else p for p in given)
        parts = {"scale": scale, "offset": offset}
    else:
        K = layer.mean.size if channels is None else channels
        parts = {"mean": layer.mean, "variance": layer.variance}
        parts["gamma"] = np.ones(K) if layer.gamma is None else layer.gamma
        parts["beta"] = np.zeros(K) if layer.beta is None else layer.beta
    for part, array in parts.items():
        if array.shape != (K,):
            raise misshapen(f"{layer.name}: {part}", (K,), array.shape)
        check_finite(f"{layer.name}: {part}", array)
    if isinstance(layer, Affine):
        return parts["scale"].astype(np.float64), parts["offset"].astype(np.float64)
    if not (0 < layer.epsilon < math.inf) or parts["variance"].min() < 0:
        raise WeightsError(
            f"{layer.name}: expected epsilon > 0 and variances >= 0, got {layer.epsilon} and "
            f"{parts['variance'].min()}"
        )
    return batch_norm_affine(**parts, epsilon=layer.epsilon)


def named_tensors(
    layers: Sequence[tuple[str, Parameters]], joint: str
) -> tuple[Tensors, dict[str, str]]:
    """Return the tensors of named layers, and their names in the source for messages."""
    tensors: Tensors = {}
    names: dict[str, str] = {}
    for name, found in layers:
        for part, array in (("weight", found.w), ("bias", found.bias)):
            tensors[f"{name}.{part}"] = array
            names[f"{name}.{part}"] = f"{found.name}{joint}{part}"
    return tensors, names


def misshapen(what: str, expected: tuple[Any, ...], got: tuple[int, ...]) -> WeightsError:
    """Return an error about an array of the wrong shape."""
    return WeightsError(f"{what}: expected [{', '.join(map(str, expected))}], got {list(got)}")
