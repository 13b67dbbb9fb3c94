"""Convolutions, batch norms, ReLUs and no-ops of an ONNX graph as layers of a chain."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..canonical import Array
from ..chain.layers import BatchNorm, Conv3x3, Flatten, Identity, Linear, Relu
from .nodes import Attributes, label
from .position import Position
from .tensors import FLOATING


def nothing(t: Position, node: Any, a: Attributes) -> None:
    """Translate a node that does nothing in inference."""
    t.layers.append(Identity(label(node)))


def cast(t: Position, node: Any, a: Attributes) -> None:
    """Translate Cast between floating-point types: all weights become float32."""
    a.pop("saturate")  # concerns float8, which is refused
    if a.pop("to") not in FLOATING:
        raise t.error(node, "expected a cast to floating point")
    nothing(t, node, a)


def dropout(t: Position, node: Any, a: Attributes) -> None:
    """Translate Dropout in inference."""
    for name in ("ratio", "seed"):
        a.pop(name)
    training = t.graph.constant(node, 2)
    if training is not None and training.any():
        raise t.error(node, "training_mode: expected a model exported for inference")
    nothing(t, node, a)


def relu(t: Position, node: Any, a: Attributes) -> None:
    """Translate Relu."""
    t.layers.append(Relu(label(node)))


def clip(t: Position, node: Any, a: Attributes) -> None:
    """Translate Clip from 0 without a maximum: a ReLU."""
    bounds = [a.pop("min"), a.pop("max")]
    for i, bound in enumerate(bounds):
        operand = t.graph.constant(node, i + 1)
        if bound is None and operand is not None and operand.size == 1:
            bounds[i] = operand.item()
    low, high = bounds
    if low != 0 or (high is not None and high < np.finfo(np.float32).max):
        raise t.error(node, f"expected a ReLU (0 and no maximum), got {low} and {high}")
    relu(t, node, a)


def maximum(t: Position, node: Any, a: Attributes) -> None:
    """Translate Max of a value and 0: a ReLU, as exporters spell ``clamp(min=0)``."""
    side = 0 if t.graph.is_constant(node.input[0]) else 1
    bound = t.graph.constant(node, side)
    if len(node.input) != 2 or bound is None or bound.size != 1 or bound.ndim > len(t.axes):
        raise t.error(node, "expected a ReLU, the maximum of a value and 0")
    if bound.item() != 0:
        raise t.error(node, f"expected a ReLU, the maximum of a value and 0, got {bound.item()}")
    relu(t, node, a)


def conv(t: Position, node: Any, a: Attributes) -> None:
    """Translate Conv: 3x3, or a dense layer if the kernel covers its input, as in timm's head."""
    w, bias = t.weights(node, 1), t.graph.constant(node, 2)
    strides, dilations = a.pop("strides", [1, 1]), a.pop("dilations", [1, 1])
    group = a.pop("group", 1)
    if w.ndim != 4 or list(a.pop("kernel_shape", w.shape[2:])) != list(w.shape[2:]):
        raise t.error(node, f"expected filters [K, C, 3, 3], got {list(w.shape)}")
    kernel = w.shape[2:]
    pads = t.pads(node, a, kernel, 1)
    name = label(node)
    plain = set(strides) | set(dilations) == {1} and group == 1
    whole = kernel == t.known if t.pixels else kernel == (1, 1) and t.axes == "NC11"
    same = kernel == (3, 3) and pads == [1, 1, 1, 1]
    if not plain or not ((same and t.pixels) or (whole and not any(pads))):
        raise t.error(
            node,
            f"expected a 3x3 convolution with padding 1, stride 1, dilation 1 and group 1, got "
            f"{kernel[0]}x{kernel[1]} with padding {pads}, strides {strides}, dilations "
            f"{dilations}, group {group}",
        )
    if t.pixels and t.axes != "NCHW":
        raise t.error(node, f"expected its input as NCHW, got {t.axes}")
    t.check_channels(node, w, after=w.shape[0])
    if same:
        t.layers.append(Conv3x3(name, w.transpose(0, 2, 3, 1), bias))
        return
    if t.pixels:
        t.layers.append(Flatten(name, "CHW"))
    t.axes = "NC11"
    t.layers.append(Linear(name, w.reshape(w.shape[0], -1), bias))


def batch_norm(t: Position, node: Any, a: Attributes) -> None:
    """Translate BatchNormalization in inference."""
    a.pop("momentum")
    if a.pop("training_mode", 0) or a.pop("spatial", 1) != 1 or any(node.output[1:]):
        raise t.error(node, "expected batch normalisation in inference, per channel")
    gamma, beta, mean, variance = (t.weights(node, i).ravel() for i in range(1, 5))
    epsilon = a.pop("epsilon", 1e-5)
    t.layers.append(BatchNorm(label(node), gamma, beta, mean, variance, epsilon))


def add(t: Position, node: Any, a: Attributes) -> None:
    """Translate Add of a bias to the layer before it."""
    side = 0 if t.graph.is_constant(node.input[0]) else 1
    at = max((i for i, x in enumerate(t.layers) if not isinstance(x, Identity)), default=0)
    before = t.layers[at] if t.layers else None
    if not isinstance(before, (Conv3x3, Linear)):
        raise t.error(node, "expected a bias right after a convolution or a dense layer")
    value = t.weights(node, side)
    others = (1,) * (len(t.axes) - value.ndim) + value.shape
    if len(others) > len(t.axes) or any(
        size > 1 for size, axis in zip(others, t.axes, strict=True) if axis != "C"
    ):
        raise t.error(node, f"expected a bias per channel of {t.shown}, got {list(value.shape)}")
    bias = as_bias(t, node, value.reshape(-1), before.w.shape[0])
    if before.bias is not None:
        bias = as_bias(t, node, before.bias, before.w.shape[0]).astype(np.float32) + bias
    t.layers[at] = dataclasses.replace(before, bias=bias)
    nothing(t, node, a)


def as_bias(t: Position, node: Any, value: Array, features: int) -> Array:
    """Return ``value``, which broadcasts to rows of ``features``, as an array [features]."""
    if value.size == 1:
        return np.full(features, value.reshape(-1)[0])
    if value.shape not in ((features,), (1, features)):
        raise t.error(node, f"expected a bias [{features}], got {list(value.shape)}")
    return value.reshape(features)
