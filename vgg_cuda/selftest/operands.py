"""Operands of the self-test's cases."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import numpy_dtype
from ..verification.convolutions import Filters
from .cases import Case

PERIOD = 999_983  # random numbers that larger arrays repeat; a prime, unlike the size of any tile


class Operands(NamedTuple):
    """x, and the float32 weights of the layers, the last layer last."""

    x: NDArray[Any]
    layers: tuple[Filters, ...]


def draw(case: Case) -> Operands:
    """Return reproducible operands.

    In exact cases x holds integers up to 2 and w integers up to 1. Sums of up to 4096 products are
    then far below 2^24, and float32 holds them exactly in any order of additions.
    """
    rng = np.random.default_rng([len(case.shape), *case.shape, case.k])
    if case.exact:
        x = _integers(rng, case.shape, 2).astype(numpy_dtype(case.source))
    elif case.source == "uint8":
        x = rng.integers(0, 256, case.shape, dtype=np.uint8)
    else:
        x = rng.standard_normal(case.shape, np.float32).astype(numpy_dtype(case.source))
    pixels = case.source == "uint8" and case.preset is None
    return Operands(x, tuple(_filters(rng, case, shape, pixels) for shape in _shapes(case)))


def _shapes(case: Case) -> list[tuple[int, ...]]:
    k, c = case.k, case.shape[-1]
    if case.op == "conv3x3":
        return [(k, 3, 3, c)]
    if case.op == "linear":
        return [(k, c)]
    if case.op == "affine":
        return [(c,)]
    return [(k, 3, 3, c), (k, 3, 3, k)] if case.op == "fused_conv1_block" else []


def _filters(rng: np.random.Generator, case: Case, shape: tuple[int, ...], pixels: bool) -> Filters:
    """Return weights that keep the variance, and biases that are not zero."""
    if case.exact:
        return Filters(_integers(rng, shape, 1), _integers(rng, shape[:1], 8))
    w = rng.standard_normal(shape, np.float32)
    w *= np.float32(np.sqrt(2 / np.prod(shape[1:])))
    if pixels and shape[-1] == 3:
        w /= 100  # raw pixels are a hundred times larger than normalized ones
    return Filters(w, 0.3 * rng.standard_normal(shape[:1], np.float32))


def _integers(
    rng: np.random.Generator, shape: tuple[int, ...], largest: int
) -> NDArray[np.float32]:
    size = int(np.prod(shape))
    values = rng.integers(-largest, largest, min(size, PERIOD), endpoint=True)
    return np.resize(values.astype(np.float32), shape)
