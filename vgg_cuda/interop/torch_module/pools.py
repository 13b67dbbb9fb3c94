"""PyTorch's pools in a VGG's forward, each recorded as a step of a ``Recorder``."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from ...weights.chain.layers import AdaptiveAvgPool, GlobalPool, MaxPool2x2
from .recording import OPERATIONS, Recorder, shape_of
from .records import Unrecorded

POOL = "expected a 2x2 max-pool of stride 2 without padding, got {module}"


def is_maxpool2x2(kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> bool:
    """Return whether a max-pool is 2x2 with stride 2 and no padding."""
    given = [pair(each) for each in (kernel_size, stride or kernel_size, padding, dilation)]
    return given == [(2, 2), (2, 2), (0, 0), (1, 1)]


def max_pool2d(
    rec: Recorder, x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """Record a 2x2 max-pool; rounding up changes nothing if sides are even."""
    N, C, H, W = images(x)
    odd = ceil_mode and (H % 2 or W % 2)
    halves = is_maxpool2x2(kernel_size, stride, padding, dilation)
    if not halves or return_indices or odd or x.vector or rec.pooled:
        raise Unrecorded(f"{POOL} of {H} x {W} pixels" if halves and odd else POOL)
    if min(H, W) < 2:
        raise Unrecorded(f"expected at least 2 x 2 pixels to pool, got {H} x {W}")
    rec.pools += 1
    return rec.step(x, MaxPool2x2, (N, C, H // 2, W // 2))


def adaptive_avg_pool2d(rec: Recorder, x: Any, output_size: Any) -> Any:
    """Record an average pool to a square grid; a pool of single values changes nothing."""
    rows, columns = _grid(x, output_size)
    if x.vector and rows == columns == 1:
        return rec.alias(x, copied=True)
    if x.vector or rows != columns or rec.pooled:
        raise Unrecorded("expected an average pool to a square grid, got {module}")
    rec.adaptive = True
    return _global(rec, x, "avg", keepdim=True) if rows == 1 else average(rec, x, rows)


def adaptive_max_pool2d(
    rec: Recorder, x: Any, output_size: Any, return_indices: bool = False
) -> Any:
    """Record a maximum of all pixels; a pool of single values changes nothing."""
    if _grid(x, output_size) != (1, 1) or return_indices:
        raise Unrecorded("expected a maximum of all pixels, got {module}")
    return _global(rec, x, "max", keepdim=True)


def mean(
    rec: Recorder, x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """Record a mean over height and width: a global average pool."""
    if dtype is not None:
        raise Unrecorded(f"expected a mean in the tensor's dtype, got {dtype}")
    _check_axes("mean", x, dim)
    return _global(rec, x, "avg", keepdim)


def amax(rec: Recorder, x: Any, dim: Any = (), keepdim: bool = False) -> Any:
    """Record a maximum over height and width: a global max-pool."""
    _check_axes("maximum", x, dim)
    return _global(rec, x, "max", keepdim)


def average(rec: Recorder, x: Any, grid: int) -> Any:
    """Record an average pool of ``x`` to ``grid`` x ``grid``; at that size it costs nothing."""
    N, C, _, _ = shape = shape_of(x)
    if rec.pooled and shape[2:] == (grid, grid):
        return x
    rec.pooled = True
    return rec.step(x, AdaptiveAvgPool, (N, C, grid, grid), options=(grid,))


def images(x: Any) -> tuple[int, ...]:
    """Return N, C, H and W of a recorded tensor."""
    shape = shape_of(x)
    if len(shape) != 4:
        raise Unrecorded(f"expected [N, C, H, W] before {{module}}, got {list(shape)}")
    return shape


def pair(value: Any) -> Any:
    """Return one value for height and width, or one for each, as two."""
    if isinstance(value, (tuple, list)):
        return tuple(value) if len(value) == 2 else (value[0], value[0]) if value else ()
    return value, value


def _check_axes(what: str, x: Any, dim: Any) -> None:
    images(x)
    over = sorted(axis % 4 for axis in dim) if isinstance(dim, (tuple, list)) else None
    if over != [2, 3]:
        raise Unrecorded(f"expected a {what} over height and width, got dim={dim}")


def _grid(x: Any, output_size: Any) -> tuple[int, int]:
    """Return rows and columns of the result; None in ``output_size`` means x's own."""
    H, W = images(x)[2:]
    rows, columns = pair(output_size)
    return H if rows is None else rows, W if columns is None else columns


def _global(rec: Recorder, x: Any, kind: str, keepdim: bool) -> Any:
    """Record a pool of all pixels; single values stay as they are."""
    N, C, _, _ = images(x)
    shape = (N, C, 1, 1) if keepdim else (N, C)
    if x.vector:
        rec.expect_last(x)
        return rec.tensor(shape, vector=True)
    if rec.pooled:
        raise Unrecorded("expected one pool to a fixed size, got {module} after another")
    rec.pooled = rec.adaptive = True
    return rec.step(x, GlobalPool, shape, options=(kind,), vector=True)


OPERATIONS |= {
    F.max_pool2d: max_pool2d, torch.max_pool2d: max_pool2d,
    torch.ops.aten.max_pool2d.default: max_pool2d,
    F.adaptive_avg_pool2d: adaptive_avg_pool2d,
    F.adaptive_max_pool2d: adaptive_max_pool2d,
    torch.mean: mean, torch.Tensor.mean: mean,
    torch.amax: amax, torch.Tensor.amax: amax,
}  # fmt: skip
