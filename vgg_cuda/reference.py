"""Float64 reference of every operation, written to be simple rather than fast.

A convolution is the sum of nine shifted products, without transforms or fused operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .configs import Affine, Conv
from .weights import Weights

Float64 = NDArray[np.float64]


def conv3x3(
    x: ArrayLike, w: ArrayLike, bias: ArrayLike | None = None, *, relu: bool = False,
    pool: bool = False,
) -> Float64:  # fmt: skip
    """Convolve x [N,H,W,C] with w [K,3,3,C] and bias [K] to [N,H,W,K]: padding 1, stride 1."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    n, h, width, c = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((n, h, width, w.shape[0]))
    for r in range(3):
        for s in range(3):
            shifted = padded[:, r : r + h, s : s + width].reshape(-1, c)
            y += (shifted @ w[:, r, s].T).reshape(y.shape)
    if bias is not None:
        y += np.asarray(bias, np.float64)
    if relu:
        y = np.maximum(y, 0)
    return maxpool2x2(y) if pool else y


def maxpool2x2(x: ArrayLike) -> Float64:
    """Return the 2x2 maxima of x [N,H,W,C]: [N,H//2,W//2,C]."""
    x = np.asarray(x, np.float64)
    n, h, w, c = x.shape
    even = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
    return np.asarray(even.max(axis=(2, 4)))


def avgpool(x: ArrayLike, grid: int = 7) -> Float64:
    """Return means [N,grid,grid,C] of x [N,H,W,C] over floor(i*H/grid) to ceil((i+1)*H/grid)."""
    return _reduce_bins(np.mean, x, grid)


def adaptive_maxpool(x: ArrayLike, grid: int = 1) -> Float64:
    """Return maxima [N,grid,grid,C] of x [N,H,W,C], over the bins of ``avgpool``."""
    return _reduce_bins(np.max, x, grid)


def _reduce_bins(reduce: Callable[..., Any], x: ArrayLike, grid: int) -> Float64:
    x = np.asarray(x, np.float64)
    n, h, w, c = x.shape
    y = np.empty((n, grid, grid, c))
    for i in range(grid):
        for j in range(grid):
            top, bottom = int(np.floor(i * h / grid)), int(np.ceil((i + 1) * h / grid))
            left, right = int(np.floor(j * w / grid)), int(np.ceil((j + 1) * w / grid))
            y[:, i, j] = reduce(x[:, top:bottom, left:right], axis=(1, 2))
    return y


def linear(
    x: ArrayLike, w: ArrayLike, bias: ArrayLike | None = None, *, relu: bool = False
) -> Float64:
    """Return x @ w.T + bias [N,K], for x [N,C], w [K,C] and bias [K]."""
    y: Float64 = np.asarray(x, np.float64) @ np.asarray(w, np.float64).T
    if bias is not None:
        y += np.asarray(bias, np.float64)
    return np.maximum(y, 0) if relu else y


def affine(x: ArrayLike, scale: ArrayLike, shift: ArrayLike) -> Float64:
    """Return x * scale + shift, for x [N,H,W,C], scale [C] and shift [C]."""
    y = np.asarray(x, np.float64) * np.asarray(scale, np.float64) + np.asarray(shift, np.float64)
    return np.asarray(y)


def softmax(x: ArrayLike) -> Float64:
    """Return the softmax over the last axis of x [N,C]."""
    x = np.asarray(x, np.float64)
    y = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(y / y.sum(axis=1, keepdims=True))


def forward(weights: Weights, x: ArrayLike) -> dict[str, Float64]:
    """Return every canonical tap of the network for x [N,H,W,3], a call's input, by name."""
    config, tensors = weights.config, weights.tensors
    y: Any = np.asarray(x, np.float64)
    if weights.normalization is not None:
        y = weights.normalization.exactly(y)
    taps: dict[str, Float64] = {}
    for layer in config.features:
        if isinstance(layer, Conv):
            w, bias = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
            y = taps[layer.name] = conv3x3(y, w, bias)
            if layer.relu:
                y = taps[layer.relu_name] = np.maximum(y, 0)
        elif isinstance(layer, Affine):
            scale, shift = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
            y = taps[layer.name] = affine(y, scale, shift)
        else:
            y = taps[layer.name] = maxpool2x2(y)
    if config.reduces != "none":
        pool = avgpool if config.reduces == "avg" else adaptive_maxpool
        y = taps[f"{config.reduces}pool"] = pool(y, config.pool_grid)
    y = y.reshape(y.shape[0], -1)
    for dense in config.dense:
        y = linear(y, tensors[f"{dense.name}.weight"], tensors[f"{dense.name}.bias"])
        taps[dense.name] = y
        if dense.relu:
            y = taps[dense.relu_name] = np.maximum(y, 0)
    if config.num_classes is not None:
        taps["prob"] = 1 / (1 + np.exp(-y)) if weights.activation == "sigmoid" else softmax(y)
    return taps
