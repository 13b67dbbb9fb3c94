"""Dense layers of an ONNX graph, and its flattening of images to rows, as layers of a chain."""

from __future__ import annotations

import math

import numpy as np

from ..canonical import Array
from ..chain.layers import Flatten, Linear, LogSoftmax, Sigmoid, Softmax
from . import pools
from .convs import as_bias
from .nodes import Attributes
from .position import PIXELS, Position
from .tensors import listed_dims


def _dense(at: Position, w: Array, bias: Array | None) -> None:
    """Append the layer x @ w.T + bias for w [K,C]."""
    if at.axes != "NC":
        raise at.error(f"expected rows [N, C] (a Flatten before it), got {at.axes}")
    if w.ndim != 2:
        raise at.error(f"expected weights [K, C], got {list(w.shape)}")
    at.check_channels(w, after=w.shape[0])
    if bias is not None:
        bias = as_bias(at, bias, w.shape[0])
    at.layers.append(Linear(at.name, w, bias))


def gemm(at: Position, a: Attributes) -> None:
    """Translate Gemm: a dense layer."""
    scales = (a.pop("alpha", 1.0), a.pop("beta", 1.0))
    w, bias = at.weights(1), at.constant(2)
    if a.pop("transA", 0) or scales != (1.0, 1.0):
        raise at.error(f"expected alpha 1, beta 1 and no transA, got {scales}")
    _dense(at, w if a.pop("transB", 0) else w.T, bias)


def matmul(at: Position, a: Attributes) -> None:
    """Translate MatMul: a dense layer without a bias, or half of an adaptive pool on pixels."""
    left = at.graph.is_constant(at.node.input[0])
    if at.pixels:
        pools.averaging(at, at.weights(0 if left else 1), left)
    elif left:
        raise at.error("expected the weights on the right of a matrix product")
    else:
        _dense(at, at.weights(1).T, None)


def flatten(at: Position, a: Attributes) -> None:
    """Translate Flatten: from images to rows."""
    axis = a.pop("axis", 1)
    if axis % len(at.axes) != 1:
        raise at.error(f"expected axis 1, got {axis}")
    _to_rows(at)


def reshape(at: Position, a: Attributes) -> None:
    """Translate Reshape: a flattening, however the target is spelled, or no change at all."""
    target = at.graph.value(at.node.input[1]) if len(at.node.input) > 1 else np.zeros(0, np.int64)
    shape, rows = at.shape, (at.shape[0], math.prod(at.shape[1:]))
    wanted = at.integers(target)
    if not a.pop("allowzero", 0):
        wanted = [shape[i] if d == 0 and i < len(shape) else d for i, d in enumerate(wanted)]
    if _resolves(wanted, rows):
        _to_rows(at)
    elif _resolves(wanted, shape):
        return
    elif at.pixels and not at.known and _resolves(wanted[:1], rows[:1]) and _features(at, wanted):
        _to_rows(at)  # the target states the number of features of a dynamic image size
        at.sizes["C"] = wanted[1]
        at.open.discard("C")
    else:
        raise at.error(
            f"expected a flattening of {at.shown} to [N, C*H*W], got {listed_dims(wanted)}"
        )


def _features(at: Position, wanted: list[int]) -> bool:
    return len(wanted) == 2 and wanted[1] > 0 and wanted[1] % at.sizes["C"] == 0


def _resolves(wanted: list[int], shape: tuple[int, ...]) -> bool:
    """Return whether Reshape's target ``wanted``, with at most one -1, gives ``shape``."""
    fits = len(wanted) == len(shape) and wanted.count(-1) <= 1
    return fits and all(w in (-1, s) for w, s in zip(wanted, shape, strict=True))


def _to_rows(at: Position) -> None:
    if at.pixels:
        at.layers.append(Flatten(at.name, "CHW" if at.axes == "NCHW" else "HWC"))
        if at.known is None:
            at.open.add("C")
        at.sizes["C"] = math.prod(at.shape[1:])
    at.axes = "NC"


def transpose(at: Position, a: Attributes) -> None:
    """Translate Transpose: a change between NCHW and NHWC."""
    order = a.pop("perm", list(range(len(at.axes)))[::-1])
    axes = "".join(at.axes[i] for i in order if 0 <= i < len(at.axes))
    if sorted(axes) != sorted(at.axes) or axes[0] != "N" or (at.pixels and axes not in PIXELS):
        raise at.error(f"expected NCHW or NHWC, got a permutation {order} of {at.axes}")
    at.axes = axes


def sigmoid(at: Position, a: Attributes) -> None:
    """Translate Sigmoid."""
    at.layers.append(Sigmoid(at.name))


def softmax(at: Position, a: Attributes, make: type[Softmax] | type[LogSoftmax] = Softmax) -> None:
    """Translate Softmax or LogSoftmax over the classes."""
    new = at.graph.opset >= 13
    axis = a.pop("axis", -1 if new else 1)
    if at.pixels or at.axes[axis % len(at.axes)] != "C":
        raise at.error(f"expected a softmax over the classes, got axis {axis} of {at.axes}")
    at.layers.append(make(at.name))
