"""Steps of optimizers, which with ``fused=True`` write parameters and raise no version of them.

Nor do other people's optimizers that write through pointers. Every optimizer's ``step()`` calls
hooks after it; one here notes the storages that it may have written. A step that torch.compile
compiled calls none.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

__all__ = ["last_step"]

_numbers = count(1)
# By the storage's address. One that was there before does no harm: a number is only compared with
# an earlier one of the same storage.
_last: dict[int, int] = {}


def last_step(tensor: Any) -> int:
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
