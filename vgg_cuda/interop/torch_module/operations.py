"""PyTorch's operations in a VGG's forward, each recorded as steps of a ``Recorder``.

The functions have PyTorch's signatures, so that :mod:`..torch_compile.match` reads the calls of a
graph by the same table, ``OPERATIONS``. Pools are in :mod:`.pools`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from ...weights.chain.layers import (
    BatchNorm,
    Conv3x3,
    Flatten,
    Linear,
    LogSoftmax,
    Relu,
    Sigmoid,
    Softmax,
)
from .pools import average, images, pair
from .recording import OPERATIONS, QUERIES, Recorder, shape_of
from .records import Unrecorded

CONV = "expected a 3x3 convolution of stride 1, padding 1, dilation 1 and one group, got {module}"


def is_conv3x3(window: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> bool:
    """Return whether a convolution is 3x3 with stride 1 and padding 1."""
    padding = 1 if padding == "same" else padding
    given = tuple(window), pair(stride), pair(padding), pair(dilation), groups
    return given == ((3, 3), (1, 1), (1, 1), (1, 1), 1)


def conv2d(
    rec: Recorder, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Any:  # fmt: skip
    """Record a 3x3 convolution, or one as large as its input: a dense layer, timm's head."""
    N, C, H, W = images(x)
    _check_parameters(weight, bias)
    K, channels, R, S = weight.shape
    if groups == 1 and channels != C:
        raise Unrecorded(f"expected {channels} channels, got {C}")
    if is_conv3x3((R, S), stride, padding, dilation, groups) and not x.vector:
        return rec.step(x, conv3x3_of, (N, K, H, W), weight, bias)
    unpadded = padding == "valid" or pair(padding) == (0, 0) or (padding == "same" and R == 1)
    plain = R == S and groups == 1 and pair(dilation) == (1, 1)
    if unpadded and plain and (x.vector or rec.pools):
        if not x.vector and (H, W) == (R, R):
            x = rec.step(average(rec, x, R), Flatten, (N, C, R, R), options=("CHW",), vector=True)
        if (H, W) == (R, R):
            return rec.step(x, linear_of, (N, K, 1, 1), weight, bias, vector=True)
        if R > 1 and not rec.pooled:
            raise rec.misfit(f"{CONV} on {H} x {W} pixels", R * R, convolution=True)
    raise Unrecorded(CONV)


