"""3x3 convolution as one GEMM over gathered 3x3 windows: for inputs with few channels."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .threads import cores, run_blocks, scratch

Float32 = NDArray[np.float32]

BLOCK_BYTES = 2 << 20  # of gathered windows and their products: stays in a core's cache


def pack_filter(w: Float32) -> Float32:
    """w [K,3,3,C] -> [9*C,K], the rows in the order of :func:`conv3x3`'s windows."""
    return np.ascontiguousarray(w.reshape(w.shape[0], -1).T)


def conv3x3(x: Float32, w: Float32, bias: Float32, *, relu: bool, pool: bool) -> Float32:
    """x [N,H,W,C], w [9*C,K] of :func:`pack_filter`, bias [K] -> [N,H,W,K], or pooled."""
    n, h, width, c = x.shape
    k = w.shape[1]
    stride = 2 if pool else 1
    y = np.empty((n, h // stride, width // stride, k), np.float32)
    rows = max(stride, BLOCK_BYTES // (4 * width * (9 * c + k)) // stride * stride)

    def job(block: tuple[int, int]) -> None:
        image, top = block
        count = min(rows, h - top)
        padded = scratch("padded", count + 2, width + 2, c)
        padded[...] = 0
        first, last = max(top - 1, 0), min(top + count + 1, h)
        padded[first - top + 1 : last - top + 1, 1:-1] = x[image, first:last]
        windows = sliding_window_view(padded, (3, 3), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
        columns = scratch("v", count, width, 3, 3, c)
        np.copyto(columns, windows)
        if pool:
            product = scratch("m", count, width, k)
        else:
            product = y[image, top : top + count]
        np.matmul(columns.reshape(-1, 9 * c), w, out=product.reshape(-1, k))
        if pool:
            product = _pool(product, y[image, top // 2 : (top + count) // 2])
        product += bias
        if relu:
            np.maximum(product, 0, out=product)

    blocks = [(image, top) for image in range(n) for top in range(0, h // stride * stride, rows)]
    run_blocks(job, blocks, workers=cores() > 1 and len(blocks) > 1)
    return y


def _pool(x: Float32, out: Float32) -> Float32:
    h, w = out.shape[0] * 2, out.shape[1] * 2
    np.maximum(x[0:h:2, 0:w:2], x[0:h:2, 1:w:2], out=out)
    np.maximum(out, x[1:h:2, 0:w:2], out=out)
    return np.maximum(out, x[1:h:2, 1:w:2], out=out)
