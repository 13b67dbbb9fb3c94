"""Pools of a VGG's forward, each as a step of a ``Recorder``; as :mod:`.operations`."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from .recording import OPERATIONS, Recorder, Unrecorded, shape_of

POOL = "expected a 2x2 max-pool of stride 2 without padding, got {module}"


def max_pool2d(
    rec: Recorder, x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """2x2 of stride 2; rounding up is no other where sides are even."""
    N, C, H, W = images(x)
    odd = ceil_mode and (H % 2 or W % 2)
    given = kernel_size, stride or kernel_size, padding, dilation
    if [*map(pair, given)] != [(2, 2), (2, 2), (0, 0), (1, 1)]:
        raise Unrecorded(POOL)
    if return_indices or odd or x.vector or rec.pooled:
        raise Unrecorded(f"{POOL} of {H} x {W} pixels" if odd else POOL)
    if min(H, W) < 2:
        raise Unrecorded(f"expected at least 2 x 2 pixels to pool, got {H} x {W}")
    rec.pools += 1
    return rec.step(x, "maxpool", (N, C, H // 2, W // 2))


def adaptive_avg_pool2d(rec: Recorder, x: Any, output_size: Any) -> Any:
    """To a square grid; of single values, nothing."""
    rows, columns = _grid(x, output_size)
    if x.vector and rows == columns == 1:
        return x
    if x.vector or rows != columns or rec.pooled:
        raise Unrecorded("expected an average pool to a square grid, got {module}")
    rec.adaptive = True
    N, C, _, _ = images(x)
    return _global(rec, x, (N, C, 1, 1)) if rows == 1 else average(rec, x, rows)


def adaptive_max_pool2d(
    rec: Recorder, x: Any, output_size: Any, return_indices: bool = False
) -> Any:
    """To one pixel; of single values, nothing."""
    if _grid(x, output_size) != (1, 1) or return_indices:
        raise Unrecorded("expected a maximum of all pixels, got {module}")
    N, C, _, _ = images(x)
    return x if x.vector else _global(rec, x, (N, C, 1, 1), "maximum")


def mean(
    rec: Recorder, x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """Of all pixels: a global average pool."""
    if dtype is not None:
        raise Unrecorded(f"expected a mean in the tensor's dtype, got {dtype}")
    return _reduced(rec, x, "global", dim, keepdim)


def amax(rec: Recorder, x: Any, dim: Any = (), keepdim: bool = False) -> Any:
    """Of all pixels: a global max-pool."""
    return _reduced(rec, x, "maximum", dim, keepdim)


def average(rec: Recorder, x: Any, grid: int) -> Any:
    """``x`` pooled to ``grid`` x ``grid``; which costs nothing at that very size."""
    N, C, _, _ = shape = shape_of(x)
    if rec.pooled and shape[2:] == (grid, grid):
        return x
    rec.pooled = True
    return rec.step(x, "average", (N, C, grid, grid), number=grid)


def images(x: Any) -> tuple[int, ...]:
    """N, C, H and W of a recorded tensor."""
    shape = shape_of(x)
    if len(shape) != 4:
        raise Unrecorded(f"expected [N, C, H, W] before {{module}}, got {list(shape)}")
    return shape


def _reduced(rec: Recorder, x: Any, kind: str, dim: Any, keepdim: bool) -> Any:
    N, C, _, _ = images(x)
    over = sorted(axis % 4 for axis in dim) if isinstance(dim, (tuple, list)) else None
    if over != [2, 3]:
        what = "mean" if kind == "global" else kind
        raise Unrecorded(f"expected a {what} over height and width, got dim={dim}")
    shape = (N, C, 1, 1) if keepdim else (N, C)
    if x.vector:
        rec.expect_last(x)
        return rec.tensor(shape, vector=True)
    return _global(rec, x, shape, kind)


def _grid(x: Any, output_size: Any) -> tuple[int, int]:
    """Rows and columns; None of a size is x's own."""
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    rows, columns = (
        side if given is None else given for given, side in zip(sizes, images(x)[2:], strict=True)
    )
    return rows, columns


def _global(rec: Recorder, x: Any, shape: tuple[int, ...], kind: str = "global") -> Any:
    if rec.pooled:
        raise Unrecorded("expected one pool to a fixed size, got {module} after another")
    rec.pooled = rec.adaptive = True
    return rec.step(x, kind, shape, vector=True)


def pair(value: Any) -> Any:
    """One value for height and width, or one of each, as two."""
    if isinstance(value, (tuple, list)):
        return tuple(value) if len(value) == 2 else (value[0], value[0]) if value else ()
    return value, value


OPERATIONS |= {
    F.max_pool2d: max_pool2d, torch.max_pool2d: max_pool2d,
    F.adaptive_avg_pool2d: adaptive_avg_pool2d,
    F.adaptive_max_pool2d: adaptive_max_pool2d,
    torch.mean: mean, torch.Tensor.mean: mean,
    torch.amax: amax, torch.Tensor.amax: amax,
}  # fmt: skip
