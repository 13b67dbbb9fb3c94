"""Records of a network's layers, independent of frameworks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from ..canonical import WeightsError

Array = NDArray[Any]


@dataclass(frozen=True)
class Conv3x3:
    """3x3 convolution, stride 1, padding 1; w [K,3,3,C] (KRSC), bias [K] or None."""

    name: str
    w: Array
    bias: Array | None = None


@dataclass(frozen=True)
class BatchNorm:
    """Batch norm: (y - mean) / sqrt(variance + epsilon) * gamma + beta, all [K].

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
    """ReLU: max(y, 0)."""

    name: str


@dataclass(frozen=True)
class MaxPool2x2:
    """2x2 max-pool, stride 2, no padding; an odd last row and column are dropped."""

    name: str


@dataclass(frozen=True)
class AdaptiveAvgPool:
    """Average pool to ``grid`` x ``grid`` cells for any input size, with PyTorch's bins."""

    name: str
    grid: int


@dataclass(frozen=True)
class GlobalPool:
    """Mean or maximum of all pixels: [N,H,W,C] -> [N,C]."""

    name: str
    kind: Literal["avg", "max"]


@dataclass(frozen=True)
class Flatten:
    """Flattening [N,H,W,C] -> [N,H*W*C], by pixels ("HWC") or by channels ("CHW")."""

    name: str
    order: Literal["HWC", "CHW"]


@dataclass(frozen=True)
class Linear:
    """Dense layer: x @ w.T + bias; w [K,C], bias [K] or None."""

    name: str
    w: Array
    bias: Array | None = None


@dataclass(frozen=True)
class Softmax:
    """Softmax over the classes; the last layer."""

    name: str


@dataclass(frozen=True)
class Identity:
    """A layer without effect in inference: dropout, an input layer, an identity."""

    name: str


Layer = (
    Conv3x3 | BatchNorm | Relu | MaxPool2x2 | AdaptiveAvgPool | GlobalPool | Flatten | Linear
    | Softmax | Identity
)  # fmt: skip


class UnsupportedError(WeightsError):
    """A model of another framework that this package cannot run; names layer and reason."""
