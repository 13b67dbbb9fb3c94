"""PyTorch's operations that a VGG's forward consists of, each as steps of a ``Recorder``.

They have PyTorch's signatures. What means another operation raises ``Unrecorded``. Pools are in
:mod:`.pools`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from .pools import average, images, pair
from .recording import ASKED, OPERATIONS, Misfit, Recorder, Unrecorded, check_parameters, shape_of

CONV = "expected a 3x3 convolution of stride 1, padding 1, dilation 1 and one group, got {module}"


def conv2d(
    rec: Recorder, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Any:  # fmt: skip
    """3x3 "same"; or unpadded and as large as its input, a dense layer: timm's head."""
    N, C, H, W = images(x)
    check_parameters(weight, bias)
    K, channels, R, S = weight.shape
    if groups != 1 or pair(dilation) != (1, 1):
        raise Unrecorded(CONV)
    if channels != C:
        raise Unrecorded(f"expected {channels} channels, got {C}")
    padding = {"same": (R // 2, S // 2), "valid": (0, 0)}.get(padding, padding)
    if pair(padding) == (0, 0) and R == S and (x.vector or rec.pools):
        if not x.vector and (H, W) == (R, R):
            x = rec.step(average(rec, x, R), "flatten", (N, C, R, R), vector=True)
        if (H, W) == (R, R):
            return rec.step(x, "linear", (N, K, 1, 1), weight, bias, vector=True)
        if R > 1 and not rec.pooled:
            text = f"{CONV} on {H} x {W} pixels"
            raise Misfit(text, R * R, rec.pools, convolution=True)
    if (R, S) != (3, 3) or pair(stride) != (1, 1) or pair(padding) != (1, 1) or x.vector:
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


OPERATIONS |= {
    torch.conv2d: conv2d,
    F.batch_norm: batch_norm,
    F.relu: relu, torch.relu: relu, torch.Tensor.relu: relu,
    torch.relu_: relu, torch.Tensor.relu_: relu,
    F.dropout: dropout, F.dropout1d: dropout, F.dropout2d: dropout, F.dropout3d: dropout,
    F.alpha_dropout: dropout, F.feature_alpha_dropout: dropout,
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
