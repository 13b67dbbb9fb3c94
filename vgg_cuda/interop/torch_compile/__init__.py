"""``torch.compile(model, backend="vgg_cuda")``: what this package has kernels for, runs on them.

That is 3x3 convolutions (stride 1, padding 1, any width) with a batch norm in ``eval()``, ReLU and
2x2 max-pool behind them, 2x2 max-pools, and dense layers with their ReLU. Everything else of a
graph stays as it is, and a part runs as PyTorch has it where a call asks for more than its result:
a gradient, autocast, a dtype or device without kernels (on the CPU all but float32), a transform, a
captured CUDA graph. Results are those of PyTorch but for rounding, in the memory format that
PyTorch would give them; channels_last inputs are read as they are. On the CPU an infinity or NaN
may reach a few pixels more than PyTorch's: Winograd's tiles are 4x4. Shapes may change from call to
call. Weights are packed once and anew when they change, see ``torch_cache.py``, which also has
``refresh()`` for writes through ``.data`` and by collectives.

``torch._dynamo.utils.counters["vgg_cuda"]`` counts

- ``matched``: parts replaced, when a graph is compiled; a convolution with all that is fused to it
  is one, as is a pool or dense layer of its own;
- ``fallback``: calls of a compiled graph in which PyTorch ran one part or more, and compiled graphs
  in which nothing matched. ``counters["vgg_cuda_fallback"]`` counts the reasons.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError('PyTorch is not installed: pip install "vgg-cuda[torch]"') from error

from torch import fx
from torch._dynamo.utils import counters

from .match import Part, find_stages
from .stage import Stage, Step

__all__ = ["backend"]

_lock = threading.Lock()


def backend(
    gm: fx.GraphModule, example_inputs: Sequence[Any], **options: Any
) -> Callable[..., Any]:
    """What runs instead of ``gm``, as ``torch.compile`` asks a backend; ``gm`` is not changed.

    There are no options; ``mode`` means nothing here. Raises ``ValueError`` for others.
    """
    unknown = sorted(set(options.get("options") or {}) | (set(options) - {"mode", "options"}))
    if unknown:
        raise ValueError(
            f"torch.compile: backend vgg_cuda has no options, got {', '.join(unknown)}"
        )
    fused = fx.GraphModule(gm, copy.deepcopy(gm.graph))
    stages = find_stages(fused.graph)
    if not stages:
        _count(fallback=1, reasons={"nothing matched"})
        return gm.forward
    calls = _Calls()
    for stage in reversed(stages):  # what a stage reads is of the graph as it was
        _replace(fused.graph, stage, calls)
    fused.graph.lint()
    fused.recompile()
    _forget_examples(fused.graph)
    _count(matched=sum(map(len, stages)))
    return calls.counted(fused.forward)


class _Calls(threading.local):
    """Of one compiled graph: why its call, in each thread, is not all on kernels."""

    reasons: set[str] | None = None

    def fell_back(self, reason: str) -> None:
        if self.reasons is not None:
            self.reasons.add(reason)

    def counted(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """``forward``, counting the calls that are not."""

        def run(*arguments: Any) -> Any:
            outer, self.reasons = self.reasons, set()
            try:
                return forward(*arguments)
            finally:
                reasons, self.reasons = self.reasons, outer
                if reasons:
                    _count(fallback=1, reasons=reasons)

        return run


def _count(
    matched: int = 0, fallback: int = 0, reasons: set[str] | frozenset[str] = frozenset()
) -> None:
    with _lock:
        counters["vgg_cuda"]["matched"] += matched
        counters["vgg_cuda"]["fallback"] += fallback
        for reason in reasons:
            counters["vgg_cuda_fallback"][reason] += 1


def _replace(graph: fx.Graph, parts: list[Part], calls: _Calls) -> None:
    """One call of a ``Stage`` in place of all nodes of ``parts``."""
    nodes = [node for part in parts for node in part.nodes]
    arguments = [parts[0].x]
    for part in parts:
        given = [each for each in (*part.params, *part.norm) if each is not None]
        arguments += [each for each in given if each not in arguments]
    stage = Stage(
        steps=tuple(_step(part, arguments) for part in parts),
        original=_cut_out(graph, nodes, arguments),
        fell_back=calls.fell_back,
    )

    def vgg_cuda_stage(*given: Any) -> Any:  # fx names a function in its code
        return stage(*given)

    last = nodes[-1]
    with graph.inserting_before(last):  # behind the attributes that are read between them
        call = graph.call_function(vgg_cuda_stage, tuple(arguments))
    last.replace_all_uses_with(call)
    for node in reversed(nodes):
        graph.erase_node(node)


def _step(part: Part, arguments: list[fx.Node]) -> Step:
    def places(nodes: Sequence[fx.Node | None]) -> tuple[int | None, ...]:
        return tuple(None if node is None else arguments.index(node) for node in nodes)

    return Step(part.kind, places(part.params), places(part.norm), part.eps, part.relu, part.pool)


def _cut_out(graph: fx.Graph, nodes: list[fx.Node], arguments: list[fx.Node]) -> Callable[..., Any]:
    """A function of ``arguments`` that does what ``nodes`` do, and returns the last one's value."""
    part = fx.Graph()
    copies = {node: part.placeholder(f"argument_{i}") for i, node in enumerate(arguments)}
    for node in nodes:
        copies[node] = part.node_copy(node, lambda each: copies[each])
    part.output(copies[nodes[-1]])
    _forget_examples(part)
    return fx.GraphModule(torch.nn.Module(), part).forward


def _forget_examples(graph: fx.Graph) -> None:
    """What nodes know of the tensors that were traced.

    It holds weak references to parameters, which ``torch.utils.swap_tensors`` refuses.
    """
    for node in graph.nodes:
        node.meta.clear()
