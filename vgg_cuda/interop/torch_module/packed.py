"""Recorded steps as a packed ``VGG``, kept until a tensor that they read changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch

from ...vgg import VGG
from ...weights import Weights
from ...weights.chain import to_weights
from ...weights.chain.layers import Flatten, Layer
from ..fork import fork_lock
from ..torch_state import state_of
from .operations import batch_norm_of
from .records import Step
from .taps import leading_pools

Packable = VGG | Exception
"""A network, or the reason for its absence."""


class Packed:
    """The last packed network; thread-safe.

    It is used again if the steps are equal and their tensors are the same objects, with the same
    storage, address, shape, strides, dtype and version, and no optimizer has made a step. Updates
    of running statistics change no version: in host memory their values are compared. Inference
    tensors have no version and are packed for every call.
    """

    def __init__(self) -> None:
        self._lock = fork_lock()
        # The tensors are held, so that no other object gets their identity. Weak references would
        # make torch.utils.swap_tensors fail.
        self._seen: tuple[Hashable, list[Any], list[Any]] = None, [], []
        self._found: Packable | None = None

    def get(self, key: Hashable, steps: Sequence[Step], pack: Callable[[], Packable]) -> Packable:
        """Return ``pack()``, or its last result for the same ``key`` and unchanged steps."""
        tensors = [tensor for step in steps for tensor in step.tensors if tensor is not None]
        parts = tuple((s.make, s.options, tuple(t is None for t in s.tensors)) for s in steps)
        key = (key, parts, tuple(map(state_of, tensors)))
        norms = [step.tensors[2:4] for step in steps if step.make is batch_norm_of]
        statistics = [t.detach() for norm in norms for t in norm if t.device.type == "cpu"]
        with self._lock:
            seen_key, seen, values = self._seen
            same = key == seen_key and all(a is b for a, b in zip(tensors, seen, strict=True))
            if not same or not all(map(torch.equal, statistics, values)):
                self.clear()  # before packing: memory may not suffice for two networks
                values = [t.clone() for t in statistics]  # before packing: writes are noticed
                self._found = pack()
                self._seen = key, tensors, values
            return self._found  # type: ignore[return-value] # pack() returned it

    def clear(self) -> None:
        """Forget the network and free its memory."""
        with self._lock:
            if isinstance(self._found, VGG) and self._found.device.startswith("cuda"):
                # Kernels on any stream may still read the memory that is freed here.
                torch.cuda.synchronize(self._found.device)
            self._seen, self._found = (None, [], []), None


def make_weights(steps: Sequence[Step], source: str, size: tuple[int, int] | None) -> Weights:
    """Return the weights of the recorded network behind its leading max-pools.

    ``size`` is the images' if the network takes one only. Raises the errors of ``to_weights``.
    """
    pools = leading_pools(steps)
    with torch.no_grad():
        layers = [_layer(step, position) for position, step in enumerate(steps)][pools:]
    if layers and isinstance(layers[-1], Flatten):
        layers.pop()  # the result is flattened in PyTorch's order
    inner = None if size is None else (size[0] >> pools, size[1] >> pools)
    return to_weights(layers, source=source, input_size=inner)


def _layer(step: Step, position: int) -> Layer:
    name = step.name or f"operation {position}"
    arrays = [None if tensor is None else _array(tensor) for tensor in step.tensors]
    return step.make(name, *arrays, *step.options)


def _array(tensor: Any) -> Any:
    """Return a float32 copy in host memory: packed values must not change with the parameter."""
    return np.array(tensor.detach().to("cpu", torch.float32).numpy(), copy=True)
