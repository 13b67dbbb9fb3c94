"""The nodes of an ONNX graph's path, one by one, as layers of a chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...text import one_line
from ..chain import AdaptiveAvgPool, Flatten, GlobalPool, Identity, UnsupportedError
from . import convs, pools, rows
from .graph import Joined
from .nodes import Attributes, is_standard
from .position import Position
from .probe import begins, skip_adaptive_pool

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
    "GlobalAveragePool": pools.global_average,
    "GlobalMaxPool": pools.global_max,
    "Identity": convs.nothing,
    "MatMul": rows.matmul,
    "Max": convs.maximum,
    "MaxPool": pools.max_pool,
    "ReduceMax": pools.reduce_max,
    "ReduceMean": pools.reduce_mean,
    "Relu": convs.relu,
    "Reshape": rows.reshape,
    "Softmax": rows.softmax,
    "Squeeze": pools.squeeze,
    "Transpose": rows.transpose,
}
"""What becomes of each operation: it appends to ``layers`` and moves the position on."""


def translate(at: Position, path: list[Any]) -> None:
    """Follows ``path`` from ``at``. Raises :class:`UnsupportedError`, naming the node."""
    done = 0
    while done < len(path):
        skipped = skip_adaptive_pool(at, path[done:]) if begins(at, path[done]) else 0
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
            item.nodes[-1], f"branches are not supported: it joins {' and '.join(joins[:2])}"
        )
    translated = TRANSLATED.get(item.op_type) if is_standard(item) else None
    if translated is None:
        raise at.error(item, f"expected an operation of a VGG ({', '.join(TRANSLATED)})")
    if at.averaged and item.op_type not in ("MatMul", "Identity"):
        raise at.error(item, "expected the other half of an adaptive pool before it")
    attributes = Attributes(item)
    translated(at, item, attributes)
    if attributes.left:
        name = one_line(attributes.left[0], 40)
        raise at.error(item, f"attribute {name} is not supported")


def _end(at: Position) -> None:
    """Sees to it that a result without dense layers is what the graph's is."""
    last = max((i for i, x in enumerate(at.layers) if not isinstance(x, Identity)), default=0)
    layer = at.layers[last] if at.layers else None
    if isinstance(layer, GlobalPool) and layer.kind == "avg" and "1" in at.axes:
        at.layers[last] = AdaptiveAvgPool(layer.name, 1)  # which stays [N,C,1,1]
    if isinstance(layer, Flatten) and layer.order == "CHW" and at.known != (1, 1):
        raise UnsupportedError(
            f"{at.graph.source}: {layer.name}: expected a dense layer after it: features without "
            "one come in HWC order here; export the model without the Flatten"
        )
