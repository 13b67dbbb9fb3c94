"""Functions that an ONNX file brings along: exporters write a layer as a call of one.

``onnx.inliner`` puts their bodies in place of the calls. Functions that call functions can double
the graph at every level, so its size is counted before.
"""

from __future__ import annotations

import importlib
from typing import Any

from ...text import one_line
from ..canonical import WeightsError
from ..chain import UnsupportedError

MAX_NODES = 10_000  # of the graph that results; VGG-19's has about 60


def inlined(onnx: Any, model: Any, source: str) -> Any:
    """``model`` without functions; the very same where it has none.

    Raises :class:`UnsupportedError` for functions that call themselves, or that make too large a
    graph, and :class:`WeightsError` where onnx cannot inline them.
    """
    if not model.functions:
        return model
    functions = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Any, within: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in within or len(within) > 32:
                raise UnsupportedError(
                    f"{source}: {one_line(node.op_type, 80)}: a function that calls itself"
                )
            if key in functions and key not in sizes:
                sizes[key] = size(functions[key].node, (*within, key))
            total += sizes.get(key, 1)
        if total > MAX_NODES:
            raise UnsupportedError(f"{source}: functions that make more than {MAX_NODES} nodes")
        return total

    size(model.graph.node, ())
    if any(key[0] in ("", "ai.onnx") for key in functions):
        raise UnsupportedError(f"{source}: functions in the name of ONNX's own operations")
    try:
        return importlib.import_module("onnx.inliner").inline_local_functions(model)
    except Exception as error:  # of C++: whatever it finds wrong with the model
        raise WeightsError(f"{source}: its functions cannot be read: {one_line(error)}") from None
