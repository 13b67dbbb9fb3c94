"""Adaptive average pools as PyTorch's newer exporter writes them, recognised by their results.

If the grid does not divide the image, the exporter gathers the pixels of each bin and averages
them: some twenty nodes with branches. Their order varies, so these nodes are run on random pixels
and the result is compared with that of an adaptive pool.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..canonical import Array
from ..chain.layers import AdaptiveAvgPool
from .graph import Joined
from .nodes import Attributes, evaluate, is_standard, own_name
from .pools import averaging_matrix
from .position import Position

MAX_ELEMENTS = 2**26  # of one intermediate result; 2**17 for 512 channels of 8 x 8 pixels

_OPERATIONS = {
    "Add", "Cast", "Div", "Gather", "GatherND", "Identity", "Mul", "ReduceMean", "Transpose",
    "Where",
}  # fmt: skip


def skip_adaptive_pool(at: Position, path: list[Any]) -> int:
    """Append the adaptive pool that ``path`` begins with; return how many items it takes, or 0."""
    if not path or at.axes != "NCHW" or at.known is None or not _may_begin(path[0]):
        return 0
    shape = (2 if "N" in at.open else at.sizes["N"], *at.shape[1:])
    if math.prod(shape) > MAX_ELEMENTS:
        return 0
    pixels = np.random.default_rng(0).standard_normal(shape, np.float32)
    values: dict[str, Array] = {at.value: pixels}
    for count, item in enumerate(path, 1):
        nodes = item.nodes if isinstance(item, Joined) else [item]
        for node in nodes:
            computed = _computed(at, node, values)
            if computed is None:
                return 0
            values[node.output[0]] = computed
        result = values[nodes[-1].output[0]]
        grid = result.shape[-1] if result.ndim else 0
        if grid and result.shape == (*shape[:2], grid, grid) and _is_adaptive(pixels, result):
            at.layers.append(AdaptiveAvgPool(own_name(nodes[-1]), grid))
            at.sizes |= {"H": grid, "W": grid}
            return count
    return 0


def _may_begin(item: Any) -> bool:
    if isinstance(item, Joined) or item.op_type == "GatherND":
        return True
    return bool(item.op_type == "Transpose" and Attributes(item).pop("perm") == [2, 3, 0, 1])


def _is_adaptive(x: Array, y: Array) -> bool:
    """Return whether y [N,C,g,g] is x [N,C,H,W] averaged over the bins of an adaptive pool."""
    rows, columns = (averaging_matrix(y.shape[-1], side) for side in x.shape[2:])
    return np.allclose(rows @ x @ columns.T, y, rtol=1e-4, atol=1e-5)


def _computed(at: Position, node: Any, values: Mapping[str, Array]) -> Array | None:
    """Return the result of ``node``; None if no such pool contains it."""
    names = [name for name in node.input if name]
    known = all(name in values or at.graph.is_constant(name) for name in names)
    if node.op_type not in _OPERATIONS or not is_standard(node) or not known:
        return None
    operands = [values[name] if name in values else at.graph.value(name) for name in names]
    try:
        if _size(node, operands) > MAX_ELEMENTS:
            return None
        return evaluate(node, operands, at.graph.opset)
    except (ValueError, IndexError):
        return None


def _size(node: Any, operands: list[Array]) -> int:
    """Return how many elements the result of ``node`` has at most."""
    if node.op_type == "ReduceMean":
        return operands[0].size
    if node.op_type not in ("Gather", "GatherND"):
        return math.prod(np.broadcast_shapes(*(operand.shape for operand in operands)))
    data, indices = operands
    if node.op_type == "Gather":
        axis: int = Attributes(node).pop("axis", 0)
        return int(indices.size * data.size // data.shape[axis])
    depth = indices.shape[-1]
    size: int = math.prod((*indices.shape[:-1], *data.shape[depth:]))
    return size
