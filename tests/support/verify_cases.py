"""Networks, inputs and faulty models for the tests of verification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vgg_cuda import VGG
from vgg_cuda.configs import Config
from vgg_cuda.weights import Weights

EMULATED = [
    pytest.param("emulator", dtype, marks=pytest.mark.emulator)
    for dtype in ("float32", "tf32", "float16", "bfloat16")
]
DEVICES_AND_DTYPES = [("cpu", "float32"), *EMULATED]
SMALL = Config("small", (8, 16, "M", 16, "M", 24, "M", 24, "M", 32, "M"), (48, 48, 6))


def pixels(n: int, h: int, w: int, seed: int = 0) -> np.ndarray:
    """Return random uint8 images [n,h,w,3]."""
    return np.random.default_rng(seed).integers(0, 256, (n, h, w, 3), dtype=np.uint8)


def network_input(weights: Weights, h: int, w: int) -> np.ndarray:
    """Return one random image [1,h,w,3], preprocessed for ``weights``."""
    return weights.preset.normalize(pixels(1, h, w))


def changed(weights: Weights, **tensors: np.ndarray) -> Weights:
    """Return ``weights`` with some tensors replaced: "conv1_1_weight" for conv1_1.weight."""
    named = {f"{name[:-7]}.weight": w for name, w in tensors.items() if name.endswith("_weight")}
    named |= {f"{name[:-5]}.bias": b for name, b in tensors.items() if name.endswith("_bias")}
    return replace(weights, tensors={**weights.tensors, **named})


class Altered:
    """A model whose results at ``taps`` are altered."""

    def __init__(self, model: VGG, **taps: Callable[[np.ndarray], None]) -> None:
        self._model, self._taps = model, taps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def features(self, x: Any, layers: list[str]) -> dict[str, np.ndarray]:
        found = {name: y.copy() for name, y in self._model.features(x, layers).items()}
        for tap, alter in self._taps.items():
            if tap in found:
                alter(found[tap])
        return found
