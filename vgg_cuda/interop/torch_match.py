"""Finds in a graph of ``torch.fx`` what this package's kernels compute.

A part is a convolution (3x3, stride 1, padding 1) with the batch norm, ReLU and 2x2 max-pool behind
it, a 2x2 max-pool alone, or a dense layer with its ReLU. Its nodes stand in a row in the graph, and
only the last is used by others: no in-place operation and no change of mode lies between them, so
that computing them at once is the same. Weights are inputs or attributes of the graph; those that
it computes itself would be packed again for every call.

Parts in a row that feed each other and no one else are a stage, which keeps its activations in the
kernels' layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch.fx import Graph, Node

from .torch_calls import read


@dataclass
class Part:
    """``kind``: "conv3x3", "maxpool2x2" or "linear"; its nodes in order; what they read.

    ``params``: w and bias. ``norm``: running mean and variance, weight and bias of a batch norm,
    ``eps`` its epsilon.
    """

    kind: str
    nodes: list[Node]
    x: Node
    params: list[Node | None] = field(default_factory=list)
    norm: list[Node | None] = field(default_factory=list)
    eps: float = 0.0
    relu: bool = False
    pool: bool = False

    @property
    def last(self) -> Node:
        """The one whose value others use."""
        return self.nodes[-1]


def find_stages(graph: Graph) -> list[list[Part]]:
    """All stages in the graph; of convolutions and pools, or one dense layer each."""
    calls = [node for node in graph.nodes if node.op not in ("placeholder", "get_attr")]
    following = dict(pairwise(calls))
    stages: list[list[Part]] = []
    taken: set[Node] = set()
    for node in calls:
        part = None if node in taken else _begin(node)
        if part is None:
            continue
        while _extend(part, _only_user(part.last, following)):
            pass
        taken.update(part.nodes)
        before = stages[-1][-1] if stages else None
        spatial = part.kind != "linear" and before is not None and before.kind != "linear"
        if before is not None and spatial and _only_user(before.last, following) is node:
            stages[-1].append(part)
        else:
            stages.append([part])
    return stages


def _only_user(node: Node, following: dict[Node, Node]) -> Node | None:
    """The next node of the graph, where that is the only one to use ``node``."""
    user = following.get(node)
    return user if user is not None and list(node.users) == [user] else None


def _begin(node: Node) -> Part | None:
    """A part that starts with ``node``."""
    layer, given = read(node) or ("", {})
    if layer == "max_pool2d" and _is_pool(given):
        return Part("maxpool2x2", [node], given["input"])
    if layer not in ("conv2d", "linear"):
        return None
    params = [given["weight"], given["bias"]]
    if not _are_parameters(params[:1], params[1:]):
        return None
    if layer == "linear":
        return Part("linear", [node], given["input"], params)
    return Part("conv3x3", [node], given["input"], params) if _is_conv3x3(given) else None


def _extend(part: Part, node: Node | None) -> bool:
    """Adds ``node``, the only user of the part, where kernels compute both at once."""
    if node is None or part.pool or part.kind == "maxpool2x2":
        return False
    layer, given = read(node) or ("", {})
    if not layer or given["input"] is not part.last:
        return False
    convolves = part.kind == "conv3x3"
    if layer == "relu" and not part.relu:
        part.relu = True
    elif layer == "max_pool2d" and convolves and _is_pool(given):
        part.pool = True
    elif layer == "batch_norm" and convolves and not (part.relu or part.norm):
        norm = [given[name] for name in ("running_mean", "running_var", "weight", "bias")]
        folds = given["training"] is False and isinstance(given["eps"], float)
        if not folds or not _are_parameters(norm[:2], norm[2:]):
            return False
        part.norm, part.eps = norm, given["eps"]
    else:
        return False
    part.nodes.append(node)
    return True


def _is_conv3x3(given: dict[str, Any]) -> bool:
    shape = _shape_of(given["weight"])
    return (
        _pair(given["stride"]) == _pair(given["dilation"]) == (1, 1)
        and (given["padding"] == "same" or _pair(given["padding"]) == (1, 1))
        and isinstance(given["groups"], int)
        and given["groups"] == 1
        and shape is not None
        and shape[2:] == [3, 3]
    )


def _is_pool(given: dict[str, Any]) -> bool:
    stride = given["stride"]
    if stride is None or (isinstance(stride, Sequence) and not stride):
        stride = given["kernel_size"]  # PyTorch's default
    return (
        _pair(given["kernel_size"]) == _pair(stride) == (2, 2)
        and _pair(given["padding"]) == (0, 0)
        and _pair(given["dilation"]) == (1, 1)
        and given["ceil_mode"] is False
        and given["return_indices"] is False
    )


def _are_parameters(required: list[Any], optional: list[Any]) -> bool:
    """Whether all are inputs or attributes of the graph, the optional ones perhaps None."""
    given = [*required, *(each for each in optional if each is not None)]
    return all(isinstance(n, Node) and n.op in ("placeholder", "get_attr") for n in given)


def _pair(value: Any) -> tuple[int, int] | None:
    """``value``, a number or two, as two; None for what is known only at run time."""
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not all(isinstance(each, int) for each in values) or len(values) not in (1, 2):
        return None
    return int(values[0]), int(values[-1])


def _shape_of(node: Node) -> list[Any] | None:
    """The shape of an input or attribute, where the graph tells."""
    value = node.meta.get("example_value", node.meta.get("val"))
    if value is None and node.op == "get_attr":
        value = node.graph.owning_module
        for name in str(node.target).split("."):
            value = getattr(value, name, None)
    return list(value.shape) if isinstance(value, torch.Tensor) else None
