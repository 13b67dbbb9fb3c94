"""Pooling nodes of an ONNX graph as layers of a chain: maxima, and means in several spellings."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..canonical import Array
from ..chain.layers import AdaptiveAvgPool, GlobalPool, MaxPool2x2
from .nodes import Attributes
from .position import Position


def averaging_matrix(cells: int, size: int) -> NDArray[np.float32]:
    """Return [cells, size]: row i averages bin i of PyTorch's adaptive average pool."""
    matrix = np.zeros((cells, size), np.float32)
    for i in range(cells):
        begin, end = i * size // cells, -(-(i + 1) * size // cells)
        matrix[i, begin:end] = 1 / (end - begin)
    return matrix


def max_pool(at: Position, a: Attributes) -> None:
    """Translate MaxPool of 2x2 with stride 2."""
    auto = Attributes(at.node).pop("auto_pad", b"NOTSET")
    kernel, strides, pads, dilations, ceil = _window(at, a)
    a.pop("storage_order")  # concerns the indices only, a second result
    even = at.known is not None and not any(size % 2 for size in at.known)
    halves = kernel == strides == [2, 2] and dilations == [1, 1] and not any(pads)
    if not halves or (ceil and not even):
        raise at.error(
            f"expected a 2x2 max-pool with stride 2 and no padding, got {kernel} with strides "
            f"{strides}, padding {pads}, dilations {dilations}, ceil_mode {ceil}"
        )
    up = bool(ceil) or auto in (b"SAME_UPPER", b"SAME_LOWER")
    at.layers.append(MaxPool2x2(at.name, even_only=up))
    for axis in "HW":
        if at.sizes[axis] < 2:
            raise at.error(f"expected an image of 2x2 pixels or more, got {at.shown}")
        at.sizes[axis] //= 2


def average_pool(at: Position, a: Attributes) -> None:
    """Translate AveragePool: an adaptive pool whose grid divides the image."""
    kernel, strides, pads, dilations, ceil = _window(at, a)
    a.pop("count_include_pad")
    plain = kernel == strides and not any(pads) and not ceil and set(dilations) == {1}
    grid = None
    if at.known is not None and len(kernel) == 2 and min(kernel) > 0:
        rows, columns = (size // k for size, k in zip(at.known, kernel, strict=True))
        exact = (rows * kernel[0], columns * kernel[1]) == at.known
        # A window as large as the image makes one step, whatever its stride.
        plain = plain or ((rows, columns) == (1, 1) and not any(pads))
        grid = rows if exact and rows == columns else None
    if plain and kernel == [1, 1] and not (at.adaptive and grid):
        return
    if plain and grid:
        at.layers.append(AdaptiveAvgPool(at.name, grid))
        at.sizes |= {"H": grid, "W": grid}
    else:
        raise at.error(
            f"expected an average pool to a square grid that divides the image, got {kernel} with "
            f"strides {strides}, padding {pads} on {at.shown}"
        )


def averaging(at: Position, matrix: Array, left: bool) -> None:
    """Translate half of an adaptive pool: MatMul from the left (rows) or right (columns)."""
    axis = "H" if left else "W"
    matrix = matrix if left else matrix.T
    cells, size = len(matrix) if matrix.ndim == 2 else 0, at.sizes[axis]
    once = at.known is not None and at.axes == "NCHW" and axis not in at.averaged
    fits = 1 <= cells <= 4096 and matrix.shape[1] == size
    if not (once and fits and np.allclose(matrix, averaging_matrix(cells, size), 1e-6, 0)):
        raise at.error("expected a Flatten before a matrix product, or bins of an adaptive pool")
    at.averaged.add(axis)
    at.sizes[axis] = cells
    if len(at.averaged) == 2:
        if at.sizes["H"] != at.sizes["W"]:
            raise at.error(f"expected an adaptive pool to a square grid, got {at.shown}")
        at.averaged.clear()
        at.layers.append(AdaptiveAvgPool(at.name, cells))


def global_pool(at: Position, a: Attributes, kind: Literal["avg", "max"], kept: str = "11") -> None:
    """Translate GlobalAveragePool or GlobalMaxPool, which leave ``kept`` in place of H and W."""
    if at.pixels:
        if kept == "11" and at.axes != "NCHW":
            raise at.error(f"expected its input as NCHW, got {at.axes}")
        at.layers.append(GlobalPool(at.name, kind))
        at.axes = "".join(kept[:1] if axis in "HW" else axis for axis in at.axes)
    elif at.axes != "NC11":
        raise at.error(f"expected an image, got {at.axes}")


def reduce(at: Position, a: Attributes, kind: Literal["avg", "max"]) -> None:
    """Translate ReduceMean or ReduceMax over height and width."""
    axes = _axes(at, a)
    keep = a.pop("keepdims", 1)
    empty = a.pop("noop_with_empty_axes", 0)
    reduced = set(range(len(at.axes)) if axes is None else axes)
    letters = {at.axes[i] for i in reduced}
    if letters != ({"H", "W"} if at.pixels else {"1"}) or (axes is None and empty):
        raise at.error(
            f"expected height and width as axes, got axes {sorted(reduced)} of {at.axes}"
        )
    if at.pixels:
        global_pool(at, a, kind, "1" if keep else "")
    elif not keep:
        at.drop_axes(reduced)


def squeeze(at: Position, a: Attributes) -> None:
    """Translate Squeeze of the axes that a global pool kept."""
    axes = _axes(at, a)
    dropped = {i for i, axis in enumerate(at.axes) if axis == "1"} if axes is None else set(axes)
    if any(at.axes[i] != "1" for i in dropped):
        raise at.error(f"expected axes of size 1 from a global pool, got {sorted(dropped)}")
    at.drop_axes(dropped)


def _axes(at: Position, a: Attributes) -> list[int] | None:
    """Return the node's axes, counted from 0: an attribute in old opsets, later an operand."""
    axes, operand = a.pop("axes"), at.constant(1)
    if operand is not None:
        axes = at.integers(operand)
    rank = len(at.axes)
    if not axes:
        return None
    if len(axes) > rank or any(not -rank <= axis < rank for axis in axes):
        raise at.error(f"expected axes of {at.axes}, got {axes[:8]}")
    return [int(axis) % rank for axis in axes]


def _window(at: Position, a: Attributes) -> tuple[list[int], list[int], list[int], list[int], int]:
    """Return kernel, strides, padding, dilations and ceil_mode of a pool on an image."""
    if at.axes != "NCHW":
        raise at.error(f"expected an image as NCHW, got {at.axes}")
    kernel = [int(k) for k in a.pop("kernel_shape", [])]
    strides = [int(s) for s in a.pop("strides", [1, 1])]
    dilations = [int(d) for d in a.pop("dilations", [1, 1])]
    ceil = int(a.pop("ceil_mode", 0))
    if len(kernel) != 2 or len(strides) != 2 or min(*kernel, *strides) < 1:
        raise at.error(f"expected a 2x2 window, got {kernel[:8]} with strides {strides[:8]}")
    return kernel, strides, at.pads(a, (kernel[0], kernel[1]), strides[0]), dilations, ceil
