"""Measured layers, with their FLOPs and bytes; independent of any framework.

A layer is one operation of the graph: a convolution with its ReLU and the pool after it, or a dense
layer with its ReLU. FLOPs count a direct convolution, with two for a multiply and an add.
Winograd's algorithm does fewer, so its rate can exceed a ceiling.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from ..arrays import numpy_dtype
from ..configs import Config, Conv, Pool

Shape = tuple[int, ...]
Kind = Literal["conv", "dense", "pool", "avg", "max"]


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    ``kind`` is "conv" (3x3), "dense" (flattens its input), "pool" (2x2), or "avg" and "max", which
    pool to ``grid`` rows and columns. ``pool`` adds a 2x2 pool to a convolution.
    """

    name: str
    kind: Kind
    inputs: int
    outputs: int
    relu: bool = False
    pool: bool = False
    grid: int = 0

    @property
    def multiplies(self) -> bool:
        """True if the layer has weights."""
        return self.kind in ("conv", "dense")

    def macs(self, x_shape: Shape) -> int:
        """Return the multiply-adds for x [N,H,W,C] or [N,C]."""
        if not self.multiplies:
            return 0
        return math.prod(x_shape) * (9 if self.kind == "conv" else 1) * self.outputs

    def out_shape(self, x_shape: Shape) -> Shape:
        """Return the shape of the result, [N,P,Q,K] or [N,K]."""
        if self.kind in ("avg", "max"):
            return (x_shape[0], self.grid, self.grid, self.outputs)
        sides = x_shape[1:-1] if self.kind != "dense" else ()
        halved = self.pool or self.kind == "pool"
        return (x_shape[0], *(side // 2 if halved else side for side in sides), self.outputs)

    @property
    def weight_shape(self) -> Shape:
        """Shape of the weights, [K,3,3,C] or [K,C]."""
        return (self.outputs, *((3, 3) if self.kind == "conv" else ()), self.inputs)

    def nbytes(self, x_shape: Shape, dtype: str) -> int:
        """Return the bytes of x, the weights, the float32 bias and the result."""
        elements = math.prod(x_shape) + math.prod(self.out_shape(x_shape))
        if self.multiplies:
            elements += math.prod(self.weight_shape)
        bias = 4 * self.outputs * self.multiplies
        return elements * numpy_dtype(dtype).itemsize + bias


def network_layers(config: Config) -> list[Layer]:
    """Return the layers of a network in order.

    Raises ``ValueError`` for a network with scales and shifts, which the other programs lack.
    """
    if config.affines:
        raise ValueError(
            f"{config.name}: expected a network whose batch norms are folded into other layers, "
            f"got {config.affines[0].name}, a scale and shift: the benchmark has no such layer"
        )
    found: list[Layer] = []
    fused = False
    for layer, following in zip_longest(config.features, config.features[1:]):
        if isinstance(layer, Conv):
            fused = isinstance(following, Pool)
            sizes = layer.in_channels, layer.out_channels
            found.append(Layer(layer.name, "conv", *sizes, layer.relu, fused))
        elif fused:
            fused = False
        else:
            found.append(Layer(layer.name, "pool", found[-1].outputs, found[-1].outputs))
    if config.reduces != "none":
        sizes = config.out_channels, config.out_channels
        found.append(Layer(f"{config.reduces}pool", config.reduces, *sizes, grid=config.pool_grid))
    return found + [
        Layer(dense.name, "dense", dense.in_features, dense.out_features, dense.relu)
        for dense in config.dense
    ]


def selected(config: Config, names: Sequence[str]) -> list[str]:
    """Return ``names`` without repetitions, or all layers of ``config`` if there are none.

    Raises ``ValueError`` with similar names for a name that is not a layer of the network.
    """
    known = [layer.name for layer in network_layers(config) if layer.multiplies]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"; did you mean {', '.join(close)}?" if close else ""
            raise ValueError(
                f"--layer: {config.name} has no layer {name!r}{hint} (its layers are {known[0]} "
                f"to {known[-1]})"
            )
    return list(dict.fromkeys(names)) or known


def parse_shape(text: str, *, relu: bool, pool: bool) -> tuple[Layer, Shape]:
    """Parse ``n,h,w,c,k``: a convolution of x [n,h,w,c] with k filters.

    Raises ``ValueError`` unless there are five positive numbers, and if a pool gets a side of 1.
    """
    words = text.split(",")
    try:
        numbers = [int(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != 5 or min(numbers) < 1 or max(numbers) >= 2**31:
        raise ValueError(f"--shape: expected n,h,w,c,k, each 1 or more, got {text!r}")
    n, h, w, c, k = numbers
    if pool and min(h, w) < 2:
        raise ValueError(f"--shape: expected h and w of 2 or more before a pool, got {text!r}")
    name = f"n{n}-h{h}-w{w}-c{c}-k{k}" + "-relu" * relu + "-pool" * pool
    return Layer(name, "conv", c, k, relu, pool), (n, h, w, c)
