"""The operations of a VGG, one signature each, on the device where x lives.

x is a NumPy or CuPy array, or one of another library that shares its memory through DLPack; the
result is of the same kind, dtype and device. Layouts are NHWC and KRSC. All work on a GPU is
enqueued on CuPy's current stream and not waited for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import as_float32, describe, require_float, unwrap
from .backends import Array, Backend, PackedConv3x3, PackedLinear, of_array


def conv3x3(x: Any, w: Any, bias: Any = None, *, relu: bool = False, pool: bool = False) -> Array:
    """3x3 convolution, stride 1, padding 1, + bias, then ReLU and a 2x2 max-pool on request.

    x [N,H,W,C] with N >= 0 and H, W, C >= 1; w [K,3,3,C] (KRSC) and bias [K] in host memory, or w
    as ``pack_conv3x3`` of x's backend returned it (then no bias). Returns [N,H,W,K], or
    [N,H//2,W//2,K] with ``pool``.

    Raises ``ValueError`` for shapes that do not fit, ``TypeError`` for dtypes and array kinds.
    """
    x, backend, restore = _input(x, "conv3x3", rank=4)
    if hasattr(w, "in_channels"):
        packed: PackedConv3x3 = w
        _no_bias(bias, "conv3x3")
        if x.shape[3] != packed.in_channels:
            raise ValueError(
                f"conv3x3: x: expected [N, H, W, {packed.in_channels}] (NHWC), got {x.shape}"
            )
    else:
        packed = pack_conv3x3(backend, w, bias, in_channels=x.shape[3], dtype=x.dtype)
    _at_least(x, "conv3x3", 2 if pool else 1)
    return restore(backend.conv3x3(x, packed, relu=relu, pool=pool))


def maxpool2x2(x: Any) -> Array:
    """2x2 max-pool, stride 2; an odd last row or column is dropped; NaN propagates.

    x [N,H,W,C] with H, W >= 2. Returns [N,H//2,W//2,C]. Raises as :func:`conv3x3`.
    """
    x, backend, restore = _input(x, "maxpool2x2", rank=4)
    _at_least(x, "maxpool2x2", 2)
    return restore(backend.maxpool2x2(x))


def avgpool(x: Any, grid: int = 7) -> Array:
    """Adaptive average pool to ``grid`` x ``grid``, with PyTorch's bins.

    Bin i of an axis of length H covers floor(i*H/grid) up to ceil((i+1)*H/grid).
    x [N,H,W,C] with H, W >= 1. Returns [N,grid,grid,C]. Raises as :func:`conv3x3`.
    """
    x, backend, restore = _input(x, "avgpool", rank=4)
    _at_least(x, "avgpool", 1)
    if grid < 1:
        raise ValueError(f"avgpool: grid: expected an integer >= 1, got {grid}")
    return restore(backend.avgpool(x, grid))


def linear(x: Any, w: Any, bias: Any = None, *, relu: bool = False) -> Array:
    """Dense layer, x @ w.T + bias, then ReLU on request.

    x [N,C]; w [K,C] and bias [K] in host memory, or w as ``pack_linear`` of x's backend returned
    it (then no bias). Returns [N,K]. Raises as :func:`conv3x3`.
    """
    x, backend, restore = _input(x, "linear", rank=2)
    if hasattr(w, "in_features"):
        packed: PackedLinear = w
        _no_bias(bias, "linear")
        if x.shape[1] != packed.in_features:
            raise ValueError(f"linear: x: expected [N, {packed.in_features}], got {x.shape}")
    else:
        packed = pack_linear(backend, w, bias, in_features=x.shape[1], dtype=x.dtype)
    return restore(backend.linear(x, packed, relu=relu))


def relu(x: Any) -> Array:
    """max(x, 0) of x [N,H,W,C] or [N,C]; NaN propagates. Raises as :func:`conv3x3`."""
    x, backend, restore = _input(x, "relu", rank=None)
    return restore(backend.relu(x))


def softmax(x: Any) -> Array:
    """exp(x - max(x)) / sum(exp(x - max(x))) over the last axis.

    x [N,C] with C >= 1. Returns [N,C]. Raises as :func:`conv3x3`.
    """
    x, backend, restore = _input(x, "softmax", rank=2)
    if x.shape[1] < 1:
        raise ValueError(f"softmax: x: expected [N, C] with C >= 1, got {x.shape}")
    return restore(backend.softmax(x))


def pack_conv3x3(
    backend: Backend, w: Any, bias: Any, *, in_channels: int | None = None, dtype: Any = None
) -> PackedConv3x3:
    """w [K,3,3,C] (KRSC) and bias [K] (None: zeros), checked and laid out for ``backend``."""
    w = as_float32(w, "conv3x3: w")
    expected = (w.shape[0] if w.ndim else 0, 3, 3, in_channels or (w.shape[-1] if w.ndim else 0))
    if w.shape != expected or 0 in w.shape:
        shown = ", ".join(str(n) if n else "K" for n in expected)
        raise ValueError(f"conv3x3: w: expected [{shown}] (KRSC), got {w.shape}")
    return backend.pack_conv3x3(w, _bias(bias, w.shape[0], "conv3x3"), _dtype(backend, dtype))


def pack_linear(
    backend: Backend, w: Any, bias: Any, *, in_features: int | None = None, dtype: Any = None
) -> PackedLinear:
    """w [K,C] and bias [K] (None: zeros), checked and laid out for ``backend``."""
    w = as_float32(w, "linear: w")
    expected_c = in_features if in_features is not None else w.shape[-1] if w.ndim else 0
    if w.ndim != 2 or w.shape[1] != expected_c or 0 in w.shape:
        raise ValueError(f"linear: w: expected [K, {expected_c}], got {w.shape}")
    return backend.pack_linear(w, _bias(bias, w.shape[0], "linear"), _dtype(backend, dtype))


def _input(x: Any, op: str, rank: int | None) -> tuple[Array, Backend, Any]:
    array, restore = unwrap(x, f"{op}: x")
    require_float(array, f"{op}: x")
    if rank is not None and array.ndim != rank:
        shape = "[N, H, W, C]" if rank == 4 else "[N, C]"
        raise ValueError(f"{op}: x: expected rank {rank}, {shape}, got {describe(x)}")
    backend = of_array(array)
    if array.dtype.name not in backend.dtypes:
        raise TypeError(
            f"{op}: x: expected dtype {' or '.join(backend.dtypes)} on {backend.device}, "
            f"got {array.dtype}"
        )
    return backend.asarray(array, array.dtype), backend, restore


def _at_least(x: Array, op: str, size: int) -> None:
    if min(x.shape[1:3]) < size or x.shape[3] < 1:
        raise ValueError(
            f"{op}: x: expected [N, H, W, C] with H, W >= {size} and C >= 1, got {x.shape}"
        )


def _no_bias(bias: Any, op: str) -> None:
    if bias is not None:
        raise ValueError(f"{op}: bias: expected None beside packed weights, which hold theirs")


def _bias(bias: Any, k: int, op: str) -> Any:
    if bias is None:
        return np.zeros(k, np.float32)
    bias = as_float32(bias, f"{op}: bias")
    if bias.shape != (k,):
        raise ValueError(f"{op}: bias: expected [{k}], got {bias.shape}")
    return bias


def _dtype(backend: Backend, dtype: Any) -> Any:
    return backend.dtypes[0] if dtype is None else dtype
