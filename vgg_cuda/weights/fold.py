"""Folding of a batch norm into the convolution before it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def fold_batch_norm(
    w: Float32,
    bias: Float32,
    gamma: Float32,
    beta: Float32,
    mean: Float32,
    variance: Float32,
    *,
    epsilon: float,
) -> tuple[Float32, Float32]:
    """Return weights and bias of the one convolution that equals convolution, then batch norm.

    w [K,...] and the rest [K]; BN(y) = gamma * (y - mean) / sqrt(variance + epsilon) + beta.
    Computed in float64, since gamma / sqrt(variance) can be large. Ioffe & Szegedy, 2015, eq. 4.
    """
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    folded = w * scale.reshape(-1, *[1] * (w.ndim - 1))
    shifted = (bias.astype(np.float64) - mean) * scale + beta
    return folded.astype(np.float32), shifted.astype(np.float32)
