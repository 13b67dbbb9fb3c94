"""PyTorch's operations that a VGG's forward consists of, each as steps of a ``Recorder``.

They have PyTorch's signatures. What means another operation raises ``Unrecorded``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from .torch_recording import (
    ASKED,
    OPERATIONS,
    Misfit,
    Recorder,
    Unrecorded,
    check_parameters,
    shape_of,
)

CONV = "expected a 3x3 convolution of stride 1, padding 1, dilation 1 and one group, got {module}"
POOL = "expected a 2x2 max-pool of stride 2 without padding, got {module}"


def conv2d(
    rec: Recorder, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Any:  # fmt: skip
    """3x3 "same"; or unpadded and as large as its input, a dense layer: timm's head."""
    N, C, H, W = _images(x)
    check_parameters(weight, bias)
    K, channels, R, S = weight.shape
    if groups != 1 or _pair(dilation) != (1, 1):
        raise Unrecorded(CONV)
    if channels != C:
        raise Unrecorded(f"expected {channels} channels, got {C}")
    padding = {"same": (R // 2, S // 2), "valid": (0, 0)}.get(padding, padding)
    if _pair(padding) == (0, 0) and R == S and (x.vector or rec.pools):
        if not x.vector and (H, W) == (R, R):
            x = rec.step(average(rec, x, R), "flatten", (N, C, R, R), vector=True)
        if (H, W) == (R, R):
            return rec.step(x, "linear", (N, K, 1, 1), weight, bias, vector=True)
        if R > 1 and not rec.pooled:
            text = f"{CONV} on {H} x {W} pixels"
            raise Misfit(text, R * R, rec.pools, convolution=True)
    if (R, S) != (3, 3) or _pair(stride) != (1, 1) or _pair(padding) != (1, 1) or x.vector:
        raise Unrecorded(CONV)
    return rec.step(x, "conv", (N, K, H, W), weight, bias)


def batch_norm(
    rec: Recorder, x: Any, running_mean: Any, running_var: Any, weight: Any = None,
    bias: Any = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    """By the running statistics alone.

    PyTorch updates these without raising their versions; that of ``num_batches_tracked`` tells.
    """
    if training or running_mean is None or running_var is None:
        raise Unrecorded("expected batch norms that use running statistics, got {module}")
    check_parameters(weight, bias)
    counter = rec.counters().get(id(running_mean))
    if counter is None:
        raise Unrecorded("expected batch norms with num_batches_tracked, got {module}")
    norm = weight, bias, running_mean, running_var, counter
    return rec.step(x, "norm", shape_of(x), *norm, number=eps, vector=x.vector)


def relu(rec: Recorder, x: Any, inplace: bool = False) -> Any:
    """In place or not: nothing else reads x."""
    return rec.step(x, "relu", shape_of(x), vector=x.vector)


def dropout(
    rec: Recorder, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Any:
    """Nothing, in inference."""
    if training:
        raise Unrecorded("expected dropout that does nothing in eval(), got {module}")
    return x


def max_pool2d(
    rec: Recorder, x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """2x2 of stride 2; rounding up is no other where sides are even."""
    N, C, H, W = _images(x)
    odd = ceil_mode and (H % 2 or W % 2)
    given = kernel_size, stride or kernel_size, padding, dilation
    if [*map(_pair, given)] != [(2, 2), (2, 2), (0, 0), (1, 1)]:
        raise Unrecorded(POOL)
    if return_indices or odd or x.vector or rec.pooled:
        raise Unrecorded(f"{POOL} of {H} x {W} pixels" if odd else POOL)
    if min(H, W) < 2:
        raise Unrecorded(f"expected at least 2 x 2 pixels to pool, got {H} x {W}")
    rec.pools += 1
    return rec.step(x, "maxpool", (N, C, H // 2, W // 2))


def adaptive_avg_pool2d(rec: Recorder, x: Any, output_size: Any) -> Any:
    """To a square grid; of single values, nothing."""
    N, C, H, W = _images(x)
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    rows, columns = (
        side if given is None else given for given, side in zip(sizes, (H, W), strict=True)
    )
    if x.vector and rows == columns == 1:
        return x
    if x.vector or rows != columns or rec.pooled:
        raise Unrecorded("expected an average pool to a square grid, got {module}")
    rec.adaptive = True
    return _global(rec, x, (N, C, 1, 1)) if rows == 1 else average(rec, x, rows)


def mean(
    rec: Recorder, x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """Of all pixels: a global average pool."""
    N, C, _, _ = _images(x)
    over = sorted(axis % 4 for axis in dim) if isinstance(dim, (tuple, list)) else None
    if over != [2, 3] or dtype is not None:
        raise Unrecorded("expected a mean over height and width")
    shape = (N, C, 1, 1) if keepdim else (N, C)
    if x.vector:
        rec.expect_last(x)
        return rec.tensor(shape, vector=True)
    return _global(rec, x, shape)


def flatten(rec: Recorder, x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """All but the batch."""
    rank = len(shape_of(x))
    if (start_dim % rank, end_dim % rank) != (1, rank - 1):
        raise Unrecorded("expected all dimensions but the batch flattened, got {module}")
    return _flat(rec, x)


def view(rec: Recorder, x: Any, *shape: Any) -> Any:
    """A flatten in other words: ``x.view(x.size(0), -1)``."""
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    N, *rest = shape_of(x)
    features = math.prod(rest)
    if tuple(sizes) in ((N, features), (N, -1), (-1, features)):
        return _flat(rec, x)
    text = f"expected all dimensions but the batch flattened, got {[*sizes]}"
    if len(sizes) == 2 and sizes[0] in (N, -1) and not (x.vector or rec.pooled):
        _misfit(rec, text, sizes[1], rest[0])
    raise Unrecorded(text)


def linear(rec: Recorder, x: Any, weight: Any, bias: Any = None) -> Any:
    """Of vectors, or of all pixels flattened."""
    check_parameters(weight, bias)
    N, *features = shape_of(x)
    K, expected = weight.shape
    if not x.vector or len(features) != 1:
        raise Unrecorded("expected Flatten or a global pool before {module}")
    if features[0] != expected:
        text = f"expected {expected} features, got {features[0]}"
        if rec.steps[-1].kind == "flatten" and not rec.adaptive:
            _misfit(rec, text, expected, rec.channels)
        raise Unrecorded(text)
    return rec.step(x, "linear", (N, K), weight, bias, vector=True)


def softmax(rec: Recorder, x: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Over the classes."""
    shape = shape_of(x)
    if not x.vector or len(shape) != 2 or dim not in (1, -1) or dtype is not None:
        raise Unrecorded("expected a softmax over the classes, dim=1, got {module}")
    return rec.step(x, "softmax", shape, vector=True)


def same(rec: Recorder, x: Any, *_: Any, **__: Any) -> Any:
    """Its values are its input's: ``x.contiguous()``."""
    return x


def average(rec: Recorder, x: Any, grid: int) -> Any:
    """``x`` pooled to ``grid`` x ``grid``; which costs nothing at that very size."""
    N, C, _, _ = shape = shape_of(x)
    if rec.pooled and shape[2:] == (grid, grid):
        return x
    rec.pooled = True
    return rec.step(x, "average", (N, C, grid, grid), number=grid)


def _images(x: Any) -> tuple[int, ...]:
    shape = shape_of(x)
    if len(shape) != 4:
        raise Unrecorded(f"expected [N, C, H, W] before {{module}}, got {list(shape)}")
    return shape


def _global(rec: Recorder, x: Any, shape: tuple[int, ...]) -> Any:
    if rec.pooled:
        raise Unrecorded("expected one average pool, got {module} after another")
    rec.pooled = rec.adaptive = True
    return rec.step(x, "global", shape, vector=True)


def _flat(rec: Recorder, x: Any) -> Any:
    N, *rest = shape_of(x)
    if x.vector:
        rec.expect_last(x)
        return rec.tensor((N, math.prod(rest)), vector=True)
    C, H, W = rest
    if not rec.pooled and H == W:
        x = average(rec, x, H)
    rec.one_size = not rec.pooled
    rec.channels = C
    return rec.step(x, "flatten", (N, C * H * W), vector=True)


def _misfit(rec: Recorder, text: str, features: int, channels: int) -> None:
    """Raises where images of another size would have so many features."""
    if features >= channels and features % channels == 0:
        raise Misfit(text, features // channels, rec.pools, convolution=False)


def _pair(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(value) if len(value) == 2 else (value[0], value[0]) if value else ()
    return value, value


OPERATIONS |= {
    torch.conv2d: conv2d,
    F.batch_norm: batch_norm,
    F.relu: relu, torch.relu: relu, torch.Tensor.relu: relu,
    torch.relu_: relu, torch.Tensor.relu_: relu,
    F.dropout: dropout,
    F.max_pool2d: max_pool2d, torch.max_pool2d: max_pool2d,
    F.adaptive_avg_pool2d: adaptive_avg_pool2d,
    torch.mean: mean, torch.Tensor.mean: mean,
    torch.flatten: flatten, torch.Tensor.flatten: flatten,
    torch.Tensor.view: view, torch.Tensor.reshape: view, torch.reshape: view,
    F.linear: linear,
    F.softmax: softmax, torch.softmax: softmax, torch.Tensor.softmax: softmax,
    torch.Tensor.contiguous: same,
}  # fmt: skip

ASKED |= {
    torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel,
    *(getattr(torch.Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device")),
}  # fmt: skip
