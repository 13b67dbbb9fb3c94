"""Operands for which kernels must agree to the bit, and random ones for measurements.

Integers make every product and every partial sum an integer below 2^24, times a power of two. All
of them are exact in float32, in any order of additions, so the bound of the difference between two
kernels is zero: a comparison needs no tolerance, and one wrong product of one element shows. The
bounds of ``verification/sums.py``, for operands that round, are wider than a product.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.kernels import KernelBackend
from ..backends.operations import Array, Spec
from ..images.presets import Preset
from .problems import BlockProblem, ConvProblem, Problem

EXACT = 2**23  # sums below, so that a bias can be added
SCALE = 2.0**-8  # of weights: keeps results below 65504, float16's largest number
MAX_INTEGER = 63  # also bfloat16, with eight binary digits, has larger integers
MAX_BIAS = 63
PERIOD = 1_000_003  # random numbers that arrays repeat; a prime, unlike the size of any tile
PIXEL = 127  # the preset below maps it to 0
INTEGER_PIXELS = Preset("integers", None, None, divisor=1.0, mean=(PIXEL,) * 3, std=(1.0,) * 3)


@dataclass(frozen=True)
class Ranges:
    """Largest magnitudes of an operation's input and of its layers' weights, in order."""

    x: int
    weights: tuple[int, ...]


def ranges(problem: Problem) -> Ranges:
    """Return ranges of integers whose sums are exact."""
    if isinstance(problem, BlockProblem):
        # results between the convolutions, at most 27 * 3 * 3 + 12, are exact in bfloat16, too
        return Ranges(3, (3, 7))
    terms = problem.x.shape[-1] * (9 if isinstance(problem, ConvProblem) else 1)
    largest = max(1, min(MAX_INTEGER, int((EXACT / terms) ** 0.5)))
    return Ranges(largest, (largest,))


def exact_layers(on: KernelBackend, problem: Problem) -> tuple[Any, ...]:
    """Return layers like the problem's, with integer weights times a power of two."""
    layers = []
    for i, (layer, largest) in enumerate(zip(problem.layers, ranges(problem).weights, strict=True)):
        last = i == len(problem.layers) - 1
        scale, most = (SCALE, MAX_BIAS) if last else (1.0, 12)
        channels = getattr(layer, "out_channels", None)
        shape = (
            (layer.out_features, layer.in_features)
            if channels is None
            else (channels, 3, 3, layer.in_channels)
        )
        w, bias = on.new_array(shape, "float32"), on.new_array(shape[:1], "float32")
        fill(on, w, _integers(w.size, largest, seed=2 * i) * scale)
        fill(on, bias, _integers(bias.size, most, seed=2 * i + 1) * scale)
        pack = on.pack_linear if channels is None else on.pack_conv3x3
        layers.append(pack(w, bias, layer.dtype))
    return tuple(layers)


def fill_exact(on: KernelBackend, problem: Problem, x: Array) -> None:
    """Fill x with integers; uint8 pixels are such that ``INTEGER_PIXELS`` maps them there."""
    numbers = _integers(x.size, ranges(problem).x, seed=100)
    fill(on, x, numbers + PIXEL if problem.x.dtype == "uint8" else numbers)


def checked(problem: Problem) -> Problem:
    """Return the problem with the preset that maps pixels to integers."""
    if isinstance(problem, BlockProblem) and problem.preset is not None:
        return replace(problem, preset=INTEGER_PIXELS)
    return problem


def fill_random(on: KernelBackend, problem: Problem, x: Array) -> None:
    """Fill x with images, or with what a ReLU returns for a normal distribution.

    The power that a GPU draws, and so its clock, depends on the numbers that it multiplies.
    """
    random, count = np.random.default_rng(0), min(x.size, PERIOD)
    if problem.x.dtype == "uint8":
        numbers = random.integers(0, 256, count).astype(np.float32)
    else:
        numbers = random.standard_normal(count, np.float32)
        numbers = numbers if isinstance(problem, BlockProblem) else np.maximum(numbers, 0)
    fill(on, x, numbers)


def fill(on: KernelBackend, array: Array, numbers: NDArray[np.float32]) -> None:
    """Fill an array of the device with repeated ``numbers``."""
    flat = array.reshape(-1)
    block = on.asarray(numbers, array.dtype)
    for start in range(0, flat.size, len(block)):
        part = flat[start : start + len(block)]
        part[...] = block[: part.size]


def same(a: Array, b: Array) -> bool:
    """Return whether arrays of the device are equal to the bit, except for the sign of zeros."""
    bits = np.dtype(f"u{a.dtype.itemsize}")
    magnitude = bits.type(~(1 << (8 * bits.itemsize - 1)) & (1 << 8 * bits.itemsize) - 1)
    a, b = a.reshape(-1).view(bits), b.reshape(-1).view(bits)
    step = 1 << 24  # elements compared at once, which bounds the temporary memory
    for start in range(0, a.size, step):
        of_a, of_b = a[start : start + step], b[start : start + step]
        if bool(((of_a != of_b) & (((of_a | of_b) & magnitude) != 0)).any()):
            return False
    return True


def nbytes(problem: Problem) -> int:
    """Return the bytes of exact layers and their float32 originals on the device."""
    total = 0
    for layer in problem.layers:
        features = getattr(layer, "in_features", None)
        columns = 9 * layer.in_channels if features is None else features
        rows = layer.out_channels if features is None else layer.out_features
        total += columns * rows * 4 + Spec((rows, columns), layer.dtype).nbytes
    return total


def _integers(size: int, largest: int, seed: int) -> NDArray[np.float32]:
    random, count = np.random.default_rng(seed), min(size, PERIOD)
    return random.integers(-largest, largest, count, endpoint=True).astype(np.float32)
