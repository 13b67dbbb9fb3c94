"""How far the CPU's Winograd convolution may be from the exact one.

Y = A^T [(G g G^T) * (B^T d B)] A, each a float32 product whose additions come in an order that BLAS
chooses (see ``backends/winograd.py``). A transform with n non-zero terms a row is off by n u
of the same transform of magnitudes; errors pass through the later steps by their magnitudes.
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

TILES = 64  # at a time


def winograd_bound(x: Float64, w: Float64) -> Float64:
    """x [H,W,C], w [K,3,3,C] -> [H,W,K]."""
    h, width, c = x.shape
    k = w.shape[0]
    tiles_h, tiles_w = -(-h // OUT), -(-width // OUT)
    padded = np.pad(x, ((1, tiles_h * OUT + 1 - h), (1, tiles_w * OUT + 1 - width), (0, 0)))
    windows = sliding_window_view(padded, (IN, IN), axis=(0, 1))[::OUT, ::OUT]
    u = (FILTER_TRANSFORM @ w.transpose(1, 2, 3, 0).reshape(9, c * k)).reshape(IN * IN, c, k)
    # U comes from float64, whose own error of |G| |g| |G^T| is far less than 2^-25 U of it
    u_most = np.abs(FILTER_TRANSFORM) @ np.abs(w).transpose(1, 2, 3, 0).reshape(9, c * k)
    u = np.abs(u, out=u) + u_most.reshape(u.shape) * 2.0**-25
    into, out_of = INPUT_TRANSFORM.astype(np.float64), OUTPUT_TRANSFORM.astype(np.float64)
    in_terms = int(np.count_nonzero(into, axis=1).max())
    out_terms = int(np.count_nonzero(out_of, axis=1).max())
    y = np.empty((tiles_h, OUT, tiles_w, OUT, k))

    def job(rows: slice) -> None:
        # [tiles_h, tiles_w, C, 6, 6] -> [36, tiles * C]
        d = windows[rows].transpose(3, 4, 0, 1, 2).reshape(IN * IN, -1)
        v, v_most = np.abs(into @ d), np.abs(into) @ np.abs(d)
        # U is rounded once, the channels are added in any order, then the outputs are
        v *= _gamma(1 + c + out_terms)
        v += v_most * _gamma(in_terms) * (1 + _gamma(1 + c + out_terms))
        m = np.matmul(v.reshape(IN * IN, -1, c), u)
        part = np.abs(out_of) @ m.reshape(IN * IN, -1)
        tiles = part.reshape(OUT, OUT, -1, tiles_w, k)
        y[rows] = tiles.transpose(2, 0, 3, 1, 4)

    step = max(1, TILES // tiles_w)
    run_blocks(job, [slice(i, min(i + step, tiles_h)) for i in range(0, tiles_h, step)])
    bound = y.reshape(tiles_h * OUT, tiles_w * OUT, k)[:h, :width]
    # products that underflow, and filters that do
    most = np.abs(out_of).sum(axis=1).max() * (1 + np.abs(into).sum(axis=1).max() * np.abs(x).max())
    return np.asarray(bound + TINY * c * most)


def _gamma(n: int) -> float:
    """Higham's gamma_n, and as many roundings of the float64 that it is compared with."""
    return n * U / (1 - n * U) + 2 * n * U64
