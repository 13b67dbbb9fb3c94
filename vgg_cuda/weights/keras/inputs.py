"""Translation of Keras' layers and operations on images before the first convolution.

``keras.applications.*.preprocess_input(x)`` and arithmetic on ``keras.Input`` become operations in
a Functional model: ``TrueDivide``, ``Subtract``, ``GetItem`` and others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from ...text import one_line
from ..canonical import Array
from ..chain.inputs import arithmetic, reversal
from ..chain.layers import Affine, Identity
from .graph import KerasLayer
from .nodes import TENSOR
from .state import State
from .terms import only

EPSILON = 1e-7  # keras.config.epsilon(), of the deviation in Normalization
KINDS = {
    "Add": "add", "Subtract": "sub", "Multiply": "mul", "Divide": "div", "TrueDivide": "div",
}  # fmt: skip
INSTEAD = (
    "a file does not hold its function, or holds code, which is never executed; in its place use "
    "Rescaling(scale, offset), such as Rescaling(1 / 127.5, -1), or Normalization(mean=, variance=)"
)


def rescaling(state: State, layer: KerasLayer) -> None:
    """Add Rescaling: x * scale + offset."""
    get = layer.config.get
    scale, offset = (_numbers(state, layer, get(name, 0.0)) for name in ("scale", "offset"))
    _affine(state, layer, scale, offset)


def normalization(state: State, layer: KerasLayer) -> None:
    """Add Normalization by the mean and variance of its config or its variables."""
    get = layer.config.get
    axis = get("axis", -1)
    axes = axis if isinstance(axis, list) else [axis]
    own = [1, -3] if state.data_format == "channels_first" else [3, -1]
    if axes not in ([own[0]], [own[1]], [], [None]):
        state.refuse(layer, f"the axis of channels, {own[1]}", f"axis {one_line(axis, 40)}")
    mean, variance = get("mean"), get("variance")
    if mean is None or variance is None:
        mean, variance = state.arrays(layer, ("mean", "variance", "count"))
    mean, variance = (np.asarray(v, np.float64).reshape(-1) for v in (mean, variance))
    with np.errstate(invalid="ignore"):
        deviation = np.maximum(np.sqrt(variance), EPSILON)
    if get("invert", False):
        _affine(state, layer, deviation, mean, per_channel=True)
    else:
        _affine(state, layer, 1 / deviation, -mean / deviation, per_channel=True)


def operation(state: State, layer: KerasLayer) -> None:
    """Add an arithmetic operation on images and numbers."""
    others = [operand for operand in layer.operands if operand is not TENSOR]
    if len(others) != 1 or len(layer.operands) != 2:
        state.refuse(layer, "one number, or one per channel, beside the images", "others")
    value = _numbers(state, layer, others[0])
    swapped = layer.operands[1] is TENSOR
    found = arithmetic(layer.name, KINDS[layer.kind], value, swapped)
    _affine(state, layer, found.scale, found.offset)


def channel_order(state: State, layer: KerasLayer) -> None:
    """Add a reversal of channels: ``x[..., ::-1]``, ``flip(x, -1)``, or a stack of channels."""
    if layer.kind == "GetItem":
        reverses = len(layer.operands) == 2 and _is_reversal(layer.operands[1])
    else:
        last = only(layer.config.get("axis")) in (-1, 3)
        reverses = last and layer.config.get("order", [2, 1, 0]) == [2, 1, 0]
    if not reverses or state.data_format == "channels_first":
        state.refuse(layer, "a reversal of the last axis, x[..., ::-1]", "another index")
    _before_convolutions(state, layer)
    state.records.append(reversal(layer.name))


def refuse_lambda(state: State, layer: KerasLayer) -> NoReturn:
    """Refuse a Lambda layer."""
    state.refuse(layer, "layers whose computation the config states", "Lambda", INSTEAD)


def refuse_resizing(state: State, layer: KerasLayer) -> NoReturn:
    """Refuse a Resizing layer."""
    why = "leave it out, and pass images of that size; classify and features resize images"
    state.refuse(layer, "a network of images as they are", "Resizing", why)


def _is_reversal(index: Any) -> bool:
    """Return whether an index in Keras' spelling is ``[..., ::-1]``."""
    if not isinstance(index, list) or len(index) != 2:
        return False
    first, last = index
    inner = last.get("config", last) if isinstance(last, Mapping) else None
    is_ellipsis = isinstance(first, Mapping) and first.get("class_name") == "__ellipsis__"
    return is_ellipsis and inner == {"start": None, "stop": None, "step": -1}


def _numbers(state: State, layer: KerasLayer, value: Any) -> Array:
    """Return a number, a list of them, or an array in Keras' spelling as float64."""
    if isinstance(value, Mapping):
        inner = value.get("config")
        value = inner.get("value") if isinstance(inner, Mapping) else None
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        numbers = np.full(1, np.nan)
    if numbers.size > 1 and (set(numbers.shape[:-1]) - {1} or numbers.ndim > 4):
        state.refuse(layer, "one number per channel", f"numbers of shape {list(numbers.shape)}")
    if not numbers.size or not np.isfinite(numbers).all():
        state.refuse(layer, "finite numbers", one_line(value, 40))
    return numbers.reshape(-1)


def _affine(
    state: State, layer: KerasLayer, scale: Array, offset: Array, per_channel: bool = False
) -> None:
    """Add x * scale + offset; ``per_channel``: of any axis, else of the last one."""
    _before_convolutions(state, layer)
    several = scale.size > 1 or offset.size > 1
    if several and not per_channel and state.data_format == "channels_first":
        state.refuse(layer, "one number for all channels_first images", "several")
    state.records.append(Affine(layer.name, scale, offset))


def _before_convolutions(state: State, layer: KerasLayer) -> None:
    if any(not isinstance(record, (Identity, Affine)) for record in state.records):
        state.refuse(layer, f"{layer.kind} before the first convolution", "one after it")


ADD: dict[str, Callable[[State, KerasLayer], None]] = {
    "Rescaling": rescaling,
    "Normalization": normalization,
    **dict.fromkeys(KINDS, operation),
    **dict.fromkeys(("Flip", "GetItem", "Stack"), channel_order),
    "Lambda": refuse_lambda,
    "Resizing": refuse_resizing,
}
"""Translators by class; operations have Keras' names of their classes."""
