"""``torch.compile(model, backend="vgg_cuda")``: layers of a graph run by this package's kernels.

The kernels replace 3x3 convolutions (stride 1, padding 1, any width) with the batch norm in
``eval()``, ReLU and 2x2 max-pool after them, 2x2 max-pools, and dense layers with their ReLU. The
rest of the graph stays unchanged. PyTorch runs a replaced part itself in calls that need a
gradient, autocast, a transform, the capture of a CUDA graph, or a dtype or device without kernels
(the CPU has kernels for float32 only).

``options={"arch": "sm_80"}`` names the architecture that GPU kernels are planned for, by default
that of the GPU; it has no effect on the CPU.

Results equal PyTorch's except for rounding, in PyTorch's memory format; channels_last inputs are
read without a copy. On the CPU an infinity or NaN may reach a few more pixels than in PyTorch:
Winograd's tiles are 4x4. Shapes may change from call to call. Weights are packed once, and again
when they change; see ``torch_cache.py``, whose ``refresh()`` is necessary after writes through
``.data`` and by collectives.

``torch._dynamo.utils.counters["vgg_cuda"]`` counts

- ``matched``: parts replaced when a graph is compiled; a convolution with all layers fused to it is
  one part, a separate pool or dense layer another;
- ``fallback``: calls of a compiled graph in which PyTorch ran at least one part, and compiled
  graphs without any match. ``counters["vgg_cuda_fallback"]`` counts the reasons.

``counters["vgg_cuda_unmatched"]`` counts the operations of compiled graphs that stayed with
PyTorch, each with the reason, such as ``"avg_pool2d: no kernel"``.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Collection, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError(
        'PyTorch is not installed: pip install ".[torch]" in a clone of vgg_cuda'
    ) from error

from torch import fx
from torch._dynamo.utils import counters

from ...backends import DeviceError, check_known_arch
from ..torch_ops import backend_of
from .match import Part, find_stages
from .stage import Stage

__all__ = ["backend"]

_lock = threading.Lock()
_reasons: ContextVar[set[str] | None] = ContextVar("reasons", default=None)
"""Why PyTorch ran parts of the running call of a compiled graph."""


def backend(
    gm: fx.GraphModule, example_inputs: Sequence[Any], **options: Any
) -> Callable[..., Any]:
    """Return a function that runs ``gm`` with kernels; ``gm`` itself does not change.

    ``torch.compile`` calls this function. ``mode`` has no effect. Raises ``ValueError`` for unknown
    options, for an unknown ``arch``, and for one that the GPU of an input cannot run.
    """
    arch = _arch(options, example_inputs)
    fused = fx.GraphModule(gm, copy.deepcopy(gm.graph))
    stages, unmatched = find_stages(fused.graph)
    _count(unmatched=unmatched)
    if not stages:
        _count(fallback=1, reasons={"nothing matched"})
        return gm.forward
    for stage in reversed(stages):  # a stage reads nodes before it, which must still exist
        _replace(fused.graph, stage, arch)
    fused.graph.lint()
    fused.recompile()
    _forget_examples(fused.graph)
    _count(matched=sum(map(len, stages)))
    forward = fused.forward

    def run(*arguments: Any) -> Any:
        reasons: set[str] = set()
        token = _reasons.set(reasons)
        try:
            return forward(*arguments)
        finally:
            _reasons.reset(token)
            if reasons:
                _count(fallback=1, reasons=reasons)

    return run


def _arch(given: dict[str, Any], example_inputs: Sequence[Any]) -> str | None:
    """Return the option ``arch``, after a report about kernels that are off on the inputs' GPUs."""
    options = dict(given.get("options") or {})
    arch: str | None = options.pop("arch", None)
    unknown = sorted({*options, *(set(given) - {"mode", "options"})})
    if unknown:
        raise ValueError(
            "torch.compile: options: expected only arch for backend vgg_cuda, got "
            f"{', '.join(map(repr, unknown))}"
        )
    tensors = [each for each in example_inputs if isinstance(each, torch.Tensor)]
    try:
        check_known_arch(arch)
        for device in {each.device for each in tensors if each.is_cuda}:
            with contextlib.suppress(DeviceError):  # PyTorch runs the graph
                backend_of(device, arch).report_families()
    except (TypeError, ValueError) as error:
        raise type(error)(f"torch.compile: options: {error}") from None
    return arch


def _fell_back(reason: str) -> None:
    if (reasons := _reasons.get()) is not None:
        reasons.add(reason)


def _count(
    matched: int = 0, fallback: int = 0, reasons: Collection[str] = (),
    unmatched: Sequence[str] = (),
) -> None:  # fmt: skip
    with _lock:
        counters["vgg_cuda"]["matched"] += matched
        counters["vgg_cuda"]["fallback"] += fallback
        for reason in reasons:
            counters["vgg_cuda_fallback"][reason] += 1
        for reason in unmatched:
            counters["vgg_cuda_unmatched"][reason] += 1


def _replace(graph: fx.Graph, parts: list[Part], arch: str | None) -> None:
    """Replace all nodes of ``parts`` by one call of a ``Stage``."""
    nodes = [node for part in parts for node in part.nodes]
    arguments = [parts[0].x]
    for part in parts:
        given = [each for each in (*part.step.params, *part.step.norm) if each is not None]
        arguments += [each for each in given if each not in arguments]

    def positions(nodes: Sequence[fx.Node | None]) -> tuple[int | None, ...]:
        return tuple(None if node is None else arguments.index(node) for node in nodes)

    steps = [part.step for part in parts]
    stage = Stage(
        tuple(replace(s, params=positions(s.params), norm=positions(s.norm)) for s in steps),
        original=_cut_out(graph, nodes, arguments),
        fell_back=_fell_back,
        arch=arch,
    )

    def vgg_cuda_stage(*given: Any) -> Any:  # fx writes a function's name into its code
        return stage(*given)

    last = nodes[-1]
    with graph.inserting_before(last):  # after the attributes that are read between the nodes
        call = graph.call_function(vgg_cuda_stage, tuple(arguments))
    last.replace_all_uses_with(call)
    for node in reversed(nodes):
        graph.erase_node(node)


def _cut_out(graph: fx.Graph, nodes: list[fx.Node], arguments: list[fx.Node]) -> Callable[..., Any]:
    """Return a function of ``arguments`` that computes ``nodes`` and returns the last result."""
    part = fx.Graph()
    copies = {node: part.placeholder(f"argument_{i}") for i, node in enumerate(arguments)}
    for node in nodes:
        copies[node] = part.node_copy(node, lambda each: copies[each])
    part.output(copies[nodes[-1]])
    _forget_examples(part)
    return fx.GraphModule(torch.nn.Module(), part).forward


def _forget_examples(graph: fx.Graph) -> None:
    """Clear the nodes' examples of traced tensors.

    They hold weak references to parameters, which make ``torch.utils.swap_tensors`` fail.
    """
    for node in graph.nodes:
        node.meta.clear()
