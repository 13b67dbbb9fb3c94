"""Error bounds of float32 sums of products, from their partial sums.

Wilkinson's running error analysis: every addition has an error of at most u times its result. The
error of a sum is therefore at most u times the sum of the magnitudes of all partial sums. They are
computed here in float64, in the order of the plan's tiling. This bound is far sharper than
n u |x| |w|: partial sums grow like a random walk, whereas |x| |w| grows linearly. Higham, "Accuracy
and Stability of Numerical Algorithms", 2002, section 3.3.

Partial sums are computed every ``MMA_K`` products: c before these products and d after. In any
order of additions between them, every partial sum and every product is at most (|c| + |d| + s) / 2,
with s the sum of the products' magnitudes. Roundings between them:

- CUDA cores: one rounding to nearest per product, u = 2^-24.
- Tensor cores: products are exact. Four or more of them and the accumulator are aligned to the
  largest and truncated. Each truncation, and that of the result, loses less than 2u of the largest:
  16 + 16/4 truncations in total. Fasi, Higham, Mikaitis & Pranesh, "Numerical behavior of NVIDIA
  tensor cores", PeerJ Computer Science 7:e330, 2021. The worst case is V100, which adds four
  products at a time and keeps no bit after the 24th; later GPUs add more and keep one or two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

U = 2.0**-24  # unit roundoff of float32
U64 = 2.0**-53
TINY = 2.0**-149  # smallest float32
MMA_K = 16


@dataclass(frozen=True)
class Order:
    """The order of additions: ``split`` columns per split, ``chain`` columns per partial sum.

    ``cost`` is the error of MMA_K additions, in units of U times their largest result.
    """

    split: int
    chain: int
    cost: int

    @classmethod
    def of_tiling(cls, tiling: dict[str, Any], tensor_cores: bool) -> Order:
        """Return the order of a plan; ``tiling`` is ``Plan.as_dict()["tiling"]``."""
        gemm_k = tiling["gemm_k"]
        columns = tiling["steps"] * tiling["block_k"] if tiling["split_k"] > 1 else gemm_k
        cost = 2 * (MMA_K + MMA_K // 4) if tensor_cores else MMA_K
        return cls(columns, tiling["partial_sum"] or columns, cost)


def walked(tiling: dict[str, Any]) -> NDArray[np.intp] | slice:
    """Return the order in which a convolution adds its columns (r, s, c), as an index."""
    if tiling["walk"] == "rsc":
        return slice(None)
    columns = np.arange(tiling["gemm_k"]).reshape(3, 3, -1, tiling["block_k"])
    return np.asarray(columns.transpose(2, 1, 0, 3).ravel())


def any_order(magnitude: Float64, roundings: int) -> Float64:
    """Return the error bound of sums whose order is unknown, such as BLAS's.

    ``magnitude`` is |x| |w|. Higham, section 3.1: n u / (1 - n u).
    """
    relative = roundings * U / (1 - roundings * U)
    return magnitude * (relative + 2 * roundings * U64) + 2 * roundings * TINY


def of_moved(moved: Float64, gemm_k: int, order: Order) -> Float64:
    """Return the additional error bound of sums whose products are perturbed.

    ``moved`` bounds the change of every partial sum by all perturbations together.
    """
    assert order.split == order.chain == gemm_k
    partial_sums = -(-gemm_k // MMA_K)
    roundings = order.cost * partial_sums
    # over all steps, (|c| + |d| + s) / 2 grows by `moved`, and by half of it for the products
    grown = order.cost * (partial_sums + 0.5) * U / (1 - roundings * U)
    return np.asarray(moved * (1 + grown + 4 * gemm_k * U64) + 2 * gemm_k * TINY)


def in_order(a: Float64, w: Float64, order: Order) -> Float64:
    """Return the error bound [M,N] of the product of a [M,GEMM_K] and w [GEMM_K,N]."""
    gemm_k = len(w)
    shape = a.shape[0], w.shape[1]
    product, partial, running = np.empty(shape), np.empty(shape), np.zeros(shape)
    whole, of_split, added = np.zeros(shape), np.empty(shape), np.zeros(shape)
    roundings = 0
    for start in range(0, gemm_k, order.split):
        end = min(start + order.split, gemm_k)
        of_split[...] = 0
        for first in range(start, end, order.chain):
            last = min(first + order.chain, end)
            partial[...] = 0
            for k in range(first, last, MMA_K):
                columns = slice(k, min(k + MMA_K, last))
                partial += np.matmul(a[:, columns], w[columns], out=product)
                running += np.abs(partial, out=product)
                roundings += order.cost
            running -= np.multiply(product, 0.5, out=product)  # (|c| + |d|) / 2, telescoped
            of_split += partial
            if first > start:
                added += np.abs(of_split, out=product)
                roundings += 1
        whole += of_split
        if start:
            added += np.abs(whole, out=product)
            roundings += 1
    magnitude = np.abs(a) @ np.abs(w)
    running += np.multiply(magnitude, 0.5, out=product)
    running *= order.cost
    running += added
    # partial sums have an error, too: at most that of the whole sum
    running *= U / (1 - roundings * U)
    magnitude *= 4 * gemm_k * U64  # errors of the two float64 sums
    running += magnitude
    running += 2 * gemm_k * TINY
    return running
