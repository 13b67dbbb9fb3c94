"""Conditions under which this package's kernels may compute for PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from ...arrays import dtype_name
from ...backends import DeviceError
from ..torch_conditions import PLAIN_TENSORS, why_watched
from ..torch_ops import backend_of


def why_not(x: Any, params: Iterable[Any]) -> str | None:
    """Return why PyTorch must compute with x and ``params``; None if kernels may.

    Reasons are gradients, autocast, transforms, modes that follow operators, subclasses of tensors,
    and devices and dtypes without a backend. The only shape checked is an empty x.
    """
    tensors = [x, *(each for each in params if each is not None)]
    if not all(type(each) in PLAIN_TENSORS for each in tensors):
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
