"""Records of a network's layers, independent of frameworks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from ..canonical import WeightsError

Array = NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """A layer of a chain; ``name`` is for messages."""

    name: str


@dataclass(frozen=True)
class Conv3x3(Layer):
    """3x3 convolution, stride 1, padding 1; w [K,3,3,C] (KRSC), bias [K] or None."""

    w: Array
    bias: Array | None = None


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch norm: (y - mean) / sqrt(variance + epsilon) * gamma + beta, all [K].

    gamma and beta may be None: 1 and 0.
    """

    gamma: Array | None
    beta: Array | None
    mean: Array
    variance: Array
    epsilon: float


@dataclass(frozen=True)
class Affine(Layer):
    """Affine map per channel: y * scale + offset; each has one element or [K].

    ``reverse``: the channels are reversed first, which only images may be.
    """

    scale: Array
    offset: Array
    reverse: bool = False


class Relu(Layer):
    """ReLU: max(y, 0)."""


@dataclass(frozen=True)
class MaxPool2x2(Layer):
    """2x2 max-pool, stride 2, no padding; an odd last row and column are dropped.

    ``even_only`` says that the source keeps them: the network is right for even sizes only, and the
    reader has checked that the image's size is even here.
    """

    even_only: bool = False


@dataclass(frozen=True)
class AdaptiveAvgPool(Layer):
    """Average pool to ``grid`` x ``grid`` cells for any input size, with PyTorch's bins."""

    grid: int


@dataclass(frozen=True)
class GlobalPool(Layer):
    """Mean or maximum of all pixels: [N,H,W,C] -> [N,C]."""

    kind: Literal["avg", "max"]


@dataclass(frozen=True)
class Flatten(Layer):
    """Flattening [N,H,W,C] -> [N,H*W*C], by pixels ("HWC") or by channels ("CHW")."""

    order: Literal["HWC", "CHW"]


@dataclass(frozen=True)
class Linear(Layer):
    """Dense layer: x @ w.T + bias; w [K,C], bias [K] or None."""

    w: Array
    bias: Array | None = None


class Softmax(Layer):
    """Softmax over the classes; the last layer."""


class LogSoftmax(Layer):
    """Logarithm of the softmax over the classes; the last layer."""


class Sigmoid(Layer):
    """Sigmoid of each class by itself; the last layer."""


class Identity(Layer):
    """A layer without effect in inference: dropout, an input layer, an identity."""


class UnsupportedError(WeightsError):
    """A model of another framework that this package cannot run; names layer and reason."""


WORDS = {
    AdaptiveAvgPool: "an adaptive average pool", Affine: "a scale and shift",
    BatchNorm: "a batch norm", Conv3x3: "a convolution", Flatten: "a flattening",
    Linear: "a dense layer", LogSoftmax: "a log-softmax", MaxPool2x2: "a max-pool",
    Relu: "a ReLU", Sigmoid: "a sigmoid", Softmax: "a softmax",
}  # fmt: skip


ACTIVATIONS: dict[type[Layer], str] = {
    LogSoftmax: "log_softmax", Sigmoid: "sigmoid", Softmax: "softmax",
}  # fmt: skip
"""Activations of the last layer, by their records."""


def kind_of(layer: Layer) -> str:
    """Return the kind of ``layer`` for messages."""
    if isinstance(layer, GlobalPool):
        return f"a global {layer.kind} pool"
    return WORDS[type(layer)]
