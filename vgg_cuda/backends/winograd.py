"""3x3 convolution by Winograd's F(4x4, 3x3) in NumPy, with bias, ReLU and max-pool fused.

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

from .threads import cores, run_blocks, scratch

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

# Bytes of transformed data a block may hold: larger blocks feed BLAS's own threads, smaller ones
# stay in the cache of the one core that works on them.
BLOCK_BYTES_BLAS = 12 << 20
BLOCK_BYTES_WORKER = 4 << 20


def transform_filter(w: Float32) -> Float32:
    """w [K,3,3,C] -> [36,C,K], the filters in the Winograd domain; computed in float64."""
    k, _, _, c = w.shape
    taps = w.transpose(1, 2, 3, 0).reshape(9, c * k)
    u = np.empty((IN * IN, c * k), np.float32)
    step = max(1, (1 << 20) // 9)
    for start in range(0, c * k, step):  # float64 copies of a part at a time
        u[:, start : start + step] = FILTER_TRANSFORM @ taps[:, start : start + step]
    return u.reshape(IN * IN, c, k)


@dataclass(frozen=True)
class Block:
    """Images ``image`` … ``image + images`` and their tile rows ``row`` … ``row + rows``."""

    image: int
    images: int
    row: int
    rows: int


def plan_blocks(n: int, tiles_h: int, tile_row_bytes: int, budget: int) -> list[Block]:
    """Blocks of at most ``budget`` bytes: some rows of an image, or several whole images."""
    rows = max(1, min(tiles_h, budget // tile_row_bytes))
    images = max(1, min(n, budget // (tile_row_bytes * tiles_h))) if rows == tiles_h else 1
    return [
        Block(image, min(images, n - image), row, min(rows, tiles_h - row))
        for image in range(0, n, images)
        for row in range(0, tiles_h, rows)
    ]


def conv3x3(x: Float32, u: Float32, bias: Float32, *, relu: bool, pool: bool) -> Float32:
    """x [N,H,W,C], u [36,C,K] of :func:`transform_filter`, bias [K] -> [N,H,W,K], or pooled."""
    n, h, w, c = x.shape
    k = u.shape[2]
    tiles_h, tiles_w = -(-h // OUT), -(-w // OUT)
    y = np.empty((n, h // 2, w // 2, k) if pool else (n, h, w, k), np.float32)
    tile_row_bytes = 4 * IN * IN * tiles_w * (c + k)
    workers = cores() > 1 and n > 1
    budget = BLOCK_BYTES_WORKER if workers else BLOCK_BYTES_BLAS
    blocks = plan_blocks(n, tiles_h, tile_row_bytes, budget)

    def job(block: Block) -> None:
        tiles = block.images * block.rows * tiles_w
        d = _input_tiles(x, block, tiles_w)
        v = scratch("v", IN * IN, tiles * c)
        np.matmul(INPUT_TRANSFORM, d.reshape(IN * IN, tiles * c), out=v)
        m = scratch("m", IN * IN, tiles, k)
        np.matmul(v.reshape(IN * IN, tiles, c), u, out=m)
        out = scratch("d", OUT * OUT, tiles * k)
        np.matmul(OUTPUT_TRANSFORM, m.reshape(IN * IN, tiles * k), out=out)
        _store(out.reshape(OUT, OUT, block.images, block.rows, tiles_w, k), bias, relu, pool, y, block)

    run_blocks(job, blocks, workers=workers and len(blocks) > 1)
    return y


def _input_tiles(x: Float32, block: Block, tiles_w: int) -> Float32:
    """The block's 6x6 tiles, zero outside the image: [6, 6, images, rows, tiles_w, C]."""
    _, h, w, c = x.shape
    height = block.rows * OUT + 2
    padded = scratch("padded", block.images, height, tiles_w * OUT + 2, c)
    top = block.row * OUT - 1  # the image row that padded row 0 is
    first, last = max(top, 0), min(top + height, h)
    padded[:, : first - top] = 0
    padded[:, last - top :] = 0
    inside = padded[:, first - top : last - top]
    inside[:, :, 0] = 0
    inside[:, :, w + 1 :] = 0
    inside[:, :, 1 : w + 1] = x[block.image : block.image + block.images, first:last]
    windows = sliding_window_view(padded, (IN, IN), axis=(1, 2))[:, ::OUT, ::OUT]
    d = scratch("d", IN, IN, block.images, block.rows, tiles_w, c)
    np.copyto(d, windows.transpose(4, 5, 0, 1, 2, 3))
    return d


def _store(
    tile: Float32, bias: Float32, relu: bool, pool: bool, y: Float32, block: Block
) -> None:
    """Pool, bias and ReLU of a block's tiles [4,4,images,rows,tiles_w,K], then their place in y.

    max(ReLU(t + b)) = ReLU(max(t) + b), so the pool comes first and the rest is a quarter as much.
    """
    if pool:
        halves = np.maximum(tile[0::2], tile[1::2], out=tile[0::2])
        tile = np.maximum(halves[:, 0::2], halves[:, 1::2], out=halves[:, 0::2])
    tile += bias
    if relu:
        np.maximum(tile, 0, out=tile)
    side, _, images, rows, tiles_w, k = tile.shape
    by_row = tile.transpose(2, 3, 0, 4, 1, 5)  # [images, rows, side, tiles_w, side, K]
    top = block.row * side
    place = y[block.image : block.image + images, top : top + rows * side]
    height, width = rows * side, tiles_w * side
    if place.shape[1:3] == (height, width):
        place.reshape(by_row.shape)[...] = by_row
        return
    whole = scratch("v", images, height, width, k)
    whole.reshape(by_row.shape)[...] = by_row
    place[...] = whole[:, : place.shape[1], : place.shape[2]]
