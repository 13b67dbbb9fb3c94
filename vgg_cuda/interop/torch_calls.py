"""The calls of PyTorch's layers in a graph of ``torch.fx``, whatever they are spelled like.

``torch.relu(x)``, ``F.relu(x, inplace=True)``, ``x.relu_()`` and ``aten.relu.default(x)`` are all a
``relu`` of x.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from torch.fx import Node

_REQUIRED = object()

# Of each layer the arguments in their order, with defaults. Spellings differ only in how many of
# the last ones they have.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "conv2d": {
        "input": _REQUIRED, "weight": _REQUIRED, "bias": None, "stride": 1, "padding": 0,
        "dilation": 1, "groups": 1,
    },
    "batch_norm": {
        "input": _REQUIRED, "running_mean": _REQUIRED, "running_var": _REQUIRED, "weight": None,
        "bias": None, "training": False, "momentum": 0.1, "eps": 1e-5,
    },
    "relu": {"input": _REQUIRED, "inplace": False},
    "max_pool2d": {
        "input": _REQUIRED, "kernel_size": _REQUIRED, "stride": None, "padding": 0, "dilation": 1,
        "ceil_mode": False, "return_indices": False,
    },
    "linear": {"input": _REQUIRED, "weight": _REQUIRED, "bias": None},
}  # fmt: skip

_aten = torch.ops.aten
_FUNCTIONS: dict[Any, str] = {
    torch.conv2d: "conv2d",  # F.conv2d, too
    _aten.conv2d.default: "conv2d",
    _aten.conv2d.padding: "conv2d",
    F.batch_norm: "batch_norm",
    F.relu: "relu",
    torch.relu: "relu",
    torch.relu_: "relu",  # F.relu_, too
    _aten.relu.default: "relu",
    _aten.relu_.default: "relu",
    F.max_pool2d: "max_pool2d",
    torch.max_pool2d: "max_pool2d",
    _aten.max_pool2d.default: "max_pool2d",
    F.linear: "linear",
    _aten.linear.default: "linear",
}
_METHODS = {"relu": "relu", "relu_": "relu"}


class Call(NamedTuple):
    """A layer and all its arguments by PyTorch's names."""

    layer: str
    arguments: dict[str, Any]


def read(node: Node) -> Call | None:
    """The layer that ``node`` calls; None for anything else, or an argument nobody knows."""
    if node.op == "call_function":
        layer = _FUNCTIONS.get(node.target)
    elif node.op == "call_method":
        layer = _METHODS.get(str(node.target))
    else:
        return None
    if layer is None:
        return None
    known = _ARGUMENTS[layer]
    if len(node.args) > len(known):
        return None
    given = dict(zip(known, node.args, strict=False))
    for name, value in node.kwargs.items():
        name = "input" if name == "self" else name  # aten's name for it
        if name not in known or name in given:
            return None
        given[name] = value
    arguments = {**known, **given}
    complete = all(value is not _REQUIRED for value in arguments.values())
    return Call(layer, arguments) if complete and isinstance(arguments["input"], Node) else None
