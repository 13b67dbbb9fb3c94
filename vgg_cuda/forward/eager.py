"""Forwards that run one operation after the other, on the CPU."""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from ..backends import Array
from . import max_images
from .graph import Network, collect
from .inputs import batch_on, normalized


class Eager:
    """``graph.Operations`` on arrays of the network's backend."""

    def __init__(self, network: Network) -> None:
        self._network, self._on = network, network.backend
        self.maxpool2x2, self.avgpool = self._on.maxpool2x2, self._on.avgpool
        self.adaptive_maxpool = self._on.adaptive_maxpool
        self.relu, self.softmax = self._on.relu, self._on.softmax

    def conv3x3(self, x: Array, layer: str, *, relu: bool, pool: bool) -> Array:
        network = self._network
        preset = network.preset if x.dtype.name == "uint8" else None
        return self._on.conv3x3(x, network.convs[layer], relu=relu, pool=pool, preset=preset)

    def fused_conv1_block(self, x: Array, first: str, second: str) -> None:
        return None  # the CPU has no fused kernel

    def affine(self, x: Array, layer: str) -> Array:
        return self._on.affine(x, self._network.affines[layer])

    def flatten(self, x: Array) -> Array:
        n, h, w, c = x.shape
        return x.reshape(n, h * w * c)

    def linear(self, x: Array, layer: str, *, relu: bool) -> Array:
        return self._on.linear(x, self._network.dense[layer], relu=relu)


class EagerRunner:
    """Runner that splits batches at the backend's ``batch_limit``."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(self, x: Array, layout: str, wanted: Set[str]) -> dict[str, Array]:
        on, dtype = self._network.backend, self._network.dtype
        n, step = x.shape[0], max_images(on.batch_limit, x.shape, layout)
        parts = []
        for i in range(0, max(n, 1), step):
            part = normalized(self._network.normalization, x[i : i + step], layout)
            part = batch_on(on, part, layout, dtype)
            with on.session():
                parts.append(collect(self._network, Eager(self._network), part, wanted))
        if len(parts) == 1:
            return parts[0]
        return {tap: np.concatenate([part[tap] for part in parts]) for tap in parts[0]}
