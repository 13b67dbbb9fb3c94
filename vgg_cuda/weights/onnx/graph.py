"""An ONNX graph as the one path from its input to its output, and the constants beside it.

Exporters spell a layer's operands in many ways: initialisers, Constant nodes, transposes and
reshapes of these. They spell shapes as small programs of Shape, Gather and Concat.
:meth:`Graph.value` computes both, and refuses arithmetic on anything larger than a shape.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from ...text import one_line
from ..canonical import Array, WeightsError
from ..chain.layers import UnsupportedError
from .nodes import COMPUTED, REARRANGED, Attributes, evaluate, is_standard, label, unsupported
from .tensors import Storage, listed_dims

MAX_DEPTH = 64  # nodes in a row that compute one constant
MAX_SHAPE = 64  # elements of a computed shape
MAX_FILLED = 2**28  # elements that ConstantOfShape makes in one graph; VGG-19 has 2**27.1

_FOLLOWED = {"Constant", "ConstantOfShape", "Shape", *REARRANGED, *COMPUTED}
_LITERALS = {
    "value_float": np.float32, "value_floats": np.float32,
    "value_int": np.int64, "value_ints": np.int64,
}  # fmt: skip


@dataclass(frozen=True)
class Joined:
    """Nodes of a branch in the graph, operands first; the last node joins its ends."""

    nodes: list[Any]


class Graph:
    """The nodes and constants of one graph, by the names of their values."""

    def __init__(self, graph: Any, opset: int, storage: Storage) -> None:
        self.opset = opset
        self.storage = storage
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Shapes of the computed values that the path has reached so far."""
        self._values: dict[str, Array] = {}
        self._elements = 0  # made by ConstantOfShape
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        if graph.sparse_initializer:
            raise WeightsError("expected dense weights, got sparse initialisers")
        self._makers: dict[str, Any] = {}
        for node in graph.node:
            for output in node.output:
                if output in self._makers or output in self._initializers:
                    raise WeightsError(
                        f"{one_line(output, 80)}: expected one node to compute this value, got two"
                    )
                if output:
                    self._makers[output] = node
        self._nodes = self._sorted(graph.node)
        self._constants = self._find_computed(set(self._initializers))
        shapes = {o for n in graph.node if n.op_type == "Shape" for o in n.output}
        self._sized = self._find_computed(self._constants | shapes)
        inputs = [value for value in graph.input if value.name not in self._initializers]
        self.input = self._only(inputs, "input")
        self.output = self._only(graph.output, "output")

    def path(self) -> list[Any]:
        """Return the nodes from input to output, with a :class:`Joined` for each branch.

        Raises :class:`WeightsError` if no path leads from the input to the output.
        """
        found: list[Any] = []
        nodes = self._live()
        users = Counter(name for node in nodes for name in set(self.operands(node)))
        waiting, group = {self.input.name}, []
        for node in nodes:
            group.append(node)
            for name in set(self.operands(node)):
                users[name] -= 1
                if not users[name]:
                    waiting.discard(name)
            waiting.add(node.output[0])
            if len(waiting) == 1:  # all later nodes depend on this node alone
                found.append(Joined(group) if len(group) > 1 else node)
                group = []
        return found

    def _sorted(self, nodes: Any) -> list[Any]:
        """Return ``nodes`` with every node after those whose results it reads."""
        position = {id(node): i for i, node in enumerate(nodes)}
        before = {
            i: {position[id(self._makers[name])] for name in node.input if name in self._makers}
            for i, node in enumerate(nodes)
        }
        try:
            return [nodes[i] for i in TopologicalSorter(before).static_order()]
        except CycleError as error:
            raise unsupported(nodes[error.args[1][0]], "expected a graph without cycles") from None

    def _live(self) -> list[Any]:
        """Return all nodes that the output needs, each after those that it needs itself."""
        live: list[Any] = []
        needed = {self.output.name}
        self._check_made(self.output.name, None)
        for node in reversed(self._nodes):
            if needed.isdisjoint(node.output):
                continue
            operands = self.operands(node)
            if not operands:
                raise unsupported(node, "expected an operation on the images")
            if not needed.isdisjoint(node.output[1:]):
                raise unsupported(node, "expected a use of its first result only")
            for name in operands:
                self._check_made(name, node)
            needed.update(operands)
            live.append(node)
        return live[::-1]

    def _check_made(self, name: str, user: Any) -> None:
        """Refuse a value that is neither the input nor computed from it."""
        if name != self.input.name and (name not in self._makers or name in self._sized):
            who = f"{label(user)}: " if user is not None else ""
            raise WeightsError(
                f"{who}{one_line(name, 80) or 'nothing'}: expected a constant, or a value "
                f"computed from {one_line(self.input.name, 80)}"
            )

    def constant(self, node: Any, position: int) -> Array | None:
        """Return the operand of ``node`` at ``position``, None if the node has none there.

        Raises :class:`UnsupportedError` if the operand depends on the images.
        """
        name = node.input[position] if position < len(node.input) else ""
        if not name:
            return None
        if name not in self._constants:
            maker = self._makers.get(name)
            by = f", made by {label(maker)}" if maker is not None else ""
            raise unsupported(node, f"{one_line(name, 80)}: expected a constant{by}")
        return self.value(name)

    def value(self, name: str, depth: int = 0) -> Array:
        """Return a constant, or a value computed from shapes. Raises :class:`UnsupportedError`."""
        if name in self._values:
            return self._values[name]
        if name in self._initializers:
            result = self.storage.array(self._initializers[name], name)
        else:
            node = self._makers.get(name)
            if node is None or depth > MAX_DEPTH:
                raise WeightsError(f"{one_line(name, 80)}: expected a constant or a shape")
            result = self._computed(node, depth)
        self._values[name] = result
        return result

    def operands(self, node: Any) -> list[str]:
        """Return the names of the operands that depend on the images' pixels, not only size."""
        return [name for name in node.input if name and name not in self._sized]

    def is_constant(self, name: str) -> bool:
        """Return whether the value is independent of the images."""
        return name in self._constants

    def _only(self, values: Any, what: str) -> Any:
        if len(values) != 1:
            names = ", ".join(one_line(value.name, 40) for value in list(values)[:4])
            raise UnsupportedError(f"expected one {what}, got {len(values)}{names and ': '}{names}")
        return values[0]

    def _find_computed(self, seeds: set[str]) -> set[str]:
        """Return ``seeds`` and the names of all values computed from them alone."""
        known = set(seeds)
        for node in self._nodes:
            followed = is_standard(node) and node.op_type in _FOLLOWED
            if followed and all(name in known for name in node.input if name):
                known.update(node.output)
        return known

    def _computed(self, node: Any, depth: int) -> Array:
        if node.op_type not in _FOLLOWED or not is_standard(node):
            raise unsupported(node, "expected a constant or a shape, not this operation")
        if node.op_type == "Constant":
            return self._literal(node)
        if node.op_type == "Shape":
            return self._shape(node)
        if node.op_type == "ConstantOfShape":
            return self._filled(node, depth)
        operands = [self.value(name, depth + 1) for name in node.input if name]
        small = sum(x.size for x in operands) <= MAX_SHAPE and all(x.ndim < 2 for x in operands)
        if node.op_type in COMPUTED and not small:
            raise unsupported(
                node,
                "expected arithmetic on shapes only, got other constants; fold them first: "
                "onnxscript.optimizer.optimize(model), or onnxsim",
            )
        try:
            return evaluate(node, operands, self.opset)
        except ValueError as error:
            raise unsupported(node, f"cannot be computed: {error}") from None

    def _literal(self, node: Any) -> Array:
        attributes = Attributes(node)
        tensor = attributes.pop("value")
        if tensor is not None:
            return self.storage.array(tensor, str(node.output[0]))
        for name, dtype in _LITERALS.items():
            value = attributes.pop(name)
            if value is not None:
                return np.array(value, dtype)
        raise unsupported(node, "expected numbers")

    def _filled(self, node: Any, depth: int) -> Array:
        """Return the result of ConstantOfShape, without memory for its equal elements."""
        shape = self.value(node.input[0], depth + 1)
        tensor = Attributes(node).pop("value")
        value = np.zeros(1, np.float32) if tensor is None else self.storage.array(tensor, "value")
        if shape.dtype.kind != "i" or shape.ndim != 1 or shape.size > 8 or value.size != 1:
            raise unsupported(node, f"expected a shape and a value, got {list(shape.shape)}")
        dims = [int(size) for size in shape]
        self._elements += math.prod(dims)
        if min(dims, default=1) < 0 or self._elements > MAX_FILLED:
            raise unsupported(
                node, f"expected at most {MAX_FILLED} equal elements, got {listed_dims(dims)}"
            )
        return np.broadcast_to(value.reshape(()), dims)

    def _shape(self, node: Any) -> Array:
        name = node.input[0] if node.input else ""
        shape = self.shapes.get(name)
        if shape is None and self.is_constant(name):
            shape = self.value(name).shape
        if shape is None:
            raise unsupported(node, "expected the shape of a layer before this one")
        attributes = Attributes(node)
        return np.array(shape[attributes.pop("start", 0) : attributes.pop("end")], np.int64)
