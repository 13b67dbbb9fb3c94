"""JAX: ``jax.jit`` of the layers in NHWC."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ...system.cpus import get_num_threads
from ..clock import HostClock
from ..inputs import cache_clearer_bytes, copies
from ..layers import Layer
from ..work import Job, Work
from . import Absent, Program


def start(job: Job) -> Jax:
    """Load JAX for the job's device."""
    return Jax(job)


class Jax:
    """JAX, timed by the host's clock, because a call waits for its result."""

    def __init__(self, job: Job) -> None:
        os.environ["PJRT_NPROC"] = str(get_num_threads())  # XLA's threads
        # leave memory on the GPU for the other programs
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        try:
            import jax
        except ImportError as error:
            raise Absent(f"JAX is not installed: pip install jax ({error})") from None
        self.jax: Any = jax
        self.job = job
        try:
            devices = jax.devices("gpu" if job.on_gpu else "cpu")
        except RuntimeError as error:
            raise Absent(f"JAX {jax.__version__} finds no GPU ({error})") from None
        self.device: Any = devices[int(job.device.partition(":")[2] or 0)]
        self.dtype = getattr(jax.numpy, "float32" if job.dtype == "tf32" else job.dtype)
        # XLA uses tf32 for float32 on a GPU by default
        self.precision = "highest" if job.dtype == "float32" else "default"
        self.versions = {"jax": str(jax.__version__)}

    def prepare(self, work: Work) -> Program:
        """Build a program for ``work``."""
        jax, tensors = self.jax, work.tensors(self.job)
        jax.clear_caches()
        weights = {name: self.placed(self.laid_out(w)) for name, w in tensors.items()}

        def forward(weights: dict[str, Any], x: Any) -> Any:
            for layer in work.layers:
                x = self.layer(layer, weights, x)
            return x

        run = jax.jit(forward)
        x = work.input(self.job.seed)
        alone = work.kind == "kernel" and self.job.on_gpu
        count = 1 if alone else copies(x.nbytes, self.job.on_gpu)
        xs = [self.placed(x) for _ in range(count)]
        program = Program(
            lambda i: run(weights, xs[i]).block_until_ready(),
            lambda: np.asarray(run(weights, xs[0]).astype(jax.numpy.float32)),
            HostClock(), "jax.jit", len(xs),
        )  # fmt: skip
        if self.job.on_gpu:
            program.upload = lambda: self.placed(x).block_until_ready()
        if alone:
            program.before = self.clearer()
        return program

    def clearer(self) -> Callable[[int], None]:
        """Return a function that clears a GPU's L2 cache and waits."""
        zeros = np.zeros(cache_clearer_bytes(), np.uint8)
        scratch = [self.jax.device_put(zeros, self.device)]
        write = self.jax.jit(lambda s: s + 1)

        def clear(_: int) -> None:
            scratch[0] = write(scratch[0]).block_until_ready()

        return clear

    def placed(self, x: Any) -> Any:
        """Return x on the device, in the job's dtype."""
        return self.jax.device_put(x, self.device).astype(self.dtype)

    def laid_out(self, w: Any) -> Any:
        """Transpose weights: [K,3,3,C] to [3,3,C,K], or [K,C] to [C,K]."""
        axes = {4: (1, 2, 3, 0), 2: (1, 0)}.get(w.ndim)
        return w if axes is None else np.ascontiguousarray(w.transpose(axes))

    def layer(self, layer: Layer, weights: dict[str, Any], x: Any) -> Any:
        """Return the result of one layer."""
        lax, numpy = self.jax.lax, self.jax.numpy
        if layer.multiplies:
            w, bias = weights[f"{layer.name}.weight"], weights[f"{layer.name}.bias"]
            if layer.kind == "conv":
                x = lax.conv_general_dilated(
                    x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
                    precision=self.precision,
                )  # fmt: skip
            else:
                x = numpy.matmul(x.reshape(x.shape[0], -1), w, precision=self.precision)
            x = x + bias
        x = numpy.maximum(x, 0) if layer.relu else x
        if layer.pool or layer.kind == "pool":
            window = (1, 2, 2, 1)
            x = lax.reduce_window(x, -numpy.inf, lax.max, window, window, "VALID")
        if layer.kind in ("avg", "max"):
            x = self.to_grid(layer, x)
        return x

    def to_grid(self, layer: Layer, x: Any) -> Any:
        """Return an adaptive pool of x with PyTorch's bins."""
        numpy, (h, w), g = self.jax.numpy, x.shape[1:3], layer.grid
        if (h, w) == (g, g):
            return x
        reduce = numpy.mean if layer.kind == "avg" else numpy.max

        def bins(side: int) -> list[slice]:
            return [slice(i * side // g, -(-(i + 1) * side // g)) for i in range(g)]

        rows = [[reduce(x[:, r, c], axis=(1, 2)) for c in bins(w)] for r in bins(h)]
        return numpy.stack([numpy.stack(row, axis=1) for row in rows], axis=1)
