"""Whether this package's kernels may compute something for PyTorch now, or why not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from ...arrays import dtype_name
from ...backends import DeviceError
from ..torch_ops import backend_of
from ..torch_watched import why_watched

_PLAIN = (torch.Tensor, torch.nn.Parameter)


def why_not(x: Any, params: Iterable[Any]) -> str | None:
    """What of x, its weights or the mode that the caller is in forbids it; None if nothing does.

    Forbidden is whatever PyTorch would do more than compute for: gradients, autocast, transforms
    and modes that watch its operators, subclasses of tensors, devices and dtypes that no backend
    has. Shapes are not looked at, except that an empty x is PyTorch's.
    """
    tensors = [x, *(each for each in params if each is not None)]
    if not all(type(each) in _PLAIN for each in tensors):
        return "not plain tensors"
    if torch.is_grad_enabled() and any(each.requires_grad for each in tensors):
        return "a gradient is needed"
    if watched := why_watched(x.device.type):
        return watched
    if any(each.layout != torch.strided for each in tensors):
        return "not dense tensors"
    if any(each.dtype != x.dtype or each.device != x.device for each in tensors):
        return "several dtypes or devices"
    if x.device.type not in ("cpu", "cuda"):
        return f"device {x.device.type}"
    try:
        backend = backend_of(x.device)
    except DeviceError:
        return f"device {x.device.type} cannot be used by vgg_cuda"
    if dtype_name(x.dtype) not in backend.dtypes:
        return f"{x.dtype} on {x.device.type}"
    return "an empty batch" if x.numel() == 0 else None
