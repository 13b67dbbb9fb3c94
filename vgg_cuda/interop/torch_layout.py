"""Conversion between PyTorch's tensors [N,C,H,W] and this package's NHWC arrays."""

from __future__ import annotations

import torch


def is_channels_last(x: torch.Tensor) -> bool:
    """Return whether PyTorch's operators treat x [N,C,H,W] as channels_last.

    They look at the strides alone, which may have gaps. The loop is c10's
    ``is_channels_last_strides_2d``, so that results have PyTorch's strides even for sizes of 1.
    """
    size, stride = x.shape, x.stride()
    if stride[1] == 0:
        return False
    min_stride = 0
    for axis in (1, 3, 2, 0):
        if size[axis] == 0 or stride[axis] < min_stride:
            return False
        if axis == 0 and min_stride == stride[1]:
            return False  # every size except the batch is 1
        min_stride = stride[axis] * size[axis]
    return True


def to_nhwc(x: torch.Tensor) -> torch.Tensor:
    """Return x [N,C,H,W] as C-contiguous [N,H,W,C]: a view if x is channels_last, else a copy."""
    return x.permute(0, 2, 3, 1).contiguous()


def from_nhwc(y: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Return y [N,H,W,C] as [N,C,H,W]: a channels_last view, or a contiguous copy."""
    y = y.permute(0, 3, 1, 2)
    # `contiguous()` would keep the strides of sizes of 1
    return y if channels_last else y.clone(memory_format=torch.contiguous_format)
