"""Convolutions, batch norms, ReLUs and no-ops of an ONNX graph as layers of a chain."""

from __future__ import annotations

import numpy as np

from ..canonical import Array
from ..chain.layers import BatchNorm, Conv3x3, Flatten, Linear, Relu
from .nodes import Attributes
from .position import Position
from .tensors import FLOATING


def nothing(at: Position, a: Attributes) -> None:
    """Translate a node that does nothing in inference."""


def cast(at: Position, a: Attributes) -> None:
    """Translate Cast between floating-point types: all weights become float32."""
    a.pop("saturate")  # concerns float8, which is refused
    if a.pop("to") not in FLOATING:
        raise at.error("expected a cast to floating point")


def dropout(at: Position, a: Attributes) -> None:
    """Translate Dropout in inference."""
    for name in ("ratio", "seed"):
        a.pop(name)
    training = at.constant(2)
    if training is not None and training.any():
        raise at.error("training_mode: expected a model exported for inference")


def relu(at: Position, a: Attributes) -> None:
    """Translate Relu."""
    at.layers.append(Relu(at.name))


def clip(at: Position, a: Attributes) -> None:
    """Translate Clip from 0 without a maximum: a ReLU."""
    bounds = [a.pop("min"), a.pop("max")]
    for i, bound in enumerate(bounds):
        operand = at.constant(i + 1)
        if bound is None and operand is not None and operand.size == 1:
            bounds[i] = operand.item()
    low, high = bounds
    if low != 0 or (high is not None and high < np.finfo(np.float32).max):
        raise at.error(f"expected a ReLU (0 and no maximum), got {low} and {high}")
    relu(at, a)


def maximum(at: Position, a: Attributes) -> None:
    """Translate Max of a value and 0: a ReLU, as exporters spell ``clamp(min=0)``."""
    side = 0 if at.graph.is_constant(at.node.input[0]) else 1
    bound = at.constant(side)
    if len(at.node.input) != 2 or bound is None or bound.size != 1 or bound.ndim > len(at.axes):
        raise at.error("expected a ReLU, the maximum of a value and 0")
    if bound.item() != 0:
        raise at.error(f"expected a ReLU, the maximum of a value and 0, got {bound.item()}")
    relu(at, a)


def conv(at: Position, a: Attributes) -> None:
    """Translate Conv: 3x3, or a dense layer if the kernel covers its input, as in timm's head."""
    w, bias = at.weights(1), at.constant(2)
    strides, dilations = a.pop("strides", [1, 1]), a.pop("dilations", [1, 1])
    group = a.pop("group", 1)
    if w.ndim != 4 or list(a.pop("kernel_shape", w.shape[2:])) != list(w.shape[2:]):
        raise at.error(f"expected filters [K, C, 3, 3], got {list(w.shape)}")
    kernel = w.shape[2:]
    pads = at.pads(a, kernel, 1)
    plain = set(strides) | set(dilations) == {1} and group == 1
    whole = kernel == at.known if at.pixels else kernel == (1, 1) and at.axes == "NC11"
    same = kernel == (3, 3) and pads == [1, 1, 1, 1]
    if not plain or not ((same and at.pixels) or (whole and not any(pads))):
        raise at.error(
            "expected a 3x3 convolution with padding 1, stride 1, dilation 1 and group 1, got "
            f"{kernel[0]}x{kernel[1]} with padding {pads}, strides {strides}, dilations "
            f"{dilations}, group {group}"
        )
    if at.pixels and at.axes != "NCHW":
        raise at.error(f"expected its input as NCHW, got {at.axes}")
    at.check_channels(w, after=w.shape[0])
    if same:
        at.layers.append(Conv3x3(at.name, w.transpose(0, 2, 3, 1), bias))
        return
    if at.pixels:
        at.layers.append(Flatten(at.name, "CHW"))
    at.axes = "NC11"
    at.layers.append(Linear(at.name, w.reshape(w.shape[0], -1), bias))


def batch_norm(at: Position, a: Attributes) -> None:
    """Translate BatchNormalization in inference."""
    a.pop("momentum")
    if a.pop("training_mode", 0) or a.pop("spatial", 1) != 1 or any(at.node.output[1:]):
        raise at.error("expected batch normalisation in inference, per channel")
    gamma, beta, mean, variance = (at.weights(i).ravel() for i in range(1, 5))
    epsilon = a.pop("epsilon", 1e-5)
    at.layers.append(BatchNorm(at.name, gamma, beta, mean, variance, epsilon))


def as_bias(at: Position, value: Array, features: int) -> Array:
    """Return ``value``, which broadcasts to rows of ``features``, as an array [features]."""
    if value.size == 1:
        return np.full(features, value.reshape(-1)[0])
    if value.shape not in ((features,), (1, features)):
        raise at.error(f"expected a bias [{features}], got {list(value.shape)}")
    return value.reshape(features)
