"""How far float32 sums of products may be from the exact ones: worst cases, from running sums.

Wilkinson's running error analysis: every addition is off by at most u times what it yields, so the
error of a sum is at most u times the sum of the magnitudes of all partial sums, which are computed
here in float64, in the order that the plan's tiling says. That is far
sharper than n u |x| |w|: partial sums grow as a random walk where |x| |w| grows straight. Higham,
"Accuracy and Stability of Numerical Algorithms", 2002, section 3.3.

Partial sums are taken every ``MMA_K`` products, c before and d after; whatever their order in
between, all partial sums and all single products there are at most (|c| + |d| + s) / 2, with s the
sum of their magnitudes. What is done to them there:

- CUDA cores: one rounding to nearest per product, u = 2^-24.
- Tensor cores: products are exact; four or more of them and the sum so far are aligned to the
  greatest and truncated, each losing less than 2u of it, and so does the result: 16 + 16/4
  truncations in all. Fasi, Higham, Mikaitis & Pranesh, "Numerical behavior of NVIDIA tensor
  cores", PeerJ Computer Science 7:e330, 2021: V100, which takes four products at a time and keeps
  no digit behind the 24th, is the worst; newer ones take more and keep one or two.
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
    """Of ``gemm_k`` products: ``split`` columns to a split, ``chain`` to a partial sum of it.

    ``cost`` is the error of MMA_K additions, in units of U times what they yield at most.
    """

    split: int
    chain: int
    cost: int

    @classmethod
    def of_tiling(cls, tiling: dict[str, Any], tensor_cores: bool) -> Order:
        """As ``Plan.as_dict()["tiling"]`` says."""
        gemm_k = tiling["gemm_k"]
        columns = tiling["steps"] * tiling["block_k"] if tiling["split_k"] > 1 else gemm_k
        cost = 2 * (MMA_K + MMA_K // 4) if tensor_cores else MMA_K
        return cls(columns, tiling["partial_sum"] or columns, cost)


def walked(tiling: dict[str, Any]) -> NDArray[np.intp] | slice:
    """The order in which a convolution takes its columns, which are (r, s, c)."""
    if tiling["walk"] == "rsc":
        return slice(None)
    columns = np.arange(tiling["gemm_k"]).reshape(3, 3, -1, tiling["block_k"])
    return np.asarray(columns.transpose(2, 1, 0, 3).ravel())


def any_order(magnitude: Float64, roundings: int) -> Float64:
    """The bound for sums of ``magnitude`` = |x| |w| in an order that nobody tells, as BLAS's.

    Higham, section 3.1: n u / (1 - n u).
    """
    relative = roundings * U / (1 - roundings * U)
    return magnitude * (relative + 2 * roundings * U64) + 2 * roundings * TINY


def of_moved(moved: Float64, gemm_k: int, order: Order) -> Float64:
    """How much further off sums in ``order`` may be whose products are not those of ``in_order``.

    ``moved``: by how much at most all of them together move any of a sum's partial sums.
    """
    assert order.split == order.chain == gemm_k
    partial_sums = -(-gemm_k // MMA_K)
    roundings = order.cost * partial_sums
    # (|c| + |d| + s) / 2 grows by `moved` and half of it more for the products, all told
    grown = order.cost * (partial_sums + 0.5) * U / (1 - roundings * U)
    return np.asarray(moved * (1 + grown + 4 * gemm_k * U64) + 2 * gemm_k * TINY)


def in_order(a: Float64, w: Float64, order: Order) -> Float64:
    """The bound for a [M,GEMM_K] w [GEMM_K,N] -> [M,N]."""
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
    # partial sums are themselves off by the error so far, at most by the whole
    running *= U / (1 - roundings * U)
    magnitude *= 4 * gemm_k * U64  # the two float64 sums that are compared
    running += magnitude
    running += 2 * gemm_k * TINY
    return running
