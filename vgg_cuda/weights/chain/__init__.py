"""A network as a list of layers, as other frameworks describe it, and the ``Weights`` it makes.

Every reader of a framework's models (Keras, PyTorch modules, ONNX) translates its layers one by one
and knows nothing of a VGG; :func:`to_weights` knows nothing of frameworks. It folds batch norms,
drops what does nothing in inference, brings the first dense layer's columns to NHWC order, and
refuses what this package cannot run, naming the layer as its framework does.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...images.presets import PRESETS, Preset
from ..canonical import Weights
from .builder import Chain
from .layers import (
    AdaptiveAvgPool,
    BatchNorm,
    Conv3x3,
    Flatten,
    GlobalPool,
    Identity,
    Layer,
    Linear,
    MaxPool2x2,
    Relu,
    Softmax,
    UnsupportedError,
)

__all__ = [
    "AdaptiveAvgPool",
    "BatchNorm",
    "Conv3x3",
    "Flatten",
    "GlobalPool",
    "Identity",
    "Layer",
    "Linear",
    "MaxPool2x2",
    "Relu",
    "Softmax",
    "UnsupportedError",
    "to_weights",
]


def to_weights(
    layers: Sequence[Layer],
    *,
    source: str,
    input_size: tuple[int, int] | None = None,
    preset: Preset = PRESETS["torchvision"],
    labels: tuple[str, ...] | None = None,
) -> Weights:
    """The weights of the network that ``layers`` describe, in order, from the images on.

    ``input_size`` (H, W) is what the framework's model takes, None where it takes any. It is kept,
    and other sizes are refused, where dense layers read a grid of pixels that no adaptive pool has
    made; where it is None there, a square is inferred. ``preset`` is fitted to it. A trailing
    ``Softmax`` becomes ``activation``. ``labels`` are ImageNet's by default where the network is
    one of the published ones down to its classes.

    Raises :class:`UnsupportedError` for layers in an order that no VGG has, and
    :class:`WeightsError` for shapes that do not fit; ``source`` begins the message.
    """
    chain = Chain(source)
    for layer in layers:
        chain.add(layer)
    return chain.finish(input_size, preset, labels)
