"""What a worker process is told: who it is (``Job``) and what it measures (``Work``), as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .inputs import PERIOD, drawn, layer_input, pictures
from .layers import Layer, Shape

WorkKind = Literal["model", "kernel", "profile", "ceiling"]


@dataclass(frozen=True)
class Job:
    """Holds for all that a worker measures.

    ``weights``: a file in this package's native format, the same for every program; None where
    single layers draw theirs from ``seed``. ``graph``: CUDA graphs where there are some.
    """

    device: str
    dtype: str
    weights: str | None = None
    arch: str | None = None
    graph: bool = True
    seed: int = 0

    @property
    def on_gpu(self) -> bool:
        """Rather than on the CPU or the emulator?"""
        return self.device.startswith("cuda")


@dataclass(frozen=True)
class Work:
    """One measurement: the ``layers`` one after the other on x of ``shape``.

    Kinds: "model", a network's result for images [N,H,W,C]; "profile", the same step by step;
    "kernel", a single layer; "ceiling", what ``name`` says: "copy" or "matmul".
    """

    kind: WorkKind
    name: str
    shape: Shape = ()
    layers: tuple[Layer, ...] = ()

    @property
    def batch(self) -> int:
        """Images."""
        return self.shape[0]

    def as_json(self) -> dict[str, Any]:
        """For a message."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Work:
        """From a message."""
        layers = tuple(Layer(**layer) for layer in found["layers"])
        return cls(**{**found, "shape": tuple(found["shape"]), "layers": layers})

    def of_batch(self, n: int) -> Work:
        """The same for ``n`` images."""
        return Work(self.kind, self.name, (n, *self.shape[1:]), self.layers)

    def input(self, seed: int) -> NDArray[np.float32]:
        """x, the same in every process."""
        if self.kind == "kernel":
            return layer_input(self.layers[0], self.shape, seed)
        return pictures(self.shape, seed)

    def few(self) -> Work:
        """The same for the images that are different."""
        return self.of_batch(min(self.batch, PERIOD))

    def tensors(self, job: Job) -> dict[str, NDArray[np.float32]]:
        """The float32 weights of ``layers``, KRSC: ``conv1_1.weight``, ``conv1_1.bias``, …"""
        if job.weights is None:
            return drawn(self.layers[0], job.seed)
        from safetensors import safe_open

        given = [layer.name for layer in self.layers if layer.multiplies]
        names = [f"{name}.{part}" for name in given for part in ("weight", "bias")]
        with safe_open(Path(job.weights), framework="np") as file:
            return {name: file.get_tensor(name) for name in names}

    def flops(self) -> int:
        """Of one call."""
        return sum(2 * layer.macs(shape) for layer, shape in self.shapes())

    def nbytes(self, dtype: str) -> int:
        """What the layers of one call move at least."""
        return sum(layer.nbytes(shape, dtype) for layer, shape in self.shapes())

    def shapes(self) -> list[tuple[Layer, Shape]]:
        """Every layer and the shape of its x."""
        found, shape = [], self.shape
        for layer in self.layers:
            if layer.kind == "dense":
                shape = (shape[0], layer.inputs)  # flat
            found.append((layer, shape))
            shape = layer.out_shape(shape)
        return found
