"""What the measured programs read: the same numbers in every process, from a seed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layers import Layer, Shape

PERIOD = 3
"""Different images of a batch; the rest repeat them, so that one reference does for all batches.

No power of two, so that a kernel that mixes up the images of a tile is found out.
"""

MAX_COPIES = 512
MAX_COPIED_BYTES = 1 << 30
GPU_ROTATED_BYTES = 256 << 20  # several times the L2 of any GPU
DEFAULT_CACHE_BYTES = 32 << 20
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def pictures(shape: Shape, seed: int) -> NDArray[np.float32]:
    """[N,H,W,C] like photographs: amplitudes fall with 1/f; mean 0, deviation 1.

    Image i + ``PERIOD`` is image i.
    """
    n, h, w, c = shape
    rng = np.random.default_rng([seed, h, w, c])
    frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
    frequency[0, 0] = np.inf
    noise = rng.standard_normal((PERIOD, c, h, w), np.float32)
    noise += 2 * noise.mean(axis=1, keepdims=True)  # channels are alike
    x = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=(h, w))
    x = (x - x.mean()) / max(float(x.std()), 1e-30)
    return repeated(x.transpose(0, 2, 3, 1).astype(np.float32), n)


def activations(shape: Shape, seed: int) -> NDArray[np.float32]:
    """What a layer reads behind a ReLU: normal numbers, the negative ones zero; repeats, too."""
    rng = np.random.default_rng([seed, *shape[1:]])
    x = rng.standard_normal((PERIOD, *shape[1:]), dtype=np.float32)
    return repeated(np.maximum(x, 0, out=x), shape[0])


def layer_input(layer: Layer, shape: Shape, seed: int) -> NDArray[np.float32]:
    """x of a single layer: pictures where it has three channels."""
    if layer.kind == "conv" and layer.inputs == 3 and shape[1] * shape[2] > 1:
        return pictures(shape, seed)
    return activations(shape, seed)


def repeated(x: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """``n`` images, in turn those of x [PERIOD, ...]."""
    return np.ascontiguousarray(x[np.arange(n) % len(x)])


def drawn(layer: Layer, seed: int) -> dict[str, NDArray[np.float32]]:
    """He-scaled weights and small biases of a layer that no network has."""
    rng = np.random.default_rng([seed, 1])
    w = rng.standard_normal(layer.weight_shape, dtype=np.float32)
    w *= np.float32(math.sqrt(2 / math.prod(layer.weight_shape[1:])))
    bias = rng.standard_normal(layer.outputs, dtype=np.float32) * np.float32(0.05)
    return {f"{layer.name}.weight": w, f"{layer.name}.bias": bias}


def copies(nbytes: int, on_gpu: bool) -> int:
    """How many copies of an input, used in turn, keep it out of the last cache."""
    wanted = GPU_ROTATED_BYTES if on_gpu else 2 * cache_bytes()
    most = min(16 if on_gpu else MAX_COPIES, MAX_COPIED_BYTES // max(nbytes, 1))
    return max(1, min(-(-wanted // max(nbytes, 1)), most))


def cache_clearer_bytes() -> int:
    """What is written to a GPU's memory so that nothing else is left in its L2 cache."""
    return GPU_ROTATED_BYTES


def in_turn(x: NDArray[Any], count: int) -> list[NDArray[Any]]:
    """x and copies of it."""
    return [x, *(x.copy() for _ in range(count - 1))]


def cache_bytes() -> int:
    """Of the largest cache of the first core, where the system tells."""
    sizes = []
    for path in CACHES.glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        unit = {"K": 10, "M": 20, "G": 30}.get(text[-1:], 0)
        if text.rstrip("KMG").isdigit():
            sizes.append(int(text.rstrip("KMG")) << unit)
    return max(sizes, default=DEFAULT_CACHE_BYTES)
