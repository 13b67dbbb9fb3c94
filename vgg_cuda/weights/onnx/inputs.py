"""Operations of an ONNX graph on images before the first convolution, as layers of a chain."""

from __future__ import annotations

import numpy as np

from ..canonical import Array
from ..chain.inputs import arithmetic as affine
from ..chain.inputs import reversal
from ..chain.layers import Affine, BatchNorm
from . import affine as later
from .nodes import Attributes
from .position import Position

SKIPPED = ("Add", "Cast", "Div", "Dropout", "Gather", "Identity", "Mul", "Slice", "Sub")
"""Operations that may precede the transposition of images."""


def at_input(at: Position) -> bool:
    """Return whether the position is before the first convolution."""
    return at.pixels and all(isinstance(layer, (Affine, BatchNorm)) for layer in at.layers)


def arithmetic(at: Position, a: Attributes) -> None:
    """Translate Add, Sub, Mul and Div of images and a constant, or of later results."""
    kind = at.node.op_type
    if not at_input(at):
        later.TRANSLATED[kind](at, a)
        return
    left = at.graph.is_constant(at.node.input[0])
    value = _per_channel(at, at.weights(0 if left else 1))
    at.layers.append(affine(at.name, kind.lower(), value, left))


def gather(at: Position, a: Attributes) -> None:
    """Translate Gather of the channels in reverse: ``x[:, [2, 1, 0]]``."""
    axis, indices = a.pop("axis", 0), at.constant(1)
    channels = at.sizes["C"]
    order = [] if indices is None else [i % channels for i in at.integers(indices)]
    if order != list(range(channels))[::-1]:
        raise at.error("expected the channels in reverse")
    _reverse(at, axis)


def slices(at: Position, a: Attributes) -> None:
    """Translate Slice of the channels in reverse: ``flip``, ``x[..., ::-1]``."""
    given = [at.constant(i) for i in range(1, 5)]
    numbers = [at.integers(part) for part in given if part is not None]
    channels = at.sizes["C"]
    if len(numbers) == 4 and all(len(part) == 1 for part in numbers):
        (start,), (end,), (axis,), (step,) = numbers
        if step == -1 and (start == -1 or start >= channels - 1) and end < -channels:
            _reverse(at, axis)
            return
    raise at.error("expected the channels in reverse")


def _reverse(at: Position, axis: int) -> None:
    if not at_input(at) or "C" in at.open or at.axes[axis % len(at.axes)] != "C":
        raise at.error("expected images' channels in reverse, before the first convolution")
    at.layers.append(reversal(at.name))


def _per_channel(at: Position, value: Array) -> Array:
    """Return a constant that broadcasts to one number per channel, [1] or [C], as float64."""
    sizes = (1,) * (len(at.axes) - value.ndim) + value.shape
    others = [size for size, axis in zip(sizes, at.axes, strict=False) if axis != "C"]
    if len(sizes) > len(at.axes) or any(size != 1 for size in others):
        raise at.error(f"expected a number per channel of {at.shown}, got {list(value.shape)}")
    return value.reshape(-1).astype(np.float64)
