"""Translation of Keras' layers into records of :mod:`vgg_cuda.weights.chain`.

Kernels become KRSC and dense weights [K,C]. The order of a ``Flatten`` follows from its
``data_format`` and that of the layers before it. Layers that act in training only, such as dropout
and augmentation, become ``Identity``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...text import one_line
from ..canonical import Weights, prefixed
from ..chain import to_weights
from ..chain.layers import (
    BatchNorm,
    Conv3x3,
    Flatten,
    Identity,
    Linear,
    LogSoftmax,
    Relu,
    Sigmoid,
    Softmax,
)
from . import inputs
from .graph import KerasLayer
from .spatial import EVEN_ONLY, conv2d, flatten, global_pool, max_pool, random_crop, zero_padding
from .state import Arrays, State
from .terms import INACTIVE, only, preset_for

ACTIVATIONS = "relu, no activation, or softmax, log_softmax or sigmoid of the last dense layer"
LINEAR = "in the last layer, activation='linear' gives a network that returns logits"
PADDED = "ZeroPadding2D before a convolution of padding 'valid'"


def translate(
    layers: Sequence[KerasLayer], shape: Sequence[Any] | None, arrays: Arrays, source: str
) -> Weights:
    """Return the weights of a chain of Keras' layers whose input has ``shape`` (None: unknown).

    Models with input layers, such as ``Rescaling``, get the preset of the values that these take:
    "pixels" (0 to 255) as a rule. Otherwise models with the names of ``keras.applications`` get the
    preset "keras", and other models "unit" (0 to 1), as assumptions.
    Raises :class:`UnsupportedError`, which names the layer, and the errors of ``to_weights``.
    """
    state = State.start(layers, shape, arrays)
    input_size = state.size
    with prefixed(source):
        for layer in layers:
            _add(state, layer)
        if state.padded is not None:
            state.refuse(state.padded, PADDED, "one at the end")
        flattened = any(isinstance(record, Flatten) for record in state.records)
        if not flattened or not any(isinstance(record, Linear) for record in state.records):
            for layer in state.even_pools:  # the network accepts images of other sizes, too
                state.refuse(layer, "padding 'valid'", "'same'", EVEN_ONLY)
    first = next((layer.path[-1] for layer in layers if layer.kind == "Conv2D"), "")
    return to_weights(state.records, source=source, input_size=input_size, preset=preset_for(first))


def _activated(add: Callable[[State, KerasLayer], None]) -> Callable[[State, KerasLayer], None]:
    """Return a function that adds a layer and its built-in activation."""

    def both(state: State, layer: KerasLayer) -> None:
        add(state, layer)
        _activation(state, layer)

    return both


def _dense(state: State, layer: KerasLayer) -> None:
    if not state.flat and not any(isinstance(record, Conv3x3) for record in state.records):
        state.refuse(layer, "3x3 convolutions of images before dense layers", "none")
    if not state.flat:
        state.refuse(layer, "Flatten or a global pool before dense layers", "Dense on an image")
    w, bias = state.weights(layer)
    state.records.append(Linear(layer.name, w.T, bias))


def _batch_norm(state: State, layer: KerasLayer) -> None:
    get = layer.config.get
    axis = only(get("axis", -1))
    first = state.data_format == "channels_first"
    channels = (1, -1) if state.flat else (1, -3) if first else (3, -1)
    if axis not in channels:
        state.refuse(layer, f"the axis of channels, {channels[0]}", f"axis {one_line(axis, 40)}")
    state.check(layer, "renorm", get("renorm", False), False)
    scale, center = get("scale", True) is True, get("center", True) is True
    names = ["gamma"] * scale + ["beta"] * center + ["moving_mean", "moving_variance"]
    found = dict(zip(names, state.arrays(layer, names), strict=True))
    gamma, beta = found.get("gamma"), found.get("beta")
    mean, variance = found["moving_mean"], found["moving_variance"]
    epsilon = float(get("epsilon", 1e-3))
    state.records.append(BatchNorm(layer.name, gamma, beta, mean, variance, epsilon))


def _relu(state: State, layer: KerasLayer) -> None:
    get = layer.config.get
    state.check(layer, "max_value", get("max_value"), None)
    state.check(layer, "negative_slope", get("negative_slope") or 0.0, 0.0)
    state.check(layer, "threshold", get("threshold") or 0.0, 0.0)
    state.records.append(Relu(layer.name))


def _softmax(
    state: State, layer: KerasLayer, make: type[Softmax] | type[LogSoftmax] = Softmax
) -> None:
    axis = only(layer.config.get("axis", -1))
    if not state.flat or axis not in (-1, 1):
        state.refuse(layer, "a softmax over the classes", f"axis {one_line(axis, 40)}")
    state.records.append(make(layer.name))


def _activation(state: State, layer: KerasLayer) -> None:
    """Add the activation of ``layer``: a name, or a layer that serves as activation."""
    activation = layer.config.get("activation")
    if isinstance(activation, Mapping):
        kind, config = activation.get("class_name"), activation.get("config")
        if kind in ("ReLU", "Softmax") and isinstance(config, Mapping):
            inner = KerasLayer(layer.path, layer.slots, kind, config, layer.training)
            (_relu if kind == "ReLU" else _softmax)(state, inner)
            return
        name = one_line(config if isinstance(config, str) else kind or "a function", 60)
        state.refuse(layer, ACTIVATIONS, f"the custom activation {name}")
    if activation == "relu":
        state.records.append(Relu(layer.name))
    elif activation in ("softmax", "log_softmax"):
        inner = KerasLayer(layer.path, layer.slots, "Softmax", {}, layer.training)
        _softmax(state, inner, Softmax if activation == "softmax" else LogSoftmax)
    elif activation == "sigmoid" and state.flat:
        state.records.append(Sigmoid(layer.name))
    elif activation not in (None, "linear"):
        state.refuse(layer, ACTIVATIONS, one_line(repr(activation), 60), LINEAR)


ADD: dict[str, Callable[[State, KerasLayer], None]] = {
    "Activation": _activation,
    "BatchNormalization": _batch_norm,
    "Conv2D": _activated(conv2d),
    "Dense": _activated(_dense),
    "Flatten": flatten,
    "GlobalAveragePooling2D": lambda state, layer: global_pool(state, layer, "avg"),
    "GlobalMaxPooling2D": lambda state, layer: global_pool(state, layer, "max"),
    "MaxPooling2D": max_pool,
    "RandomCrop": random_crop,
    "ReLU": _relu,
    "Softmax": _softmax,
    "ZeroPadding2D": zero_padding,
}
LAYERS = (*ADD, "Normalization", "Rescaling")
"""The classes of layers that are translated; operations are no layers."""


def _add(state: State, layer: KerasLayer) -> None:
    """Add ``layer`` to ``state``."""
    if state.padded is not None and layer.kind != "Conv2D":
        state.refuse(state.padded, PADDED, f"one before {one_line(layer.kind, 60)}")
    if layer.training and layer.kind == "BatchNormalization":
        state.refuse(layer, "batch norms as in inference", "a call with training=True")
    if layer.kind in INACTIVE:
        state.records.append(Identity(layer.name))
    elif add := ADD.get(layer.kind) or inputs.ADD.get(layer.kind):
        add(state, layer)
    else:
        state.refuse(
            layer, f"a layer of a VGG ({', '.join(sorted(LAYERS))})", one_line(layer.kind, 60)
        )
