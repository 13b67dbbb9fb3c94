"""Translation of the nodes of an ONNX graph's path into layers of a chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ...text import one_line
from ..chain.layers import AdaptiveAvgPool, Flatten, GlobalPool, LogSoftmax, Relu, UnsupportedError
from . import convs, inputs, pools, rows
from .adaptive_pool import skip_adaptive_pool
from .graph import Joined
from .nodes import Attributes, is_standard
from .position import Position

MICROSOFT = "com.microsoft"

TRANSLATED: Mapping[str, Callable[[Position, Attributes], None]] = {
    "Add": inputs.arithmetic,
    "AveragePool": pools.average_pool,
    "BatchNormalization": convs.batch_norm,
    "Cast": convs.cast,
    "Clip": convs.clip,
    "Conv": convs.conv,
    "Div": inputs.arithmetic,
    "Dropout": convs.dropout,
    "Flatten": rows.flatten,
    "Gather": inputs.gather,
    "Gemm": rows.gemm,
    "GlobalAveragePool": partial(pools.global_pool, kind="avg"),
    "GlobalMaxPool": partial(pools.global_pool, kind="max"),
    "Identity": convs.nothing,
    "LogSoftmax": partial(rows.softmax, make=LogSoftmax),
    "MatMul": rows.matmul,
    "Max": convs.maximum,
    "MaxPool": pools.max_pool,
    "Mul": inputs.arithmetic,
    "ReduceMax": partial(pools.reduce, kind="max"),
    "ReduceMean": partial(pools.reduce, kind="avg"),
    "Relu": convs.relu,
    "Reshape": rows.reshape,
    "Sigmoid": rows.sigmoid,
    "Slice": inputs.slices,
    "Softmax": rows.softmax,
    "Squeeze": pools.squeeze,
    "Sub": inputs.arithmetic,
    "Transpose": rows.transpose,
}
"""Translators by operation: each appends to the position's ``layers`` and updates its axes."""

FUSED = {"FusedConv": convs.conv, "FusedGemm": rows.gemm}
"""Operations of onnxruntime's optimised graphs: a layer with its activation."""


def translate(at: Position, path: list[Any]) -> None:
    """Follow ``path`` from ``at``. Raises :class:`UnsupportedError`, which names the node."""
    done = 0
    while done < len(path):
        skipped = skip_adaptive_pool(at, path[done:])
        if not skipped:
            _step(at, path[done])
        done += skipped or 1
        last = path[done - 1]
        at.moved((last.nodes[-1] if isinstance(last, Joined) else last).output[0])
    _end(at)


def _step(at: Position, item: Any) -> None:
    at.node = item.nodes[-1] if isinstance(item, Joined) else item
    if isinstance(item, Joined):
        joins = [one_line(name, 80) for name in at.graph.operands(at.node)]
        raise at.error(
            f"expected a chain without branches, got a join of {' and '.join(joins[:2])}"
        )
    translated = TRANSLATED.get(item.op_type) if is_standard(item) else None
    if item.domain == MICROSOFT and item.op_type in FUSED:
        translated = _fused
    if translated is None:
        raise at.error(f"expected an operation of a VGG ({', '.join(TRANSLATED)})")
    if at.averaged and item.op_type not in ("MatMul", "Identity"):
        raise at.error("expected the second MatMul of an adaptive pool before this node")
    attributes = Attributes(item)
    translated(at, attributes)
    if attributes.left:
        raise at.error(f"unexpected attribute {one_line(attributes.left[0], 40)}")


def _fused(at: Position, a: Attributes) -> None:
    """Translate a layer of onnxruntime with its activation."""
    activation = a.pop("activation", b"")
    if len(at.node.input) > 3 and at.node.input[3]:
        raise at.error("expected a chain without branches, got a sum with another result")
    FUSED[at.node.op_type](at, a)
    if activation not in (b"", b"Relu"):
        raise at.error(f"expected a ReLU or no activation, got {one_line(activation, 40)}")
    if activation:
        at.layers.append(Relu(at.name))


def _end(at: Position) -> None:
    """Match the result of a graph without dense layers to what this package returns."""
    layer = at.layers[-1] if at.layers else None
    if isinstance(layer, GlobalPool) and layer.kind == "avg" and "1" in at.axes:
        at.layers[-1] = AdaptiveAvgPool(layer.name, 1)  # its result is [N,C,1,1]
    if isinstance(layer, Flatten) and layer.order == "CHW" and at.known != (1, 1):
        raise UnsupportedError(
            f"{layer.name}: expected a dense layer after Flatten: flattened features are in HWC "
            "order in this package; export the model without the Flatten"
        )
