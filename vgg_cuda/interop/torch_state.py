"""Detection of changes to a PyTorch tensor's values.

Optimizers with ``fused=True``, and others that write through pointers, do not raise the version of
parameters. Every optimizer's ``step()`` calls hooks; a hook here records the storages that the step
may have written. A step compiled by torch.compile calls no hook.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import count
from typing import Any

import torch
from torch.multiprocessing import reductions
from torch.optim.optimizer import register_optimizer_step_post_hook

__all__ = ["state_of"]

_StorageWeakRef: Any = reductions.StorageWeakRef  # PyTorch has no type hints for it
_numbers = count(1)
# Numbers of steps by the storage's address. An address may be reused without harm: a number is only
# compared with an earlier number of the same storage.
_last: dict[int, int] = {}


def state_of(tensor: Any) -> Hashable:
    """Return a key that differs from any earlier one if the tensor's values may differ.

    ``module.to()`` gives a parameter a new storage with the same version. The weak reference keeps
    the identity of a freed storage from being reused. The key of an inference tensor, which has no
    version, always differs.
    """
    version = object() if tensor.is_inference() else tensor._version
    return (
        version, _last_step(tensor), tensor.data_ptr(), _StorageWeakRef(tensor.untyped_storage()),
        tensor.dtype, tensor.device, tuple(tensor.shape), tensor.stride(),
    )  # fmt: skip


def _last_step(tensor: Any) -> int:
    """Return the number of the last optimizer step that may have written ``tensor``, or 0."""
    return _last.get(tensor.untyped_storage()._cdata, 0) if _last else 0


def _note(optimizer: Any, *_: Any) -> None:
    if torch.compiler.is_compiling():  # torch.compile would trace this hook
        return
    number = next(_numbers)
    for group in optimizer.param_groups:
        for tensor in group["params"]:
            if type(tensor) in (torch.Tensor, torch.nn.Parameter) and (
                tensor.layout is torch.strided
            ):
                _last[tensor.untyped_storage()._cdata] = number


register_optimizer_step_post_hook(_note)
