"""Forwards captured as CUDA graphs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from ..arrays import describe, is_cupy, is_jax, unwrap
from ..backends import Array
from ..backends.kernels import KernelBackend
from ..backends.operations import Spec
from ..backends.streams import callers_stream
from ..text import format_bytes
from .graph import Network
from .plan import Forward, Memory, memory


class CapturedForward:
    """A forward for inputs of one shape and dtype, captured as a CUDA graph.

    ``x`` [N,H,W,3] and ``y`` are its input and output on the device: CuPy arrays, or NumPy arrays
    on the emulator. Fill ``x`` in place and call without arguments, or pass the images. Do not call
    it from several threads or streams at once.
    """

    def __init__(
        self, network: Network, forward: Forward, x: Spec, tap: str, inner: Spec | None = None
    ) -> None:
        """Capture ``forward`` of x, or of ``inner``: x after the network's input layers."""
        backend: Any = network.backend
        on = self._on = cast(KernelBackend, backend)
        extra = 0 if inner is None else inner.nbytes
        self._memory = memory(network, x, forward)
        self._memory = replace(self._memory, arena=self._memory.arena + extra)
        held = self._memory.total - self._memory.weights
        uses = [f"{format_bytes(held)} for its arrays"]
        with on.active():
            with on.reserving(f"a graph of {list(x.shape)}", held, uses):
                self._x: Array = on.new_array(x.shape, x.dtype)
                images = self._x if inner is None else on.new_array(inner.shape, inner.dtype)
                arena = on.new_array((forward.arena_bytes,), "uint8")
                y = forward.result_specs()[tap]
                results = {tap: on.new_array(y.shape, y.dtype)}
            self._x[...] = 0
            flat = network.config.flat and len(y.shape) == 4
            self._y: Array = results[tap].reshape(len(results[tap]), -1) if flat else results[tap]
        given, normalization = self._x, network.normalization

        def run() -> None:
            if inner is not None and normalization is not None:
                normalization.into(given, images)
            forward.run(on, images, arena, results)

        self._launch = on.capture(run)
        self._alive = network, arena, given, images, results  # the graph holds only addresses

    @property
    def x(self) -> Array:
        """The input; fill it in place."""
        return self._x

    @property
    def y(self) -> Array:
        """The output, which each call overwrites."""
        return self._y

    @property
    def memory(self) -> Memory:
        """Device memory in bytes; the graph holds all but the model's ``weights``."""
        return self._memory

    def __call__(self, x: Any = None) -> Any:
        """Return ``y`` for x [N,H,W,3], by default for the content of ``self.x``.

        x has the shape and dtype of ``self.x``, in host memory or on the device. For x on the
        device the result is of the same kind as x, else it is ``self.y``; the next call overwrites
        it. The work is enqueued on the current stream (PyTorch's for its tensors) without waiting:
        do not change x before it is done, unless x is in pageable host memory. Raises
        ``ValueError`` for another shape, ``TypeError`` for another dtype.
        """
        if x is None:
            return self._run(None)
        with callers_stream(x, "x"):
            array, restore = unwrap(x, "x")
            mine = self.x
            if array.shape != mine.shape:
                raise ValueError(f"x: expected {list(mine.shape)}, as captured, got {describe(x)}")
            if array.dtype != mine.dtype:
                raise TypeError(f"x: expected {mine.dtype}, as captured, got {describe(x)}")
            y = self._run(array)
            if not is_cupy(array) and not isinstance(mine, np.ndarray):
                return y
            return restore(y.copy() if is_jax(x) else y)  # JAX arrays must never change

    def _run(self, x: Array | None) -> Array:
        with self._on.active():
            if x is not None and is_cupy(self.x) and not is_cupy(x):
                self.x.set(np.ascontiguousarray(x))
            elif x is not None:
                self.x[...] = x
            self._launch()
        return self.y

    def __repr__(self) -> str:
        x, y = self.x, self.y
        return f"<CapturedForward {list(x.shape)} {x.dtype} -> {list(y.shape)} {y.dtype}>"