def batch_norm(
    rec: Recorder, x: Any, running_mean: Any, running_var: Any, weight: Any = None,
    bias: Any = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    """Record a batch norm by running statistics.

    PyTorch updates them without a new version; the version of ``num_batches_tracked`` changes.
    """
    if training or running_mean is None or running_var is None:
        raise Unrecorded("expected batch norms that use running statistics, got {module}")
    _check_parameters(weight, bias)
    counter = rec.counter(running_mean)
    if counter is None:
        raise Unrecorded("expected batch norms with num_batches_tracked, got {module}")
    norm = weight, bias, running_mean, running_var, counter
    return rec.step(x, batch_norm_of, shape_of(x), *norm, options=(eps,), vector=x.vector)


def relu(rec: Recorder, x: Any, inplace: bool = False) -> Any:
    """Record a ReLU."""
    made = rec.step(x, Relu, shape_of(x), vector=x.vector)
    return rec.overwrite(x, made) if inplace else made


def relu_(rec: Recorder, x: Any) -> Any:
    """Record a ReLU in place."""
    return relu(rec, x, inplace=True)


def dropout(
    rec: Recorder, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Any:
    """Return x: dropout does nothing in inference."""
    if training:
        raise Unrecorded("expected dropout that does nothing in eval(), got {module}")
    return x


def flatten(rec: Recorder, x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Record a flattening of all dimensions but the batch."""
    rank = len(shape_of(x))
    if (start_dim % rank, end_dim % rank) != (1, rank - 1):
        raise Unrecorded("expected all dimensions but the batch flattened, got {module}")
    return _flat(rec, x)


def view(rec: Recorder, x: Any, *shape: Any) -> Any:
    """Record a flattening spelled as ``x.view(x.size(0), -1)``."""
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    N, *rest = shape_of(x)
    features = math.prod(rest)
    if tuple(sizes) in ((N, features), (N, -1), (-1, features)):
        return _flat(rec, x)
    text = f"expected all dimensions but the batch flattened, got {[*sizes]}"
    if len(sizes) == 2 and sizes[0] in (N, -1) and not (x.vector or rec.pooled):
        raise _misfit(rec, text, sizes[1], rest[0])
    raise Unrecorded(text)


def linear(rec: Recorder, x: Any, weight: Any, bias: Any = None) -> Any:
    """Record a dense layer of vectors, or of all pixels flattened."""
    _check_parameters(weight, bias)
    N, *features = shape_of(x)
    K, expected = weight.shape
    if not x.vector or len(features) != 1:
        raise Unrecorded("expected Flatten or a global pool before {module}")
    if features[0] != expected:
        text = f"expected {expected} features, got {features[0]}"
        if rec.steps[-1].make is Flatten and not rec.adaptive:
            raise _misfit(rec, text, expected, rec.channels)
        raise Unrecorded(text)
    return rec.step(x, linear_of, (N, K), weight, bias, vector=True)


def softmax(rec: Recorder, x: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Record a softmax over the classes."""
    shape = shape_of(x)
    if not x.vector or len(shape) != 2 or dim not in (1, -1) or dtype is not None:
        raise Unrecorded("expected a softmax over the classes, dim=1, got {module}")
    return rec.step(x, Softmax, shape, vector=True)


def log_softmax(
    rec: Recorder, x: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None
) -> Any:
    """Record the logarithm of a softmax over the classes."""
    shape = shape_of(x)
    if not x.vector or len(shape) != 2 or dim not in (1, -1) or dtype is not None:
        raise Unrecorded("expected a softmax over the classes, dim=1, got {module}")
    return rec.step(x, LogSoftmax, shape, vector=True)


def sigmoid(rec: Recorder, x: Any) -> Any:
    """Record a sigmoid of the classes."""
    return rec.step(x, Sigmoid, shape_of(x), vector=x.vector)


def contiguous(rec: Recorder, x: Any, *_: Any, **__: Any) -> Any:
    """Return a tensor with x's values, which may be x's memory."""
    return rec.alias(x)


def detach(rec: Recorder, x: Any) -> Any:
    """Return x without its gradient's history, in the same memory."""
    return rec.alias(x, same=True)


def conv3x3_of(name: str, w: Any, bias: Any) -> Conv3x3:
    """Return the record of a convolution with filters [K,C,3,3]."""
    return Conv3x3(name, w.transpose(0, 2, 3, 1), bias)


def linear_of(name: str, w: Any, bias: Any) -> Linear:
    """Return the record of a dense layer with weights [K,C] or [K,C,R,R]."""
    return Linear(name, w.reshape(w.shape[0], -1), bias)


def batch_norm_of(name: str, *arrays: Any) -> BatchNorm:
    """Return the record of a batch norm: gamma, beta, mean, variance, counter, epsilon."""
    gamma, beta, mean, variance, _, epsilon = arrays
    return BatchNorm(name, gamma, beta, mean, variance, epsilon)


def _check_parameters(*tensors: Any) -> None:
    """Raise for tensors that are not plain parameters, such as weights computed in every call."""
    for tensor in tensors:
        if tensor is not None and type(tensor) is not torch.nn.Parameter:
            found = type(tensor).__name__
            raise Unrecorded(f"expected plain parameters, got a {found} in {{module}}")


def _flat(rec: Recorder, x: Any) -> Any:
    N, *rest = shape_of(x)
    if x.vector:
        rec.expect_last(x)
        made = rec.tensor((N, math.prod(rest)), vector=True)
        made.memory = x.memory
        return made
    C, H, W = rest
    memory = x.memory
    if not rec.pooled and H == W:
        x = average(rec, x, H)
    rec.one_size = not rec.pooled
    rec.channels = C
    made = rec.step(x, Flatten, (N, C * H * W), options=("CHW",), vector=True)
    made.memory = memory
    return made


def _misfit(rec: Recorder, text: str, features: int, channels: int) -> Unrecorded:
    """Return an error, with the number of pixels if images of another size have ``features``."""
    whole = features >= channels and features % channels == 0
    return rec.misfit(text, features // channels) if whole else Unrecorded(text)


_aten = torch.ops.aten

OPERATIONS |= {
    torch.conv2d: conv2d, _aten.conv2d.default: conv2d, _aten.conv2d.padding: conv2d,
    F.batch_norm: batch_norm,
    F.relu: relu, torch.relu: relu, torch.Tensor.relu: relu, _aten.relu.default: relu,
    torch.relu_: relu_, torch.Tensor.relu_: relu_, _aten.relu_.default: relu_,
    F.dropout: dropout, F.dropout1d: dropout, F.dropout2d: dropout, F.dropout3d: dropout,
    F.alpha_dropout: dropout, F.feature_alpha_dropout: dropout,
    torch.flatten: flatten, torch.Tensor.flatten: flatten,
    torch.Tensor.view: view, torch.Tensor.reshape: view, torch.reshape: view,
    F.linear: linear, _aten.linear.default: linear,
    F.softmax: softmax, torch.softmax: softmax, torch.Tensor.softmax: softmax,
    F.log_softmax: log_softmax, torch.log_softmax: log_softmax,
    torch.Tensor.log_softmax: log_softmax,
    F.sigmoid: sigmoid, torch.sigmoid: sigmoid, torch.Tensor.sigmoid: sigmoid,
    torch.Tensor.contiguous: contiguous,
    torch.detach: detach, torch.Tensor.detach: detach,
}  # fmt: skip

QUERIES |= {
    torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel,
    *(getattr(torch.Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device")),
}  # fmt: skip
