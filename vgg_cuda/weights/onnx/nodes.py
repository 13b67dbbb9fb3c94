"""Nodes of an ONNX graph: names, attributes, and the values of those that compute constants."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...text import one_line
from ..canonical import Array
from ..chain.layers import UnsupportedError
from .tensors import FLOATING, INT32, INT64

_STANDARD = ("", "ai.onnx")
_SCOPES = "pkg.torch.onnx.name_scopes"

REARRANGED = {
    "Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operations whose result is never larger than their operand."""

COMPUTED = {"Add", "Concat", "Div", "Gather", "Mul", "Slice", "Sub"}
"""Operations that exporters compute shapes with."""

_FIELDS = {"f": 1, "i": 2, "s": 3, "t": 4, "floats": 6, "ints": 7}  # AttributeProto's types
_KINDS = {
    **dict.fromkeys(("alpha", "beta", "epsilon", "max", "min", "momentum", "ratio"), "f"),
    **dict.fromkeys(
        ("axes", "dilations", "kernel_shape", "pads", "perm", "strides", "value_ints"), "ints"
    ),
    "activation": "s",
    "auto_pad": "s",
    "value": "t",
    "value_float": "f",
    "value_floats": "floats",
}


class Attributes:
    """A node's attributes; an attribute that no translator reads is an error."""

    def __init__(self, node: Any) -> None:
        self._left = {attribute.name: attribute for attribute in node.attribute}

    def pop(self, name: str, default: Any = None) -> Any:
        """Return and remove an attribute: an integer unless ``_KINDS`` names another type.

        An attribute of the wrong type counts as absent and stays in ``left``.
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
        """Names of the attributes that have not been read."""
        return list(self._left)


def label(node: Any) -> str:
    """Return the name of ``node`` for messages, and its operation."""
    domain = "" if node.domain in _STANDARD else f"{node.domain}."
    return f"{own_name(node)} ({one_line(domain + node.op_type, 60)})"


def own_name(node: Any) -> str:
    """Return the model's name of the layer that ``node`` belongs to, as far as exporters keep it.

    It is that of the layer's weight, "features.0.weight"; the innermost module that PyTorch's newer
    exporter lists; or the last part of a path, "/features/features.0/Conv" or "model/dense_1/Relu".
    """
    for operand in node.input[1:2]:
        module, _, part = operand.rpartition(".")
        if module and part == "weight":
            return one_line(module, 80)
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            *modules, _ = (part.strip("[]' ") for part in entry.value[:4096].split(","))
            if any(modules):  # the last part, which is dropped, is the operation
                return one_line([module for module in modules if module][-1], 80)
    name = node.name or (node.output[0] if node.output else "") or "a node"
    *path, last = [part for part in name.split("/") if part] or [name]
    operation = node.op_type.removeprefix("Fused").lower()
    if path and re.sub(r"[_:\d]+$", "", last.lower()) in (operation, "biasadd"):
        return one_line(next((p for p in path[::-1] if p != "batchnorm"), path[-1]), 80)
    return one_line(name, 80)


def unsupported(node: Any, text: str) -> UnsupportedError:
    """Return an error about ``node``."""
    return UnsupportedError(f"{label(node)}: {text}")


def is_standard(node: Any) -> bool:
    """Return whether the operation belongs to ONNX's default domain."""
    return node.domain in _STANDARD


def evaluate(node: Any, operands: Sequence[Array], opset: int) -> Array:
    """Return the first result of ``node``, by ONNX's reference implementation.

    It runs whatever operation ``node`` names: pass only operations whose results are small.
    bfloat16 is float32 here. Raises ``ValueError`` for operands that do not fit.
    """
    if node.op_type == "Identity":  # the reference copies
        return operands[0]
    if node.op_type == "Cast":
        return _cast(operands[0], Attributes(node).pop("to"))
    names = [name for name in node.input if name]
    try:
        reference = importlib.import_module("onnx.reference")
        evaluator = reference.ReferenceEvaluator(node, opsets=dict.fromkeys(_STANDARD, opset))
        with np.errstate(all="ignore"):
            (result, *_) = evaluator.run(None, dict(zip(names, operands, strict=True)))
    except Exception as error:  # the reference raises nearly anything for operands that do not fit
        raise ValueError(one_line(error)) from None
    return np.asarray(result)


def _cast(x: Array, to: Any) -> Array:
    if to in FLOATING:
        return x if x.dtype.kind == "f" else x.astype(np.float32)
    if to not in (INT32, INT64):
        raise ValueError("expected a cast to integers or floating point")
    return x.astype(np.int64)
