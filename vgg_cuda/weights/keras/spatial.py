"""Translation of Keras' layers on images into records."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ...text import one_line
from ..chain.layers import Conv3x3, Flatten, GlobalPool, Identity, MaxPool2x2
from .graph import KerasLayer
from .state import State
from .terms import data_format, pair

EVEN_ONLY = "they agree only if every size is even, in a model with Flatten"


def conv2d(state: State, layer: KerasLayer) -> None:
    """Add a 3x3 convolution: stride 1, padding "same", or "valid" after a ``ZeroPadding2D``."""
    get = layer.config.get
    state.check(layer, "kernel_size", pair(get("kernel_size")), (3, 3))
    state.check(layer, "strides", pair(get("strides", 1)), (1, 1))
    padding = get("padding", "valid")
    if state.padded is None or padding != "valid":
        state.check(layer, "padding", padding, "same")
        if state.padded is not None:
            state.refuse(layer, "padding 'valid' after ZeroPadding2D", "'same'")
    state.padded = None
    state.check(layer, "dilation_rate", pair(get("dilation_rate", 1)), (1, 1))
    state.check(layer, "groups", get("groups", 1), 1)
    state.spatial(layer)
    w, bias = state.weights(layer)
    state.records.append(Conv3x3(layer.name, np.moveaxis(w, -1, 0), bias))


def zero_padding(state: State, layer: KerasLayer) -> None:
    """Keep the padding for the next convolution, as older models spell "same"."""
    sides = [pair(side) for side in pair(layer.config.get("padding", 1))]
    state.check(layer, "padding", sides, [(1, 1), (1, 1)])
    state.spatial(layer)
    state.padded = layer


def max_pool(state: State, layer: KerasLayer) -> None:
    """Add a 2x2 max-pool of stride 2; padding "same" is accepted for even sizes."""
    get = layer.config.get
    state.check(layer, "pool_size", pair(get("pool_size", 2)), (2, 2))
    state.check(layer, "strides", pair(get("strides") or get("pool_size", 2)), (2, 2))
    state.spatial(layer)
    padding = get("padding", "valid")
    if padding == "same":
        if state.size is None or state.size[0] % 2 or state.size[1] % 2:
            state.refuse(layer, "padding 'valid'", "'same'", EVEN_ONLY)
        state.even_pools.append(layer)
    else:
        state.check(layer, "padding", padding, "valid")
    if state.size is not None:
        state.size = (state.size[0] // 2, state.size[1] // 2)
    state.records.append(MaxPool2x2(layer.name, even_only=padding == "same"))


def global_pool(state: State, layer: KerasLayer, kind: Literal["avg", "max"]) -> None:
    """Add a global pool, [N,H,W,C] -> [N,C]."""
    state.check(layer, "keepdims", layer.config.get("keepdims", False), False)
    state.spatial(layer)
    state.flat = True
    state.records.append(GlobalPool(layer.name, kind))


def flatten(state: State, layer: KerasLayer) -> None:
    """Add a flattening [N,H,W,C] -> [N,H*W*C], nothing for vectors."""
    if state.flat:
        state.records.append(Identity(layer.name))
        return
    state.flat = True
    # Keras moves the channels last before it flattens, but only for data_format "channels_first".
    first = data_format(layer.config) == "channels_first"
    if first and state.data_format != "channels_first":
        state.refuse(layer, "data_format 'channels_last' as before", "'channels_first'")
    stays = not first and state.data_format == "channels_first"
    state.records.append(Flatten(layer.name, "CHW" if stays else "HWC"))


def random_crop(state: State, layer: KerasLayer) -> None:
    """Add nothing if the crop has the size of the image; otherwise ``predict`` may resize."""
    size = (layer.config.get("height"), layer.config.get("width"))
    if size != state.size:
        shown = "an unknown size" if state.size is None else f"{state.size[0]} x {state.size[1]}"
        got = f"{one_line(size[0], 20)} x {one_line(size[1], 20)}"
        state.refuse(layer, f"a crop as large as the image, {shown}", got, "crop the images")
    state.records.append(Identity(layer.name))
