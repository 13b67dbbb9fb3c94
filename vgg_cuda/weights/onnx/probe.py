"""Adaptive pools that PyTorch's newer exporter takes apart, known by what they compute.

For a size that the grid does not divide it gathers each bin's pixels, adds them one by one and
divides: some twenty nodes with branches between them. Rather than their order, their result for
random pixels is compared with an adaptive pool's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from ..canonical import Array
from ..chain import AdaptiveAvgPool
from .graph import Joined
from .nodes import Attributes, is_standard, label
from .pools import averaging_matrix
from .position import Position

MAX_ELEMENTS = 2**26  # of what is computed on the way; at 512 channels and 8 x 8 pixels, 2**17


def begins(at: Position, item: Any) -> bool:
    """Whether ``item`` may be where such a pool begins."""
    if at.axes != "NCHW" or at.known is None:
        return False
    if isinstance(item, Joined) or item.op_type == "GatherND":
        return True
    return bool(item.op_type == "Transpose" and Attributes(item).pop("perm") == [2, 3, 0, 1])


def skip_adaptive_pool(at: Position, path: list[Any]) -> int:
    """How many of ``path``'s first items make an adaptive pool, which is appended; 0 for none."""
    batch = 2 if "N" in at.open else at.sizes["N"]
    shape = (batch, *at.shape[1:])
    if math.prod(shape) > MAX_ELEMENTS:
        return 0
    pixels = np.random.default_rng(0).standard_normal(shape)
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
            at.layers.append(AdaptiveAvgPool(label(nodes[-1]), grid))
            at.sizes |= {"H": grid, "W": grid}
            return count
    return 0


def _is_adaptive(x: Array, y: Array) -> bool:
    """Whether y [N,C,g,g] is x [N,C,H,W] averaged over the bins of an adaptive pool."""
    rows, columns = (averaging_matrix(y.shape[-1], side) for side in x.shape[2:])
    return np.allclose(rows @ x @ columns.T, y, rtol=1e-4, atol=1e-5)


def _computed(at: Position, node: Any, values: Mapping[str, Array]) -> Array | None:
    """The result of ``node``; None where it is none of those that such pools are made of."""
    compute = _COMPUTED.get(node.op_type) if is_standard(node) else None
    names = [name for name in node.input if name]
    if compute is None or not all(n in values or at.graph.is_constant(n) for n in names):
        return None
    operands = [values[n] if n in values else at.graph.value(n) for n in names]
    try:
        return compute(operands, Attributes(node))
    except (ValueError, IndexError, TypeError):
        return None


def _gather_nd(x: list[Array], a: Attributes) -> Array:
    data, indices = x
    depth = indices.shape[-1]
    _check_size((*indices.shape[:-1], *data.shape[depth:]))
    if a.pop("batch_dims", 0):
        raise ValueError("batch_dims")
    return cast(Array, data[tuple(np.moveaxis(indices, -1, 0))])


def _gather(x: list[Array], a: Attributes) -> Array:
    axis = a.pop("axis", 0)
    _check_size((x[1].size, x[0].size // max(x[0].shape[axis], 1)))
    return np.take(x[0], x[1], axis=axis)


def _check_size(shape: tuple[int, ...]) -> None:
    if math.prod(shape) > MAX_ELEMENTS:
        raise ValueError("too large")


def _broadcast(compute: Callable[..., Any]) -> Callable[[list[Array], Attributes], Array]:
    def run(x: list[Array], _: Attributes) -> Array:
        _check_size(np.broadcast_shapes(*(operand.shape for operand in x)))
        with np.errstate(all="ignore"):
            return np.asarray(compute(*x))

    return run


_COMPUTED: Mapping[str, Callable[[list[Array], Attributes], Array]] = {
    "Transpose": lambda x, a: np.transpose(x[0], a.pop("perm")),
    "GatherND": _gather_nd,
    "Gather": _gather,
    "Where": _broadcast(np.where),
    "Add": _broadcast(np.add),
    "Mul": _broadcast(np.multiply),
    "Div": _broadcast(np.divide),
    "Identity": lambda x, a: x[0],
    "Cast": lambda x, a: x[0],
}
