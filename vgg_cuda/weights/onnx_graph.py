"""An ONNX graph as the one path from its input to its output, and the constants beside it.

Exporters spell a layer's operands in many ways: initialisers, Constant nodes, transposes and
reshapes of these, and for shapes little programs of Shape, Gather and Concat. :meth:`Graph.value`
computes them; nothing that it computes is larger than what it reads, but for short vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .canonical import Array, WeightsError, one_line
from .chain import UnsupportedError
from .onnx_nodes import FOLDED, LITERALS, MOST_SHAPE, Attributes, is_standard, label
from .onnx_tensors import Storage

MOST_DEPTH = 64  # of a constant's computation

_CONSTANT = {"Constant", "Shape", *FOLDED}  # operations whose results are, where their operands are
_TWO_SIDED = ("Add", "MatMul", "Mul", "Sub", "Div", "Sum", "Max", "Min", "Concat")


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
        self._constants = self._find_constants(graph)
        inputs = [value for value in graph.input if value.name not in self._initializers]
        self.input = self._only(inputs, "input")
        self.output = self._only(graph.output, "output")

    def path(self) -> list[Any]:
        """The nodes from input to output. Raises :class:`UnsupportedError` for branches."""
        found: list[Any] = []
        value, passed = self.output.name, set()
        while value != self.input.name:
            node = self._makers.get(value)
            if node is None or value in self._constants:
                user = f"{label(found[-1])}: " if found else ""
                raise self._bad(
                    f"{user}{one_line(value, 80) or 'nothing'}: expected a value computed from "
                    f"{one_line(self.input.name, 80)}"
                )
            if value in passed:
                raise self.unsupported(node, "the graph has a cycle")
            if value != node.output[0]:
                raise self.unsupported(node, "only its first result is supported")
            passed.add(value)
            found.append(node)
            value = self._data(node)
        return found[::-1]

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
            if node is None or depth > MOST_DEPTH:
                raise self._bad(f"{one_line(name, 80)}: expected a constant or a shape")
            result = self._computed(node, depth)
        self._values[name] = result
        return result

    def is_constant(self, name: str) -> bool:
        """Whether the value does not depend on the images."""
        return name in self._constants

    def initializer_of(self, node: Any, position: int) -> str:
        """The name of the operand at ``position``, for messages and for what it tells."""
        return str(node.input[position]) if position < len(node.input) else ""

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

    def _data(self, node: Any) -> str:
        """The operand that comes from the images."""
        if node.op_type not in _TWO_SIDED:
            return str(node.input[0]) if node.input else ""
        found = [name for name in node.input if name and name not in self._constants]
        if len(found) > 1:
            names = " and ".join(one_line(name, 80) for name in found[:2])
            raise self.unsupported(node, f"branches are not supported: it joins {names}")
        return str(found[0]) if found else ""

    def _find_constants(self, graph: Any) -> set[str]:
        """Names of initialisers and of all that is computed from constants alone."""
        constants = set(self._initializers)
        users: dict[str, list[Any]] = {}
        missing: dict[int, int] = {}
        ready = []
        for node in graph.node:
            operands = {name for name in node.input if name and name not in constants}
            missing[id(node)] = len(operands)
            for name in operands:
                users.setdefault(name, []).append(node)
            if not operands:
                ready.append(node)
        while ready:
            node = ready.pop()
            if not is_standard(node) or node.op_type not in _CONSTANT:
                continue
            for output in node.output:
                constants.add(output)
                for user in users.get(output, ()):
                    missing[id(user)] -= 1
                    if not missing[id(user)]:
                        ready.append(user)
        return constants

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
            if result.size > max(largest, MOST_SHAPE):
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
