"""Inlining of the functions that an ONNX file defines: some exporters write one per layer.

``onnx.inliner`` replaces the calls with the functions' bodies. Functions that call functions can
double the graph at every level, so the number of nodes is counted first.
"""

from __future__ import annotations

import importlib
from typing import Any

from ...text import one_line
from ..canonical import WeightsError
from ..chain.layers import UnsupportedError

MAX_NODES = 10_000  # in the resulting graph; VGG-19 has about 60


def inlined(onnx: Any, model: Any, source: str) -> Any:
    """Return ``model`` with its functions inlined; ``model`` itself if it defines none.

    Raises :class:`UnsupportedError` for recursive functions and for graphs that become too large,
    :class:`WeightsError` if onnx cannot inline the functions.
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
                    f"{source}: {one_line(node.op_type, 80)}: expected functions without "
                    "recursion, got one that calls itself"
                )
            if key in functions and key not in sizes:
                sizes[key] = size(functions[key].node, (*within, key))
            total += sizes.get(key, 1)
        if total > MAX_NODES:
            raise UnsupportedError(
                f"{source}: expected at most {MAX_NODES} nodes, its functions make more"
            )
        return total

    size(model.graph.node, ())
    if any(key[0] in ("", "ai.onnx") for key in functions):
        raise UnsupportedError(f"{source}: expected functions outside of ONNX's own domain")
    try:
        return importlib.import_module("onnx.inliner").inline_local_functions(model)
    except Exception as error:  # the C++ inliner raises nearly anything for a broken model
        raise WeightsError(f"{source}: cannot inline its functions: {one_line(error)}") from None
