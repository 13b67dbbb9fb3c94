"""Pooling nodes of an ONNX graph as layers of a chain: maxima, and means in several spellings."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..canonical import Array
from ..chain.layers import AdaptiveAvgPool, GlobalPool, Identity, MaxPool2x2
from .nodes import Attributes, label
from .position import Position

Kind = Literal["avg", "max"]


def averaging_matrix(cells: int, size: int) -> NDArray[np.float32]:
    """Return [cells, size]: row i averages bin i of PyTorch's adaptive average pool."""
    matrix = np.zeros((cells, size), np.float32)
    for i in range(cells):
        begin, end = i * size // cells, -(-(i + 1) * size // cells)
        matrix[i, begin:end] = 1 / (end - begin)
    return matrix


def max_pool(t: Position, node: Any, a: Attributes) -> None:
    """Translate MaxPool of 2x2 with stride 2."""
    kernel, strides, pads, dilations, ceil = _window(t, node, a)
    a.pop("storage_order")  # concerns the indices only, a second result
    even = t.known is not None and not any(size % 2 for size in t.known)
    halves = kernel == strides == [2, 2] and dilations == [1, 1] and not any(pads)
    if not halves or (ceil and not even):
        raise t.error(
            node,
            f"expected a 2x2 max-pool with stride 2 and no padding, got {kernel} with strides "
            f"{strides}, padding {pads}, dilations {dilations}, ceil_mode {ceil}",
        )
    t.layers.append(MaxPool2x2(label(node)))
    for axis in "HW":
        if t.sizes[axis] < 2:
            raise t.error(node, f"expected an image of 2x2 pixels or more, got {t.shown}")
        t.sizes[axis] //= 2


def average_pool(t: Position, node: Any, a: Attributes) -> None:
    """Translate AveragePool: an adaptive pool whose grid divides the image."""
    kernel, strides, pads, dilations, ceil = _window(t, node, a)
    a.pop("count_include_pad")
    plain = kernel == strides and not any(pads) and not ceil and set(dilations) == {1}
    grid = None
    if t.known is not None and len(kernel) == 2 and min(kernel) > 0:
        rows, columns = (size // k for size, k in zip(t.known, kernel, strict=True))
        exact = (rows * kernel[0], columns * kernel[1]) == t.known
        # A window as large as the image makes one step, whatever its stride.
        plain = plain or ((rows, columns) == (1, 1) and not any(pads))
        grid = rows if exact and rows == columns else None
    if plain and kernel == [1, 1] and not (t.adaptive and grid):
        t.layers.append(Identity(label(node)))
    elif plain and grid:
        t.layers.append(AdaptiveAvgPool(label(node), grid))
        t.sizes |= {"H": grid, "W": grid}
    else:
        raise t.error(
            node,
            f"expected an average pool to a square grid that divides the image, got {kernel} with "
            f"strides {strides}, padding {pads} on {t.shown}",
        )


def averaging(t: Position, node: Any, matrix: Array, left: bool) -> None:
    """Translate half of an adaptive pool: MatMul from the left (rows) or right (columns)."""
    axis = "H" if left else "W"
    if t.known is None or t.axes != "NCHW" or matrix.ndim != 2 or axis in t.averaged:
        raise t.error(node, "a matrix product with pixels: expected an average pool or a Flatten")
    matrix = matrix if left else matrix.T
    size = t.known[0 if left else 1]
    expected = matrix.shape[1] == size and 1 <= len(matrix) <= 4096
    if not expected or not np.allclose(
        matrix, averaging_matrix(len(matrix), size), rtol=1e-6, atol=0
    ):
        raise t.error(node, "a matrix product with pixels: expected the bins of an adaptive pool")
    t.averaged[axis] = len(matrix)
    if len(t.averaged) < 2:
        t.sizes[axis] = len(matrix)
        return
    rows, columns = t.averaged["H"], t.averaged["W"]
    if rows != columns:
        raise t.error(node, f"expected an adaptive pool to a square grid, got {rows}x{columns}")
    t.sizes |= {"H": rows, "W": columns}
    t.averaged.clear()
    t.layers.append(AdaptiveAvgPool(label(node), rows))


def squeeze(t: Position, node: Any, a: Attributes) -> None:
    """Translate Squeeze of the axes that a global pool kept."""
    axes = _axes(t, node, a)
    dropped = {i for i, axis in enumerate(t.axes) if axis == "1"} if axes is None else set(axes)
    if any(t.axes[i] != "1" for i in dropped):
        raise t.error(node, f"expected axes of size 1 from a global pool, got {sorted(dropped)}")
    t.axes = "".join(axis for i, axis in enumerate(t.axes) if i not in dropped)
    t.layers.append(Identity(label(node)))


def reduce(t: Position, node: Any, a: Attributes, kind: Kind) -> None:
    """Translate a mean or maximum over height and width."""
    axes = _axes(t, node, a)
    keep = a.pop("keepdims", 1)
    empty = a.pop("noop_with_empty_axes", 0)
    reduced = set(range(len(t.axes)) if axes is None else axes)
    letters = {t.axes[i] for i in reduced}
    if letters != ({"H", "W"} if t.pixels else {"1"}) or (axes is None and empty):
        raise t.error(
            node, f"expected height and width as axes, got axes {sorted(reduced)} of {t.axes}"
        )
    if t.pixels:
        global_pool(t, node, kind, "1" if keep else "")
    else:
        t.layers.append(Identity(label(node)))
        kept = (axis for i, axis in enumerate(t.axes) if keep or i not in reduced)
        t.axes = "".join(kept)


def global_pool(t: Position, node: Any, kind: Kind, left: str = "11") -> None:
    """Translate a mean or maximum of all pixels, which leaves the axes ``left``."""
    if not t.pixels:
        if t.axes != "NC11":
            raise t.error(node, f"expected an image, got {t.axes}")
        t.layers.append(Identity(label(node)))
        return
    if left == "11" and t.axes != "NCHW":
        raise t.error(node, f"expected its input as NCHW, got {t.axes}")
    t.layers.append(GlobalPool(label(node), kind))
    t.axes = "".join(left[:1] if axis in "HW" else axis for axis in t.axes)


def _axes(t: Position, node: Any, a: Attributes) -> list[int] | None:
    """Return the node's axes, counted from 0: an attribute in old opsets, later an operand."""
    axes, operand = a.pop("axes"), t.graph.constant(node, 1)
    if operand is not None:
        axes = t.integers(node, operand)
    rank = len(t.axes)
    if not axes:
        return None
    if len(axes) > rank or any(not -rank <= axis < rank for axis in axes):
        raise t.error(node, f"expected axes of {t.axes}, got {axes[:8]}")
    return [int(axis) % rank for axis in axes]


def _window(
    t: Position, node: Any, a: Attributes
) -> tuple[list[int], list[int], list[int], list[int], int]:
    """Return kernel, strides, padding, dilations and ceil_mode of a pool on an image."""
    if t.axes != "NCHW":
        raise t.error(node, f"expected an image as NCHW, got {t.axes}")
    kernel = [int(k) for k in a.pop("kernel_shape", [])]
    strides = [int(s) for s in a.pop("strides", [1, 1])]
    dilations = [int(d) for d in a.pop("dilations", [1, 1])]
    ceil = int(a.pop("ceil_mode", 0))
    if len(kernel) != 2 or len(strides) != 2 or min(*kernel, *strides) < 1:
        raise t.error(node, f"expected a 2x2 window, got {kernel[:8]} with strides {strides[:8]}")
    return kernel, strides, t.pads(node, a, (kernel[0], kernel[1]), strides[0]), dilations, ceil
