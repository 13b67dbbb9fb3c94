"""Steps of a recorded forward as a ``VGG``, kept until a tensor that they read changes."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch

from ...vgg import VGG
from ...weights import Weights, chain
from ..torch_state import state_of
from .recording import Step

Packable = VGG | Exception
"""A network, or why there is none."""


class Packed:
    """The last network that was packed; safe to call from several threads.

    It is found again while the steps are the same and their tensors are the same objects, with the
    same storage, address, shape, strides, dtype and version, and no optimizer made a step. Running
    statistics have no version that tells: in host memory their values are compared, too. Inference
    tensors have none and are packed anew for every call.
    """

    def __init__(self) -> None:
        self.renew_lock()
        renewed_after_fork(self)
        self._key: Hashable = None
        # The objects are held, so that no other gets their place in memory. Not weakly:
        # torch.utils.swap_tensors refuses tensors with weak references.
        self._tensors: list[Any] = []
        self._statistics: list[Any] = []
        self._found: Packable | None = None

    def get(self, key: Hashable, steps: Sequence[Step], pack: Callable[[], Packable]) -> Packable:
        """``pack()``, or what it gave for the same ``key`` and unchanged steps."""
        tensors = [tensor for step in steps for tensor in step.tensors if tensor is not None]
        parts = tuple((s.kind, s.number, tuple(t is None for t in s.tensors)) for s in steps)
        key = (key, parts, tuple(map(state_of, tensors)))
        norms = [step.tensors[2:4] for step in steps if step.kind == "norm"]
        statistics = [t.detach() for norm in norms for t in norm if t.device.type == "cpu"]
        with self._lock:
            same = (
                len(tensors) == len(self._tensors)
                and all(a is b for a, b in zip(tensors, self._tensors, strict=True))
                and key == self._key
                and all(map(torch.equal, statistics, self._statistics))
            )
            if not same:
                self._clear()  # first: there is not always memory for two
                values = [t.clone() for t in statistics]  # first: a write meanwhile is noticed
                self._found = pack()
                self._key, self._tensors, self._statistics = key, tensors, values
            return self._found  # type: ignore[return-value] # pack() gave it

    def clear(self) -> None:
        """Forgets the network and frees its memory."""
        with self._lock:
            self._clear()

    def _clear(self) -> None:
        if isinstance(self._found, VGG) and self._found.device.startswith("cuda"):
            # Kernels on any stream may still read the memory that is free from here on.
            torch.cuda.synchronize(self._found.device)
        self._key, self._tensors, self._statistics, self._found = None, [], [], None

    def renew_lock(self) -> None:
        """For a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()


_with_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def renewed_after_fork(holder: Any) -> None:
    """Has ``holder.renew_lock()`` called in forked children."""
    _with_locks.add(holder)


def _renew_locks() -> None:
    for holder in _with_locks:
        holder.renew_lock()


os.register_at_fork(after_in_child=_renew_locks)


def make_weights(steps: Sequence[Step], source: str, size: tuple[int, int] | None) -> Weights:
    """The weights of the network that ``steps`` are; ``size``: of images, where it takes no other.

    Raises as ``chain.to_weights``.
    """
    with torch.no_grad():
        layers = [_layer(step, position) for position, step in enumerate(steps)]
    if layers and isinstance(layers[-1], chain.Flatten):
        layers.pop()  # the result is flattened in PyTorch's order
    return chain.to_weights(layers, source=source, input_size=size)


def _layer(step: Step, position: int) -> chain.Layer:
    name = step.name or f"operation {position} ({step.kind})"
    arrays: list[Any] = [None if t is None else _array(t) for t in step.tensors]
    match step.kind, arrays:
        case "conv", [w, bias]:
            return chain.Conv3x3(name, w.transpose(0, 2, 3, 1), bias)
        case "norm", [gamma, beta, mean, variance, _]:
            return chain.BatchNorm(name, gamma, beta, mean, variance, step.number)
        case "relu", _:
            return chain.Relu(name)
        case "maxpool", _:
            return chain.MaxPool2x2(name)
        case "average", _:
            return chain.AdaptiveAvgPool(name, int(step.number))
        case "global", _:
            return chain.GlobalPool(name, "avg")
        case "maximum", _:
            return chain.GlobalPool(name, "max")
        case "flatten", _:
            return chain.Flatten(name, "CHW")
        case "linear", [w, bias]:
            return chain.Linear(name, w.reshape(w.shape[0], -1), bias)
    return chain.Softmax(name)


def _array(tensor: Any) -> Any:
    """A copy in host memory as float32: what is packed must not change with the parameter."""
    return np.array(tensor.detach().to("cpu", torch.float32).numpy(), copy=True)
