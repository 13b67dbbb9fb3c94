"""Error bound of the CPU's Winograd convolution.

Y = A^T [(G g G^T) * (B^T d B)] A, with float32 products whose additions BLAS orders (see
``backends/winograd.py``). A transform with n non-zero terms per row has an error of at most n u
times the same transform of magnitudes. Later steps propagate errors by their magnitudes.
Barabasz, Anderson, Soodhalter & Gregg, "Error Analysis and Improving the Accuracy of Winograd
Convolution for Deep Neural Networks", ACM TOMS 46:4, 2020.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..backends.threads import run_blocks
from ..backends.winograd import FILTER_TRANSFORM, IN, INPUT_TRANSFORM, OUT, OUTPUT_TRANSFORM
from .sums import TINY, U64, U

Float64 = NDArray[np.float64]

TILES = 64  # tiles per block


def winograd_bound(x: Float64, w: Float64) -> Float64:
    """Return the error bound [H,W,K] of the convolution of x [H,W,C] with w [K,3,3,C]."""
    h, width, c = x.shape
    k = w.shape[0]
    tiles_h, tiles_w = -(-h // OUT), -(-width // OUT)
    padded = np.pad(x, ((1, tiles_h * OUT + 1 - h), (1, tiles_w * OUT + 1 - width), (0, 0)))
    windows = sliding_window_view(padded, (IN, IN), axis=(0, 1))[::OUT, ::OUT]
    u = (FILTER_TRANSFORM @ w.transpose(1, 2, 3, 0).reshape(9, c * k)).reshape(IN * IN, c, k)
    # U is rounded from float64, whose error is far below 2^-25 of |G| |g| |G^T|
    u_magnitude = np.abs(FILTER_TRANSFORM) @ np.abs(w).transpose(1, 2, 3, 0).reshape(9, c * k)
    u = np.abs(u, out=u) + u_magnitude.reshape(u.shape) * 2.0**-25
    into, out_of = INPUT_TRANSFORM.astype(np.float64), OUTPUT_TRANSFORM.astype(np.float64)
    in_terms = int(np.count_nonzero(into, axis=1).max())
    out_terms = int(np.count_nonzero(out_of, axis=1).max())
    y = np.empty((tiles_h, OUT, tiles_w, OUT, k))

    def job(rows: slice) -> None:
        # [tiles_h, tiles_w, C, 6, 6] -> [36, tiles * C]
        d = windows[rows].transpose(3, 4, 0, 1, 2).reshape(IN * IN, -1)
        v, v_magnitude = np.abs(into @ d), np.abs(into) @ np.abs(d)
        # roundings: U once, the sum over channels in any order, then the output transform
        v *= _gamma(1 + c + out_terms)
        v += v_magnitude * _gamma(in_terms) * (1 + _gamma(1 + c + out_terms))
        m = np.matmul(v.reshape(IN * IN, -1, c), u)
        part = np.abs(out_of) @ m.reshape(IN * IN, -1)
        tiles = part.reshape(OUT, OUT, -1, tiles_w, k)
        y[rows] = tiles.transpose(2, 0, 3, 1, 4)

    step = max(1, TILES // tiles_w)
    run_blocks(job, [slice(i, min(i + step, tiles_h)) for i in range(0, tiles_h, step)])
    bound = y.reshape(tiles_h * OUT, tiles_w * OUT, k)[:h, :width]
    # underflow of products and of filters
    underflow = np.abs(out_of).sum(axis=1).max() * (
        1 + np.abs(into).sum(axis=1).max() * np.abs(x).max()
    )
    return np.asarray(bound + TINY * c * underflow)


def _gamma(n: int) -> float:
    """Return Higham's gamma_n, plus as many roundings of the float64 result."""
    return n * U / (1 - n * U) + 2 * n * U64
