"""Nodes of an ONNX graph: their names, their attributes, and those that compute with constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...text import one_line
from ..canonical import Array
from .tensors import FLOATING, INT32, INT64

MAX_SHAPE = 64  # elements of what is computed for a shape

_STANDARD = ("", "ai.onnx")


_FIELDS = {"f": 1, "i": 2, "s": 3, "t": 4, "floats": 6, "ints": 7}  # of an attribute: its types
_KINDS = {
    **dict.fromkeys(("alpha", "beta", "epsilon", "max", "min", "momentum", "ratio"), "f"),
    **dict.fromkeys(
        ("axes", "dilations", "kernel_shape", "pads", "perm", "strides", "value_ints"), "ints"
    ),
    "auto_pad": "s",
    "value": "t",
    "value_float": "f",
    "value_floats": "floats",
}


class Attributes:
    """A node's attributes; what nobody has asked for at the end is not supported."""

    def __init__(self, node: Any) -> None:
        self._left = {attribute.name: attribute for attribute in node.attribute}

    def pop(self, name: str, default: Any = None) -> Any:
        """The attribute's value, an integer unless its name is in ``_KINDS``.

        One of another type is as if it were not there, and stays in ``left``.
        """
        kind = _KINDS.get(name, "i")
        found = self._left.get(name)
        if found is None or found.type != _FIELDS[kind] or found.ref_attr_name:
            return default
        del self._left[name]
        value = getattr(found, kind)
        return list(value) if kind in ("floats", "ints") else value

    @property
    def left(self) -> list[str]:
        """Names that :meth:`pop` has not given."""
        return list(self._left)


def label(node: Any) -> str:
    """How messages and layers call ``node``: by its name, or by what it makes."""
    name = node.name or (node.output[0] if node.output else "") or "a node"
    domain = "" if node.domain in _STANDARD else f"{node.domain}."
    return f"{one_line(name, 80)} ({one_line(domain + node.op_type, 60)})"


def is_standard(node: Any) -> bool:
    """Whether the operation is one of ONNX's own."""
    return node.domain in _STANDARD


LITERALS = {
    "value_float": np.float32, "value_floats": np.float32,
    "value_int": np.int64, "value_ints": np.int64,
}  # fmt: skip


def _axes(x: list[Array], a: Attributes) -> tuple[int, ...] | None:
    """The axes of Squeeze and its like: an attribute in old opsets, an operand in new ones."""
    axes = a.pop("axes") if len(x) < 2 else x[1].ravel().tolist()
    return None if axes is None else tuple(int(axis) for axis in axes)


def _cast(x: list[Array], a: Attributes) -> Array:
    to = a.pop("to")
    if to in FLOATING:
        return x[0].astype(np.float32) if x[0].dtype.kind not in "f" else x[0]
    if to not in (INT32, INT64):
        raise TypeError("expected a cast to integers or floating point")
    return x[0].astype(np.int64)


def _small(x: list[Array]) -> list[Array]:
    """Arithmetic broadcasts, so only short vectors come to it."""
    if any(operand.size > MAX_SHAPE or operand.ndim > 1 for operand in x):
        raise ValueError("arithmetic on constants is for shapes alone")
    return x


def _divide(x: list[Array], _: Attributes) -> Array:
    first, second = _small(x)
    whole = first.dtype.kind in "iu" and second.dtype.kind in "iu"
    return first // second if whole else first / second


def _concat(x: list[Array], a: Attributes) -> Array:
    if sum(operand.size for operand in x) > MAX_SHAPE:
        raise ValueError("concatenated constants are for shapes alone")
    return np.concatenate(x, axis=a.pop("axis", 0))


def _gather(x: list[Array], a: Attributes) -> Array:
    if x[1].size > MAX_SHAPE or x[0].size > MAX_SHAPE:
        raise ValueError("gathered constants are for shapes alone")
    return np.take(x[0], x[1].astype(np.int64), axis=a.pop("axis", 0))


def _reshape(x: list[Array], a: Attributes) -> Array:
    zero = bool(a.pop("allowzero", 0))
    target = [int(d) for d in x[1].ravel()[:8]]
    return x[0].reshape([x[0].shape[i] if d == 0 and not zero else d for i, d in enumerate(target)])


def _slice(x: list[Array], a: Attributes) -> Array:
    if len(x) < 3 or x[0].ndim != 1:
        raise ValueError("slices are of shapes alone")
    starts, ends = int(x[1].ravel()[0]), int(x[2].ravel()[0])
    step = int(x[4].ravel()[0]) if len(x) > 4 else 1
    return x[0][starts:ends:step]


FOLDED: Mapping[str, Callable[[list[Array], Attributes], Array]] = {
    "Identity": lambda x, a: x[0],
    "Cast": _cast,
    "Transpose": lambda x, a: np.transpose(x[0], a.pop("perm")),
    "Reshape": _reshape,
    "Squeeze": lambda x, a: np.squeeze(x[0], _axes(x, a)),
    "Unsqueeze": lambda x, a: np.expand_dims(x[0], _axes(x, a) or ()),
    "Flatten": lambda x, a: x[0].reshape(x[0].shape[0], -1) if a.pop("axis", 1) == 1 else x[0],
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Add": lambda x, a: np.add(*_small(x)),
    "Sub": lambda x, a: np.subtract(*_small(x)),
    "Mul": lambda x, a: np.multiply(*_small(x)),
    "Div": _divide,
}
