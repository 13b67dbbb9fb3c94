"""3x3 convolution as one GEMM over gathered 3x3 windows, for inputs with few channels."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .memory import empty, scratch
from .threads import run_blocks

Float32 = NDArray[np.float32]

BLOCK_BYTES = 2 << 20  # gathered windows and their products, to fit in a core's cache


def pack_filter(w: Float32, bias: Float32) -> Float32:
    """Return [C*9+1,K] from w [K,3,3,C] and bias [K]: a row per channel and tap, then the bias."""
    taps = w.transpose(3, 1, 2, 0).reshape(-1, w.shape[0])
    return np.concatenate([taps, bias[None]])


def conv3x3(
    x: Float32, w: Float32, *, relu: bool, pool: bool, out: Float32 | None = None
) -> Float32:
    """Convolve x [N,H,W,C] with w [C*9+1,K] of :func:`pack_filter` to [N,H,W,K], or pooled.

    Windows are gathered from planes, so that each copy is a whole row of pixels. A plane of ones
    multiplies the bias.
    """
    n, h, width, c = x.shape
    k = w.shape[1]
    stride = 2 if pool else 1
    y = empty(n, h // stride, width // stride, k) if out is None else out
    rows = max(stride, BLOCK_BYTES // (4 * width * (9 * c + k)) // stride * stride)

    def job(block: tuple[int, int]) -> None:
        image, top = block
        count = min(rows, h - top)
        padded = scratch("padded", c, count + 2, width + 2)
        padded[...] = 0
        first, last = max(top - 1, 0), min(top + count + 1, h)
        inside = padded[:, first - top + 1 : last - top + 1, 1:-1]
        inside[...] = x[image, first:last].transpose(2, 0, 1)
        columns = scratch("v", c * 9 + 1, count, width)
        columns[-1] = 1
        windows = sliding_window_view(padded, (count, width), axis=(1, 2))
        np.copyto(columns[:-1].reshape(c, 3, 3, count, width), windows)
        product = scratch("m", count, width, k) if pool else y[image, top : top + count]
        np.matmul(columns.reshape(9 * c + 1, -1).T, w, out=product.reshape(-1, k))
        if pool:
            product = maxpool2x2(product, y[image, top // 2 : (top + count) // 2])
        if relu:
            np.maximum(product, 0, out=product)

    blocks = [(image, top) for image in range(n) for top in range(0, h // stride * stride, rows)]
    run_blocks(job, blocks)
    return y


def maxpool2x2(x: Float32, out: Float32) -> Float32:
    """Write the 2x2 maxima of x [...,H,W,C] to out [...,H//2,W//2,C]."""
    h, w = out.shape[-3] * 2, out.shape[-2] * 2
    np.maximum(x[..., 0:h:2, 0:w:2, :], x[..., 0:h:2, 1:w:2, :], out=out)
    np.maximum(out, x[..., 1:h:2, 0:w:2, :], out=out)
    return np.maximum(out, x[..., 1:h:2, 1:w:2, :], out=out)
