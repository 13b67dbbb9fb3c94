"""3x3 convolution by Winograd's F(4x4, 3x3) in NumPy, fused with bias, ReLU and max-pool.

Every 6x6 input tile d gives a 4x4 output tile Y = A^T [(G g G^T) * (B^T d B)] A, with 36 products
where the direct form needs 144. Both transforms are one GEMM each with a Kronecker matrix,
kron(B^T, B^T) and kron(A^T, A^T); the product itself is 36 GEMMs over the channels. Lavin & Gray,
"Fast Algorithms for Convolutional Neural Networks", 2015, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..system.cpus import get_num_threads
from .memory import empty, scratch
from .threads import run_blocks

Float32 = NDArray[np.float32]

OUT = 4  # side of an output tile
IN = 6  # side of an input tile
BT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float64,
)
G = np.array(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float64
) / [[24]]
AT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])

INPUT_TRANSFORM = np.kron(BT, BT).astype(np.float32)  # [36, 36]
FILTER_TRANSFORM = np.kron(G, G)  # [36, 9]
OUTPUT_TRANSFORM = np.kron(AT, AT).astype(np.float32)  # [16, 36]

# Tiles per block. Each block reads all transformed filters, 4x the size of the direct ones. With
# fewer tiles this traffic outweighs the products; with more, the block leaves the cache.
BLOCK_TILES = 256
MIN_TILES = 96


def transform_filter(w: Float32) -> Float32:
    """Transform w [K,3,3,C] to the Winograd domain [36,C,K], in float64."""
    k, _, _, c = w.shape
    taps = w.transpose(1, 2, 3, 0).reshape(9, c * k)
    u = np.empty((IN * IN, c * k), np.float32)
    step = max(1, (1 << 20) // 9)
    for start in range(0, c * k, step):  # in parts, to bound the float64 copies
        u[:, start : start + step] = FILTER_TRANSFORM @ taps[:, start : start + step]
    return u.reshape(IN * IN, c, k)


@dataclass(frozen=True)
class Block:
    """Work of one task: images, their rows of tiles, and output channels."""

    images: slice
    rows: slice
    channels: slice


def plan_blocks(n: int, tiles_h: int, tiles_w: int, k: int, workers: int) -> list[Block]:
    """Return blocks that cover every tile and channel once, spread evenly over ``workers``.

    A block is some rows of tiles of an image, or some whole images. If there are too few tiles for
    all workers, each block has all tiles and a part of the output channels instead: the workers
    repeat the input transform, but each reads only a part of the filters.
    """
    per_image = tiles_h * tiles_w
    if n * per_image < workers * MIN_TILES and k >= 32 * workers:
        step = -(-k // workers)
        parts = [slice(i, min(i + step, k)) for i in range(0, k, step)]
        return [Block(slice(0, n), slice(0, tiles_h), part) for part in parts] if n else []
    whole = slice(0, k)
    if per_image > BLOCK_TILES or 0 < n < workers:
        rows = _share(tiles_h, max(1, BLOCK_TILES // tiles_w), -(-workers // max(n, 1)))
        return [
            Block(slice(i, i + 1), slice(row, min(row + rows, tiles_h)), whole)
            for i in range(n)
            for row in range(0, tiles_h, rows)
        ]
    images = _share(max(n, 1), max(1, BLOCK_TILES // per_image), workers)
    return [
        Block(slice(i, min(i + images, n)), slice(0, tiles_h), whole) for i in range(0, n, images)
    ]


def _share(total: int, target: int, workers: int) -> int:
    """Return a share of ``total`` near ``target``, for an equal number of shares per worker."""
    shares = max(workers, -(-round(total / target) // workers) * workers)
    return -(-total // shares)


def conv3x3(
    x: Float32, u: Float32, bias: Float32, *, relu: bool, pool: bool, out: Float32 | None = None
) -> Float32:
    """Convolve x [N,H,W,C] with u [36,C,K] of :func:`transform_filter`, to [N,H,W,K] or pooled."""
    n, h, w, c = x.shape
    k = u.shape[2]
    tiles_h, tiles_w = -(-h // OUT), -(-w // OUT)
    if out is None:
        out = empty(n, h // 2, w // 2, k) if pool else empty(n, h, w, k)
    y = out

    def job(block: Block) -> None:
        d = _input_tiles(x, block, tiles_w)
        _, _, images, rows, _, _ = d.shape
        tiles, filters = images * rows * tiles_w, u[:, :, block.channels]
        v = scratch("v", IN * IN, tiles * c)
        np.matmul(INPUT_TRANSFORM, d.reshape(IN * IN, tiles * c), out=v)
        m = scratch("m", IN * IN, tiles, filters.shape[2])
        np.matmul(v.reshape(IN * IN, tiles, c), filters, out=m)
        product = scratch("d", OUT * OUT, tiles * filters.shape[2])
        np.matmul(OUTPUT_TRANSFORM, m.reshape(IN * IN, -1), out=product)
        tile = product.reshape(OUT, OUT, images, rows, tiles_w, -1)
        _store(tile, bias[block.channels], relu, pool, y, block)

    run_blocks(job, plan_blocks(n, tiles_h, tiles_w, k, get_num_threads()))
    return y


def _input_tiles(x: Float32, block: Block, tiles_w: int) -> Float32:
    """Return the block's 6x6 tiles, zero outside the image: [6, 6, images, rows, tiles_w, C]."""
    _, h, w, c = x.shape
    images, rows = block.images.stop - block.images.start, block.rows.stop - block.rows.start
    height = rows * OUT + 2
    padded = scratch("padded", images, height, tiles_w * OUT + 2, c)
    top = block.rows.start * OUT - 1  # image row of padded row 0
    first, last = max(top, 0), min(top + height, h)
    padded[:, : first - top] = 0
    padded[:, last - top :] = 0
    inside = padded[:, first - top : last - top]
    inside[:, :, 0] = 0
    inside[:, :, w + 1 :] = 0
    inside[:, :, 1 : w + 1] = x[block.images, first:last]
    windows = sliding_window_view(padded, (IN, IN), axis=(1, 2))[:, ::OUT, ::OUT]
    d = scratch("d", IN, IN, images, rows, tiles_w, c)
    np.copyto(d, windows.transpose(4, 5, 0, 1, 2, 3))
    return d


def _store(tile: Float32, bias: Float32, relu: bool, pool: bool, y: Float32, block: Block) -> None:
    """Pool a block's tiles [4,4,images,rows,tiles_w,K], add bias, apply ReLU, and store to y.

    max(ReLU(t + b)) = ReLU(max(t) + b), so pooling first leaves a quarter of the other work.
    """
    if pool:
        halves = np.maximum(tile[0::2], tile[1::2], out=tile[0::2])
        tile = np.maximum(halves[:, 0::2], halves[:, 1::2], out=halves[:, 0::2])
    tile += bias
    if relu:
        np.maximum(tile, 0, out=tile)
    side, _, images, rows, tiles_w, k = tile.shape
    by_row = tile.transpose(2, 3, 0, 4, 1, 5)  # [images, rows, side, tiles_w, side, K]
    height, width, top = rows * side, tiles_w * side, block.rows.start * side
    target = y[block.images, top : top + height]
    if target.shape[1:3] == (height, width):
        target.reshape(images, rows, side, tiles_w, side, -1)[..., block.channels] = by_row
        return
    whole = scratch("v", images, height, width, k)
    whole.reshape(by_row.shape)[...] = by_row
    target[..., block.channels] = whole[:, : target.shape[1], : target.shape[2]]
