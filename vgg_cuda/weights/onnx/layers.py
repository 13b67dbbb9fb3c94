"""Translation of the nodes of an ONNX graph's path into layers of a chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...text import one_line
from ..chain.layers import AdaptiveAvgPool, Flatten, GlobalPool, Identity, UnsupportedError
from . import convs, pools, rows
from .adaptive_pool import skip_adaptive_pool
from .graph import Joined
from .nodes import Attributes, is_standard
from .position import Position

TRANSLATED: Mapping[str, Callable[[Position, Any, Attributes], None]] = {
    "Add": convs.add,
    "AveragePool": pools.average_pool,
    "BatchNormalization": convs.batch_norm,
    "Cast": convs.cast,
    "Clip": convs.clip,
    "Conv": convs.conv,
    "Dropout": convs.dropout,
    "Flatten": rows.flatten,
    "Gemm": rows.gemm,
    "GlobalAveragePool": lambda t, node, a: pools.global_pool(t, node, "avg"),
    "GlobalMaxPool": lambda t, node, a: pools.global_pool(t, node, "max"),
    "Identity": convs.nothing,
    "MatMul": rows.matmul,
    "Max": convs.maximum,
    "MaxPool": pools.max_pool,
    "ReduceMax": lambda t, node, a: pools.reduce(t, node, a, "max"),
    "ReduceMean": lambda t, node, a: pools.reduce(t, node, a, "avg"),
    "Relu": convs.relu,
    "Reshape": rows.reshape,
    "Softmax": rows.softmax,
    "Squeeze": pools.squeeze,
    "Transpose": rows.transpose,
}
"""Translators by operation: each appends to the position's ``layers`` and updates its axes."""


def translate(at: Position, path: list[Any]) -> None:
    """Follow ``path`` from ``at``. Raises :class:`UnsupportedError`, which names the node."""
    done = 0
    while done < len(path):
        skipped = skip_adaptive_pool(at, path[done:])
        if not skipped:
            _step(at, path[done])
        done += skipped or 1
        last = path[done - 1]
        at.moved(last.nodes[-1] if isinstance(last, Joined) else last)
    _end(at)


def _step(at: Position, item: Any) -> None:
    if isinstance(item, Joined):
        joins = [one_line(name, 80) for name in at.graph.operands(item.nodes[-1])]
        raise at.error(
            item.nodes[-1], f"expected a chain without branches, it joins {' and '.join(joins[:2])}"
        )
    translated = TRANSLATED.get(item.op_type) if is_standard(item) else None
    if translated is None:
        raise at.error(item, f"expected an operation of a VGG ({', '.join(TRANSLATED)})")
    if at.averaged and item.op_type not in ("MatMul", "Identity"):
        raise at.error(item, "expected the second MatMul of an adaptive pool before this node")
    attributes = Attributes(item)
    translated(at, item, attributes)
    if attributes.left:
        name = one_line(attributes.left[0], 40)
        raise at.error(item, f"attribute {name} is not supported")


def _end(at: Position) -> None:
    """Match the result of a graph without dense layers to what this package returns."""
    last = max((i for i, x in enumerate(at.layers) if not isinstance(x, Identity)), default=0)
    layer = at.layers[last] if at.layers else None
    if isinstance(layer, GlobalPool) and layer.kind == "avg" and "1" in at.axes:
        at.layers[last] = AdaptiveAvgPool(layer.name, 1)  # its result is [N,C,1,1]
    if isinstance(layer, Flatten) and layer.order == "CHW" and at.known != (1, 1):
        raise UnsupportedError(
            f"{at.graph.source}: {layer.name}: expected a dense layer after Flatten: flattened "
            "features are in HWC order in this package; export the model without the Flatten"
        )
