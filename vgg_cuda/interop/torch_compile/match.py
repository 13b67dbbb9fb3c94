"""Search in a graph of ``torch.fx`` for what this package's kernels compute.

A part is a convolution (3x3, stride 1, padding 1) with the batch norm, ReLU and 2x2 max-pool after
it, a 2x2 max-pool alone, or a dense layer with its ReLU. Its nodes are consecutive in the graph,
and other nodes use the last one only: no in-place operation and no change of mode lies between
them, so one kernel can replace them. Weights are inputs or attributes of the graph; weights that
the graph computes would be packed in every call.

A stage is a sequence of parts whose results only the next part uses. It keeps its activations in
the kernels' layout.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch.fx import Graph, Node

from ..torch_module.operations import is_conv3x3
from ..torch_module.pools import is_maxpool2x2
from ..torch_module.recording import OPERATIONS
from .stage import Step

CONV = ("stride", "padding", "dilation", "groups")
POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
FREE = {"flatten", "view", "dropout", "contiguous", "size", "getitem", "getattr"}


@dataclass
class Part:
    """A step whose operands are nodes, the nodes that it replaces, and its input."""

    step: Step
    nodes: list[Node]
    x: Node


def find_stages(graph: Graph) -> tuple[list[list[Part]], list[str]]:
    """Return all stages in the graph: convolutions and pools, or one dense layer each.

    The texts name the other operations, and say why no kernel runs them.
    """
    calls = [node for node in graph.nodes if node.op not in ("placeholder", "get_attr")]
    following = dict(pairwise(calls))
    stages: list[list[Part]] = []
    taken: set[Node] = set()
    unmatched: list[str] = []
    for node in calls:
        if node in taken:
            continue
        part = _begin(node)
        if isinstance(part, str):
            unmatched += [part] if part else []
            continue
        while _extend(part, _only_user(part.nodes[-1], following)):
            pass
        taken.update(part.nodes)
        before = stages[-1][-1] if stages else None
        spatial = before is not None and "linear" not in (part.step.kind, before.step.kind)
        if before is not None and spatial and _only_user(before.nodes[-1], following) is node:
            stages[-1].append(part)
        else:
            stages.append([part])
    return stages, unmatched


def _only_user(node: Node, following: dict[Node, Node]) -> Node | None:
    """Return the next node of the graph if no other node uses ``node``."""
    user = following.get(node)
    return user if user is not None and list(node.users) == [user] else None


def _read(node: Node | None) -> tuple[str, dict[str, Any]]:
    """Return the layer that ``node`` calls and all its arguments by name; "" for other nodes.

    ``torch.relu(x)``, ``F.relu(x, inplace=True)``, ``x.relu_()`` and ``aten.relu.default(x)`` are
    all ``relu``.
    """
    target = None if node is None or node.op != "call_function" else node.target
    if node is not None and node.op == "call_method":
        target = getattr(torch.Tensor, str(node.target), None)
    operation = OPERATIONS.get(target)
    if node is None or operation is None:
        return "", {}
    named = {"x" if k in ("input", "self") else k: value for k, value in node.kwargs.items()}
    try:
        bound = inspect.signature(operation).bind(None, *node.args, **named)
    except TypeError:
        return "", {}
    bound.apply_defaults()
    given = bound.arguments
    return (operation.__name__.rstrip("_"), given) if isinstance(given["x"], Node) else ("", {})


def _begin(node: Node) -> Part | str:
    """Return a part that starts with ``node``, or why none does; "" if ``node`` costs nothing."""
    layer, given = _read(node)
    if layer == "max_pool2d":
        if _is_pool(given):
            return Part(Step("maxpool2x2"), [node], given["x"])
        return f"max_pool2d: expected 2x2, stride 2, got {_said(given, POOL)}"
    if layer not in ("conv2d", "linear"):
        return _why_alone(node, layer)
    params = given["weight"], given["bias"]
    if not _are_parameters(params[:1], params[1:]):
        return f"{layer}: its weights are computed in the graph"
    if layer == "conv2d":
        shape = _shape_of(params[0]) or ()
        if not is_conv3x3(shape[2:], *(given[name] for name in CONV)):
            window = "x".join(map(str, shape[2:])) or "an unknown window"
            expected = "expected 3x3, stride 1, padding 1, dilation 1 and groups 1"
            return f"conv2d: {expected}, got {window}, {_said(given, CONV)}"
    kind = "linear" if layer == "linear" else "conv3x3"
    return Part(Step(kind, params), [node], given["x"])


def _why_alone(node: Node, layer: str) -> str:
    """Return why no kernel runs a ``node`` that follows no matched part."""
    if layer in ("relu", "batch_norm"):
        before = "a convolution" if layer == "batch_norm" else "a matched layer"
        return f"{layer}: expected it right after {before} whose result nothing else uses"
    name = str(getattr(node.target, "__name__", node.target))
    return "" if node.op == "output" or {layer, name} & FREE else f"{name}: no kernel"


def _said(given: dict[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {given[name]}" for name in names)


def _extend(part: Part, node: Node | None) -> bool:
    """Add ``node``, the only user of the part, if one kernel computes both."""
    layer, given = _read(node)
    step = part.step
    if node is None or step.pool or step.kind == "maxpool2x2":
        return False
    if not layer or given["x"] is not part.nodes[-1]:
        return False
    convolves = step.kind == "conv3x3"
    if layer == "relu" and not step.relu:
        part.step = replace(step, relu=True)
    elif layer == "max_pool2d" and convolves and _is_pool(given):
        part.step = replace(step, pool=True)
    elif layer == "batch_norm" and convolves and not (step.relu or step.norm):
        norm = tuple(given[name] for name in ("running_mean", "running_var", "weight", "bias"))
        folds = given["training"] is False and isinstance(given["eps"], float)
        if not folds or not _are_parameters(norm[:2], norm[2:]):
            return False
        part.step = replace(step, norm=norm, eps=given["eps"])
    else:
        return False
    part.nodes.append(node)
    return True


def _is_pool(given: dict[str, Any]) -> bool:
    plain = given["ceil_mode"] is False and given["return_indices"] is False
    how = (given[name] for name in ("kernel_size", "stride", "padding", "dilation"))
    return plain and is_maxpool2x2(*how)


def _are_parameters(required: Sequence[Any], optional: Sequence[Any]) -> bool:
    """Return whether all are inputs or attributes of the graph; optional ones may be None."""
    given = [*required, *(each for each in optional if each is not None)]
    return all(isinstance(n, Node) and n.op in ("placeholder", "get_attr") for n in given)


def _shape_of(node: Node) -> tuple[Any, ...] | None:
    """Return the shape of an input or attribute; None if the graph does not state it."""
    value = node.meta.get("example_value", node.meta.get("val"))
    if value is None and node.op == "get_attr":
        value = node.graph.owning_module
        for name in str(node.target).split("."):
            value = getattr(value, name, None)
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None
