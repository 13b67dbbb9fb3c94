"""Dense layers of an ONNX graph, and its flattening of images to rows, as layers of a chain."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..canonical import Array
from ..chain.layers import Flatten, Identity, Linear, Softmax
from . import pools
from .convs import as_bias, nothing
from .nodes import Attributes, label
from .position import PIXELS, Position
from .tensors import listed_dims


def _dense(t: Position, node: Any, w: Array, bias: Array | None) -> None:
    """Append the layer x @ w.T + bias for w [K,C]."""
    if t.axes != "NC":
        raise t.error(node, f"expected rows [N, C] (a Flatten before it), got {t.axes}")
    if w.ndim != 2:
        raise t.error(node, f"expected weights [K, C], got {list(w.shape)}")
    t.check_channels(node, w, after=w.shape[0])
    if bias is not None:
        bias = as_bias(t, node, bias, w.shape[0])
    t.layers.append(Linear(label(node), w, bias))


def gemm(t: Position, node: Any, a: Attributes) -> None:
    """Translate Gemm: a dense layer."""
    scales = (a.pop("alpha", 1.0), a.pop("beta", 1.0))
    w, bias = t.weights(node, 1), t.graph.constant(node, 2)
    if a.pop("transA", 0) or scales != (1.0, 1.0):
        raise t.error(node, f"expected alpha 1, beta 1 and no transA, got {scales}")
    _dense(t, node, w if a.pop("transB", 0) else w.T, bias)


def matmul(t: Position, node: Any, a: Attributes) -> None:
    """Translate MatMul: a dense layer without a bias, or half of an adaptive pool on pixels."""
    left = t.graph.is_constant(node.input[0])
    if t.pixels:
        pools.averaging(t, node, t.weights(node, 0 if left else 1), left)
    elif left:
        raise t.error(node, "expected the weights on the right of a matrix product")
    else:
        _dense(t, node, t.weights(node, 1).T, None)


def flatten(t: Position, node: Any, a: Attributes) -> None:
    """Translate Flatten: from images to rows."""
    axis = a.pop("axis", 1)
    if axis % len(t.axes) != 1:
        raise t.error(node, f"expected axis 1, got {axis}")
    _to_rows(t, node)


def reshape(t: Position, node: Any, a: Attributes) -> None:
    """Translate Reshape: a flattening, however the target is spelled, or no change at all."""
    target = t.graph.value(node.input[1]) if len(node.input) > 1 else np.zeros(0, np.int64)
    shape, rows = t.shape, (t.shape[0], math.prod(t.shape[1:]))
    wanted = t.integers(node, target)
    if not a.pop("allowzero", 0):
        wanted = [shape[i] if d == 0 and i < len(shape) else d for i, d in enumerate(wanted)]
    if _resolves(wanted, rows):
        _to_rows(t, node)
    elif _resolves(wanted, shape):
        nothing(t, node, a)
    elif t.pixels and not t.known and _resolves(wanted[:1], rows[:1]) and _features(t, wanted):
        _to_rows(t, node)  # the target states the number of features of a dynamic image size
        t.sizes["C"] = wanted[1]
        t.open.discard("C")
    else:
        raise t.error(
            node, f"expected a flattening of {t.shown} to [N, C*H*W], got {listed_dims(wanted)}"
        )


def _features(t: Position, wanted: list[int]) -> bool:
    return len(wanted) == 2 and wanted[1] > 0 and wanted[1] % t.sizes["C"] == 0


def _resolves(wanted: list[int], shape: tuple[int, ...]) -> bool:
    """Return whether Reshape's target ``wanted``, with at most one -1, gives ``shape``."""
    fits = len(wanted) == len(shape) and wanted.count(-1) <= 1
    return fits and all(w in (-1, s) for w, s in zip(wanted, shape, strict=True))


def _to_rows(t: Position, node: Any) -> None:
    if t.pixels:
        t.layers.append(Flatten(label(node), "CHW" if t.axes == "NCHW" else "HWC"))
        if t.known is None:
            t.open.add("C")
        t.sizes["C"] = math.prod(t.shape[1:])
    else:
        t.layers.append(Identity(label(node)))
    t.axes = "NC"


def transpose(t: Position, node: Any, a: Attributes) -> None:
    """Translate Transpose: a change between NCHW and NHWC."""
    order = a.pop("perm", list(range(len(t.axes)))[::-1])
    axes = "".join(t.axes[i] for i in order if 0 <= i < len(t.axes))
    if sorted(axes) != sorted(t.axes) or axes[0] != "N" or (t.pixels and axes not in PIXELS):
        raise t.error(node, f"expected NCHW or NHWC, got a permutation {order} of {t.axes}")
    t.axes = axes
    nothing(t, node, a)


def softmax(t: Position, node: Any, a: Attributes) -> None:
    """Translate Softmax over the classes."""
    new = t.graph.opset >= 13
    axis = a.pop("axis", -1 if new else 1)
    if t.pixels or t.axes[axis % len(t.axes)] != "C":
        raise t.error(node, f"expected a softmax over the classes, got axis {axis} of {t.axes}")
    t.layers.append(Softmax(label(node)))
