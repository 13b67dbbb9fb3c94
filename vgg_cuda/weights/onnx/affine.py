"""Add, Sub, Mul and Div by constants: biases, and batch norms as some exporters write them."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ..chain.layers import Affine, Conv3x3, Linear
from .convs import as_bias
from .nodes import Attributes
from .position import Position

Float64 = NDArray[np.float64]


def add(at: Position, a: Attributes) -> None:
    """Translate Add of a constant: a bias of the layer before it, or a shift."""
    before = at.layers[-1] if at.layers else None
    if not isinstance(before, (Conv3x3, Linear)):
        _append(at, shift=_operand(at))
        return
    features = before.w.shape[0]
    bias = as_bias(at, _operand(at), features)
    if before.bias is not None:
        bias = as_bias(at, before.bias, features).astype(np.float64) + bias
    at.layers[-1] = dataclasses.replace(before, bias=bias)


def subtract(at: Position, a: Attributes) -> None:
    """Translate Sub of a constant."""
    _append(at, shift=-_operand(at, right=True))


def multiply(at: Position, a: Attributes) -> None:
    """Translate Mul by a constant."""
    _append(at, scale=_operand(at))


def divide(at: Position, a: Attributes) -> None:
    """Translate Div by a constant."""
    with np.errstate(divide="ignore"):  # infinities are refused later
        _append(at, scale=1 / _operand(at, right=True))


def _operand(at: Position, *, right: bool = False) -> Float64:
    """Return the constant, one value or one per channel: [1] or [C]."""
    side = 0 if at.graph.is_constant(at.node.input[0]) else 1
    if side == 0 and right:
        raise at.error("expected a constant as the second operand")
    value = at.weights(side)
    sizes = (1,) * (len(at.axes) - value.ndim) + value.shape
    others = [size for size, axis in zip(sizes, at.axes, strict=False) if axis != "C"]
    if len(sizes) > len(at.axes) or any(size > 1 for size in others):
        raise at.error(f"expected one value per channel of {at.shown}, got {list(value.shape)}")
    return value.reshape(-1).astype(np.float64)


def _append(at: Position, *, scale: Float64 | None = None, shift: Float64 | None = None) -> None:
    """Append a scale and shift, or change the one before."""
    if not at.layers:
        raise at.error("expected a 3x3 convolution first; normalise images outside the model")
    before = at.layers[-1]
    if isinstance(before, Affine):
        at.layers.pop()
    else:
        channels = 1 if "C" in at.open else at.sizes["C"]
        before = Affine(at.name, np.ones(channels), np.zeros(channels))
    scale, shift = np.ones(1) if scale is None else scale, np.zeros(1) if shift is None else shift
    try:
        merged = Affine(before.name, before.scale * scale, before.offset * scale + shift)
    except ValueError:
        raise at.error(f"expected one value per channel, got {list(scale.shape)}") from None
    at.layers.append(merged)


TRANSLATED = {"Add": add, "Div": divide, "Mul": multiply, "Sub": subtract}
"""Translators behind the first convolution, by operation."""
