"""Nodes of a Functional model's config: the tensors and the operands of a call.

Keras 3 writes a node as ``{"args": …, "kwargs": …}``, Keras 2 as ``[[layer, call, index, {…}]]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

TENSOR = object()
"""Stands for the result of the layer before, among the operands of an operation."""

Tensor = tuple[str, int]  # the layer that computed it, and the number of the call

KERAS_2 = {  # Keras 2's names of TensorFlow's functions, and Keras 3's classes of operations
    "__operators__.add": "Add", "__operators__.getitem": "GetItem", "math.add": "Add",
    "math.divide": "TrueDivide", "math.multiply": "Multiply", "math.subtract": "Subtract",
    "math.truediv": "TrueDivide", "nn.bias_add": "Add",
}  # fmt: skip


def operation_of(kind: str, config: Mapping[str, Any]) -> str:
    """Return Keras 3's class for an operation of Keras 2, ``kind`` for other layers."""
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        return KERAS_2.get(str(config.get("function")), kind)
    return kind


def operands_of(node: Any) -> tuple[Any, ...]:
    """Return the arguments of a call, with :data:`TENSOR` in the place of tensors."""
    if isinstance(node, Mapping):
        given = [*(node.get("args") or []), *(node.get("kwargs") or {}).values()]
        return tuple(TENSOR if _is_tensor(value) else value for value in given)
    call = node[0] if node and not isinstance(node[0], str) else node
    if not call or len(call) < 4 or not isinstance(call[3], Mapping):
        return (TENSOR,)
    given = [value for key, value in call[3].items() if key not in ("name", "data_format")]
    return (TENSOR, *given)


def stacked_channels(
    parents: Sequence[Tensor], entries: Sequence[Any], index: Mapping[str, int]
) -> tuple[list[Tensor], list[int]] | None:
    """Return the image whose channels are the ``parents``, ``x[..., i]``, and their order."""
    sources: set[Tensor] = set()
    order: list[int] = []
    for name, _ in parents:
        entry = entries[index[name]] if name in index else {}
        nodes = entry.get("inbound_nodes") or []
        if entry.get("class_name") != "GetItem" or len(nodes) != 1:
            return None
        operands = operands_of(nodes[0])
        channel = operands[1][-1] if len(operands) == 2 and isinstance(operands[1], list) else None
        if type(channel) is not int or operands[1][:-1] != [ELLIPSIS]:
            return None
        sources.update(inputs_of(nodes[0])[0])
        order.append(channel)
    return (list(sources), order) if len(sources) == 1 else None


ELLIPSIS = {"class_name": "__ellipsis__", "config": {}}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__"


def inputs_of(node: Any) -> tuple[list[Tensor], bool]:
    """Return the tensors that a call takes, and whether ``predict`` trains, too."""
    if isinstance(node, Mapping):  # Keras 3, whose predict overrides training=True
        return [*_kept_tensors(node.get("args")), *_kept_tensors(node.get("kwargs"))], False
    node = [node] if node and isinstance(node[0], str) else node
    trains = any(len(call) > 3 and (call[3] or {}).get("training") is True for call in node)
    nested = [tensor for call in node if len(call) > 3 for tensor in _keywords(call[3])]
    return [*tensors_of(node), *nested], trains


def _kept_tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            name, node, _ = value["config"]["keras_history"]
            yield str(name), int(node)
            return
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _kept_tensors(one)


def _keywords(arguments: Any) -> Iterator[Tensor]:
    """Yield the tensors among Keras 2's keyword arguments, each ``[name, node, index]``."""
    for value in (arguments or {}).values():
        if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
            yield str(value[0]), int(value[1])


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors of ``["fc", 0, 0]``, a list of such lists, or a dict of them."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if value and isinstance(value[0], str):
        value = [value]
    return [(str(one[0]), int(one[1])) for one in value]
