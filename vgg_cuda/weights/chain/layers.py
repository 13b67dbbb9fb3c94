"""The layers that a network may consist of, as records that no framework owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from ..canonical import WeightsError

Array = NDArray[Any]


@dataclass(frozen=True)
class Conv3x3:
    """Stride 1, padding 1; w [K,3,3,C] (KRSC), bias [K] or None."""

    name: str
    w: Array
    bias: Array | None = None


@dataclass(frozen=True)
class BatchNorm:
    """Of the K channels before it: (y - mean) / sqrt(variance + epsilon) * gamma + beta.

    gamma and beta may be None: 1 and 0.
    """

    name: str
    gamma: Array | None
    beta: Array | None
    mean: Array
    variance: Array
    epsilon: float


@dataclass(frozen=True)
class Relu:
    """max(y, 0)."""

    name: str


@dataclass(frozen=True)
class MaxPool2x2:
    """Window 2, stride 2, no padding; an odd last row and column are dropped."""

    name: str


@dataclass(frozen=True)
class AdaptiveAvgPool:
    """To ``grid`` x ``grid`` cells, whatever the size of its input; PyTorch's bins."""

    name: str
    grid: int


@dataclass(frozen=True)
class GlobalPool:
    """[N,H,W,C] -> [N,C]: the mean or the maximum of all pixels."""

    name: str
    kind: Literal["avg", "max"]


@dataclass(frozen=True)
class Flatten:
    """[N,H,W,C] -> [N,H*W*C], pixel after pixel ("HWC") or channel after channel ("CHW")."""

    name: str
    order: Literal["HWC", "CHW"]


@dataclass(frozen=True)
class Linear:
    """x @ w.T + bias; w [K,C], bias [K] or None."""

    name: str
    w: Array
    bias: Array | None = None


@dataclass(frozen=True)
class Softmax:
    """Over the classes; the last layer."""

    name: str


@dataclass(frozen=True)
class Identity:
    """What does nothing in inference: dropout, an input layer, an identity."""

    name: str


Layer = (
    Conv3x3 | BatchNorm | Relu | MaxPool2x2 | AdaptiveAvgPool | GlobalPool | Flatten | Linear
    | Softmax | Identity
)  # fmt: skip


class UnsupportedError(WeightsError):
    """A model of another framework that this package cannot run; names the layer and the reason."""
