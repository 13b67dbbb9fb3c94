"""Messages to a worker: its device and weights (``Job``), and what it measures (``Work``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .inputs import PERIOD, layer_input, pictures, random_weights
from .layers import Layer, Shape

WorkKind = Literal["model", "kernel", "profile", "ceiling"]


@dataclass(frozen=True)
class Job:
    """Settings of everything that a worker measures.

    ``weights`` is a file in this package's native format, the same for every program; with None,
    single layers get random weights from ``seed``. ``graph`` enables CUDA graphs on a GPU.
    """

    device: str
    dtype: str
    weights: str | None = None
    arch: str | None = None
    graph: bool = True
    seed: int = 0

    @property
    def on_gpu(self) -> bool:
        """True for a GPU, false for the CPU and the emulator."""
        return self.device.startswith("cuda")


@dataclass(frozen=True)
class Work:
    """One measurement: ``layers`` applied in order to x of ``shape``.

    ``kind`` is "model", a network's result for images [N,H,W,C]; "profile", a network with a time
    for each step; "kernel", a single layer; or "ceiling", a "copy" or "matmul" as ``name`` says.
    """

    kind: WorkKind
    name: str
    shape: Shape = ()
    layers: tuple[Layer, ...] = ()

    @property
    def batch(self) -> int:
        """Number of images."""
        return self.shape[0]

    def with_batch(self, n: int) -> Work:
        """Return this work for ``n`` images."""
        return replace(self, shape=(n, *self.shape[1:]))

    def input(self, seed: int) -> NDArray[np.float32]:
        """Return x, which is equal in every process."""
        if self.kind == "kernel":
            return layer_input(self.layers[0], self.shape, seed)
        return pictures(self.shape, seed)

    def few(self) -> Work:
        """Return this work without repeated images."""
        return self.with_batch(min(self.batch, PERIOD))

    def tensors(self, job: Job) -> dict[str, NDArray[np.float32]]:
        """Return the float32 weights (KRSC) by name, such as ``conv1_1.weight``."""
        if job.weights is None:
            return random_weights(self.layers[0], job.seed)
        from safetensors import safe_open

        given = [layer.name for layer in self.layers if layer.multiplies]
        names = [f"{name}.{part}" for name in given for part in ("weight", "bias")]
        with safe_open(Path(job.weights), framework="np") as file:
            return {name: file.get_tensor(name) for name in names}

    def flops(self) -> int:
        """Return the FLOPs of one call."""
        return sum(2 * layer.macs(shape) for layer, shape in self.shapes())

    def nbytes(self, dtype: str) -> int:
        """Return the minimum bytes that one call of each layer reads and writes."""
        return sum(layer.nbytes(shape, dtype) for layer, shape in self.shapes())

    def shapes(self) -> list[tuple[Layer, Shape]]:
        """Return every layer and the shape of its x."""
        found, shape = [], self.shape
        for layer in self.layers:
            if layer.kind == "dense":
                shape = (shape[0], layer.inputs)
            found.append((layer, shape))
            shape = layer.out_shape(shape)
        return found
