"""An ONNX graph as the one path from its input to its output, and the constants beside it.

Exporters spell a layer's operands in many ways: initialisers, Constant nodes, transposes and
reshapes of these, and for shapes little programs of Shape, Gather and Concat. :meth:`Graph.value`
computes them; nothing that it computes is larger than what it reads, but for short vectors.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...text import one_line
from ..canonical import Array, WeightsError
from ..chain import UnsupportedError
from .nodes import FOLDED, LITERALS, MAX_SHAPE, Attributes, is_standard, label
from .tensors import Storage

MAX_DEPTH = 64  # of a constant's computation

_FOLLOWED = {"Constant", "Shape", *FOLDED}  # what gives constants where it gets them


@dataclass(frozen=True)
class Joined:
    """Nodes that part and meet again: each after those that it needs, where they meet last."""

    nodes: list[Any]


class Graph:
    """The nodes and constants of one graph, by the names of the values they make."""

    def __init__(self, graph: Any, opset: int, storage: Storage, source: str) -> None:
        self.opset = opset
        self.storage = storage
        self.source = source
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Of computed values, as far as the path has been followed."""
        self._values: dict[str, Array] = {}
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        if graph.sparse_initializer:
            raise self._bad("expected dense weights, got sparse initialisers")
        self._makers: dict[str, Any] = {}
        for node in graph.node:
            for output in node.output:
                if output in self._makers or output in self._initializers:
                    raise self._bad(f"{one_line(output, 80)}: two nodes make this value")
                if output:
                    self._makers[output] = node
        self._constants = self._find_computed(graph, set(self._initializers))
        shapes = {o for n in graph.node if n.op_type == "Shape" for o in n.output}
        self._sized = self._find_computed(graph, self._constants | shapes)
        inputs = [value for value in graph.input if value.name not in self._initializers]
        self.input = self._only(inputs, "input")
        self.output = self._only(graph.output, "output")

    def path(self) -> list[Any]:
        """The nodes from input to output, and :class:`Joined` where there are several ways.

        Raises :class:`WeightsError` where there is none, or one that begins elsewhere.
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
            if len(waiting) == 1:  # whatever comes depends on this node alone
                found.append(Joined(group) if len(group) > 1 else node)
                group = []
        return found

    def _live(self) -> list[Any]:
        """All nodes that the output needs, each after those that it needs itself."""
        order: list[Any] = []
        done = {self.input.name}
        begun: set[str] = set()
        stack: list[tuple[str, Any]] = [(self.output.name, None)]
        while stack:
            value, user = stack[-1]
            if value in done:
                stack.pop()
                continue
            node = self._makers.get(value)
            if node is None or value in self._sized:
                who = f"{label(user)}: " if user is not None else ""
                raise self._bad(
                    f"{who}{one_line(value, 80) or 'nothing'}: expected a constant, or a value "
                    f"computed from {one_line(self.input.name, 80)}"
                )
            operands = self.operands(node)
            if not operands:
                raise self.unsupported(node, "constants of this operation are not supported")
            if value != node.output[0]:
                raise self.unsupported(node, "only its first result is supported")
            missing = [name for name in operands if name not in done]
            if not missing:
                order.append(node)
                done.add(value)
            elif value in begun:
                raise self.unsupported(node, "the graph has a cycle")
            begun.add(value)
            stack += [(name, node) for name in missing]
        return order

    def constant(self, node: Any, position: int) -> Array | None:
        """The operand of ``node`` at ``position``, None where it is left out.

        Raises :class:`UnsupportedError` where it is computed from the images.
        """
        name = node.input[position] if position < len(node.input) else ""
        if not name:
            return None
        if name not in self._constants:
            maker = self._makers.get(name)
            by = f", made by {label(maker)}" if maker is not None else ""
            raise self.unsupported(node, f"{one_line(name, 80)}: expected a constant{by}")
        return self.value(name)

    def value(self, name: str, depth: int = 0) -> Array:
        """A constant, or what follows from shapes. Raises :class:`UnsupportedError`."""
        if name in self._values:
            return self._values[name]
        if name in self._initializers:
            result = self.storage.array(self._initializers[name], name)
        else:
            node = self._makers.get(name)
            if node is None or depth > MAX_DEPTH:
                raise self._bad(f"{one_line(name, 80)}: expected a constant or a shape")
            result = self._computed(node, depth)
        self._values[name] = result
        return result

    def operands(self, node: Any) -> list[str]:
        """Those that are computed from the images, not from their size alone."""
        return [name for name in node.input if name and name not in self._sized]

    def is_constant(self, name: str) -> bool:
        """Whether the value does not depend on the images."""
        return name in self._constants

    def unsupported(self, node: Any, text: str) -> UnsupportedError:
        """An error about ``node``."""
        return UnsupportedError(f"{self.source}: {label(node)}: {text}")

    def _bad(self, text: str) -> WeightsError:
        return WeightsError(f"{self.source}: {text}")

    def _only(self, values: Any, what: str) -> Any:
        if len(values) != 1:
            names = ", ".join(one_line(value.name, 40) for value in list(values)[:4])
            raise UnsupportedError(
                f"{self.source}: expected one {what}, got {len(values)}{names and ': '}{names}"
            )
        return values[0]

    def _find_computed(self, graph: Any, seeds: set[str]) -> set[str]:
        """``seeds`` and the names of all that is computed from them alone."""
        known = set(seeds)
        users: dict[str, list[Any]] = {}
        missing: dict[int, int] = {}
        ready = []
        for node in graph.node:
            if not is_standard(node) or node.op_type not in _FOLLOWED:
                continue
            operands = {name for name in node.input if name and name not in known}
            missing[id(node)] = len(operands)
            for name in operands:
                users.setdefault(name, []).append(node)
            if not operands:
                ready.append(node)
        while ready:
            for output in ready.pop().output:
                known.add(output)
                for user in users.get(output, ()):
                    missing[id(user)] -= 1
                    if not missing[id(user)]:
                        ready.append(user)
        return known

    def _computed(self, node: Any, depth: int) -> Array:
        attributes = Attributes(node)
        known = is_standard(node)
        if known and node.op_type == "Constant":
            result = self._literal(node, attributes)
        elif known and node.op_type == "Shape":
            result = self._shape(node, attributes)
        elif known and node.op_type in FOLDED:
            operands = [self.value(name, depth + 1) for name in node.input if name]
            try:
                with np.errstate(all="ignore"):
                    result = np.asarray(FOLDED[node.op_type](operands, attributes))
            except (ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError) as error:
                raise self.unsupported(node, f"cannot be computed: {one_line(error)}") from None
            largest = max((operand.size for operand in operands), default=0)
            if result.size > max(largest, MAX_SHAPE):
                raise self.unsupported(node, f"a constant of {result.size} elements: expected less")
        else:
            raise self.unsupported(node, "expected a constant or a shape, not this operation")
        if attributes.left:
            raise self.unsupported(
                node, f"attribute {one_line(attributes.left[0], 40)} is not supported"
            )
        return result

    def _literal(self, node: Any, attributes: Attributes) -> Array:
        tensor = attributes.pop("value")
        if tensor is not None:
            return self.storage.array(tensor, str(node.output[0]))
        for name, dtype in LITERALS.items():
            value = attributes.pop(name)
            if value is not None:
                return np.array(value, dtype)
        raise self.unsupported(node, "expected numbers")

    def _shape(self, node: Any, attributes: Attributes) -> Array:
        name = node.input[0] if node.input else ""
        shape = self.shapes.get(name)
        if shape is None and self.is_constant(name):
            shape = self.value(name).shape
        if shape is None:
            raise self.unsupported(node, "expected the shape of a layer before this one")
        return np.array(shape[attributes.pop("start", 0) : attributes.pop("end")], np.int64)
