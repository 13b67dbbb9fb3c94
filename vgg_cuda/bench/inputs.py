"""Inputs and weights of the measured programs: equal in every process, from a seed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layers import Layer, Shape

PERIOD = 3
"""Number of different images in a batch; the other images repeat them.

One reference then serves all batch sizes. Not a power of two, so that a kernel that confuses the
images of a tile gives a wrong result.
"""

MAX_COPIES = 512
MAX_COPIED_BYTES = 1 << 30
GPU_ROTATED_BYTES = 256 << 20  # several times the L2 cache of any GPU
DEFAULT_CACHE_BYTES = 32 << 20
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def pictures(shape: Shape, seed: int) -> NDArray[np.float32]:
    """Return random x [N,H,W,C] like photographs, with amplitudes 1/f, mean 0 and deviation 1.

    Image i + ``PERIOD`` equals image i.
    """
    n, h, w, c = shape
    rng = np.random.default_rng([seed, h, w, c])
    frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
    frequency[0, 0] = np.inf
    noise = rng.standard_normal((PERIOD, c, h, w), np.float32)
    noise += 2 * noise.mean(axis=1, keepdims=True)  # channels of photographs correlate
    x = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=(h, w))
    x = (x - x.mean()) / max(float(x.std()), 1e-30)
    return repeated(x.transpose(0, 2, 3, 1).astype(np.float32), n)


def activations(shape: Shape, seed: int) -> NDArray[np.float32]:
    """Return random x [N,...] as after a ReLU: normal numbers with negatives set to zero."""
    rng = np.random.default_rng([seed, *shape[1:]])
    x = rng.standard_normal((PERIOD, *shape[1:]), dtype=np.float32)
    return repeated(np.maximum(x, 0, out=x), shape[0])


def layer_input(layer: Layer, shape: Shape, seed: int) -> NDArray[np.float32]:
    """Return x of a single layer: pictures if it has three channels, else activations."""
    if layer.kind == "conv" and layer.inputs == 3 and shape[1] * shape[2] > 1:
        return pictures(shape, seed)
    return activations(shape, seed)


def repeated(x: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Return ``n`` images that repeat the images of x [PERIOD,...]."""
    return np.ascontiguousarray(x[np.arange(n) % len(x)])


def random_weights(layer: Layer, seed: int) -> dict[str, NDArray[np.float32]]:
    """Return He-scaled weights and small biases of a layer."""
    rng = np.random.default_rng([seed, 1])
    w = rng.standard_normal(layer.weight_shape, dtype=np.float32)
    w *= np.float32(math.sqrt(2 / math.prod(layer.weight_shape[1:])))
    bias = rng.standard_normal(layer.outputs, dtype=np.float32) * np.float32(0.05)
    return {f"{layer.name}.weight": w, f"{layer.name}.bias": bias}


def copies(nbytes: int, on_gpu: bool) -> int:
    """Return how many copies of an input, used in turn, keep it out of the last-level cache."""
    wanted = GPU_ROTATED_BYTES if on_gpu else 2 * cache_bytes()
    limit = min(16 if on_gpu else MAX_COPIES, MAX_COPIED_BYTES // max(nbytes, 1))
    return max(1, min(-(-wanted // max(nbytes, 1)), limit))


def cache_clearer_bytes() -> int:
    """Return how many bytes to write to a GPU's memory to clear its L2 cache."""
    return GPU_ROTATED_BYTES


def in_turn(x: NDArray[Any], count: int) -> list[NDArray[Any]]:
    """Return x and copies of it, ``count`` arrays in all."""
    return [x, *(x.copy() for _ in range(count - 1))]


def cache_bytes() -> int:
    """Return the size of the first core's largest cache, or a default if it is unknown."""
    sizes = []
    for path in CACHES.glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        unit = {"K": 10, "M": 20, "G": 30}.get(text[-1:], 0)
        if text.rstrip("KMG").isdigit():
            sizes.append(int(text.rstrip("KMG")) << unit)
    return max(sizes, default=DEFAULT_CACHE_BYTES)
