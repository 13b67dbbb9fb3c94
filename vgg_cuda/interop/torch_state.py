"""Whether the values of a PyTorch tensor may have changed since they were packed.

Optimizers with ``fused=True`` write parameters and raise no version of them, nor do other people's
that write through pointers. Every optimizer's ``step()`` calls hooks after it; one here notes the
storages that it may have written. A step that torch.compile compiled calls none.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import count
from typing import Any

import torch
from torch.multiprocessing import reductions
from torch.optim.optimizer import register_optimizer_step_post_hook

__all__ = ["state_of"]

_StorageWeakRef: Any = reductions.StorageWeakRef  # PyTorch has no types for it
_numbers = count(1)
# By the storage's address. One that was there before does no harm: a number is only compared with
# an earlier one of the same storage.
_last: dict[int, int] = {}


def state_of(tensor: Any) -> Hashable:
    """What differs from any earlier one where the tensor's values differ, or may.

    ``module.to()`` gives a parameter another storage and leaves its version; the weak reference
    keeps a freed storage's identity from being used again. Inference tensors have no version: they
    always differ.
    """
    version = object() if tensor.is_inference() else tensor._version
    return (
        version, _last_step(tensor), tensor.data_ptr(), _StorageWeakRef(tensor.untyped_storage()),
        tensor.dtype, tensor.device, tuple(tensor.shape), tensor.stride(),
    )  # fmt: skip


def _last_step(tensor: Any) -> int:
    """The number of the last optimizer's step that may have written ``tensor``'s storage; or 0."""
    return _last.get(tensor.untyped_storage()._cdata, 0) if _last else 0


def _note(optimizer: Any, *_: Any) -> None:
    if torch.compiler.is_compiling():  # a hook is compiled with its step, or breaks the graph
        return
    number = next(_numbers)
    for group in optimizer.param_groups:
        for tensor in group["params"]:
            if type(tensor) in (torch.Tensor, torch.nn.Parameter) and (
                tensor.layout is torch.strided
            ):
                _last[tensor.untyped_storage()._cdata] = number


register_optimizer_step_post_hook(_note)
