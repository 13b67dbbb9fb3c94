"""Folding of batch norms and other per-channel scales into the layer before or behind them.

Computed in float64, since gamma / sqrt(variance) can be large. Overflow gives infinities, which
callers refuse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]


def batch_norm_affine(
    gamma: Array, beta: Array, mean: Array, variance: Array, *, epsilon: float
) -> tuple[Float64, Float64]:
    """Return scale and shift [K] of gamma * (y - mean) / sqrt(variance + epsilon) + beta.

    Ioffe & Szegedy, 2015, eq. 4.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        return scale, beta.astype(np.float64) - mean.astype(np.float64) * scale


def fold_outputs(
    w: Float32, bias: Float32, scale: Float64, shift: Float64
) -> tuple[Float32, Float32]:
    """Return weights and bias of the layer that equals scale * (w @ x + bias) + shift.

    w is [K,...], the rest [K].
    """
    with np.errstate(over="ignore", invalid="ignore"):
        folded = w * scale.reshape(-1, *[1] * (w.ndim - 1))
        return folded.astype(np.float32), (bias * scale + shift).astype(np.float32)


def fold_inputs(
    w: Float32, bias: Float32, scale: Float64, shift: Float64
) -> tuple[Float32, Float32]:
    """Return weights and bias of the layer that equals w @ (scale * x + shift) + bias.

    w is [K,C], bias [K], scale and shift [C].
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return (w * scale).astype(np.float32), (bias + w @ shift).astype(np.float32)


def fold_batch_norm(
    w: Float32, bias: Float32, gamma: Array, beta: Array, mean: Array, variance: Array, *,
    epsilon: float,
) -> tuple[Float32, Float32]:  # fmt: skip
    """Return weights and bias of the layer that equals the layer, then a batch norm."""
    affine = batch_norm_affine(gamma, beta, mean, variance, epsilon=epsilon)
    return fold_outputs(w, bias, *affine)
