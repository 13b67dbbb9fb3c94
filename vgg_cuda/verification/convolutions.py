"""Error bounds of a convolution, and of the fused block of the first two convolutions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import reference
from ..backends import Stats
from ..backends.threads import run_blocks
from .operands import as_operand
from .sums import Order, U, any_order, in_order, of_moved, walked
from .winograd import winograd_bound

Float64 = NDArray[np.float64]

BLOCK = 1 << 16  # sums per block, which fit in a core's cache


class Filters(NamedTuple):
    """Weights [K,3,3,C], or [K,C] of a dense layer, and bias [K]."""

    w: NDArray[Any]
    bias: NDArray[Any]


def conv_error(
    x: Float64, w: Float64, bias: NDArray[Any], y: Float64, stats: Stats, tensor_cores: bool
) -> Float64:
    """Return the error bound [1,H,W,K] of y, the convolution of x [1,H,W,C] with w [K,3,3,C]."""
    if stats["kernel"] == "cpu_winograd":
        return winograd_bound(x[0], w)[None]
    if not stats["plan"]:  # BLAS: the bias is one more product
        magnitude = reference.conv3x3(np.abs(x), np.abs(w), np.abs(bias))
        return any_order(magnitude, 9 * x.shape[3] + 1)
    return with_bias(_tiled_error(x, w, stats["plan"]["tiling"], tensor_cores), y)


def fused_conv1_block(
    x: Float64, first: Filters, second: Filters, stats: Stats | None, tensor_cores: bool
) -> tuple[Float64, Float64 | float, bool]:
    """Return the block's result for one image, its error bound, and whether conv1_1 is finite.

    ``sums.py`` bounds the sums of the first convolution, which are then rounded to the dtype of w.
    Their distance from relu(exact), weighted with |w2|, bounds how far they move the sums of the
    second convolution.
    """
    w1, w2 = (filters.w.astype(np.float64) for filters in (first, second))
    sums = reference.conv3x3(x, w1, first.bias)
    z = np.maximum(sums, 0)
    y = reference.conv3x3(z, w2, second.bias)
    if stats is None:
        return y, 0.0, True
    plan = stats["plan"]
    error = with_bias(_tiled_error(x, w1, plan["first_tiling"], tensor_cores), sums)
    low, high = (
        as_operand(np.maximum(sums + off, 0), first.w.dtype.name).astype(np.float64)
        for off in (-error, error)
    )
    finite = bool(np.isfinite(high).all())
    moved = reference.conv3x3(np.maximum(high - z, z - low), np.abs(w2))
    order = Order.of_tiling(plan["tiling"], tensor_cores)
    error = _tiled_error(z, w2, plan["tiling"], tensor_cores)
    error += of_moved(moved, 9 * z.shape[3], order)
    return y, with_bias(error, y), finite


def with_bias(error: Float64, y: Float64) -> Float64:
    """Add the rounding of sum + bias in float32; that of the result's dtype is not included."""
    return np.asarray(error + U * (np.abs(y) + error))


def _tiled_error(x: Float64, w: Float64, tiling: dict[str, Any], tensor_cores: bool) -> Float64:
    """Return the error bound [1,H,W,K] of a kernel's sums for x [1,H,W,C] and w [K,3,3,C]."""
    _, h, width, c = x.shape
    order = Order.of_tiling(tiling, tensor_cores)
    walk = walked(tiling)
    columns = np.ascontiguousarray(w.reshape(len(w), -1).T)[walk]
    padded = np.pad(x[0], ((1, 1), (1, 1), (0, 0)))
    error = np.empty((1, h, width, len(w)))
    rows = max(1, BLOCK // (width * len(w)))

    def job(top: int) -> None:
        count = min(rows, h - top)
        taps = [
            padded[top + r : top + r + count, s : s + width] for r in range(3) for s in range(3)
        ]
        a = np.concatenate(taps, axis=-1).reshape(count * width, 9 * c)[:, walk]
        error[0, top : top + count] = in_order(a, columns, order).reshape(count, width, -1)

    run_blocks(job, list(range(0, h, rows)))
    return error
