"""Memory formats: PyTorch's tensors are [N,C,H,W], this package's operations read NHWC."""

from __future__ import annotations

import torch


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether PyTorch's operators take x [N,C,H,W] for a channels_last tensor.

    By its strides alone, which may have gaps; c10's ``is_channels_last_strides_2d`` step by step,
    so that results have the strides that PyTorch would give them where sizes are 1, too.
    """
    size, stride = x.shape, x.stride()
    if stride[1] == 0:
        return False
    least = 0
    for axis in (1, 3, 2, 0):
        if size[axis] == 0 or stride[axis] < least:
            return False
        if axis == 0 and least == stride[1]:
            return False  # all sizes but the batch are 1
        least = stride[axis] * size[axis]
    return True


def to_nhwc(x: torch.Tensor) -> torch.Tensor:
    """X [N,C,H,W] as a C-contiguous [N,H,W,C]: a view where x is channels_last, else a copy."""
    return x.permute(0, 2, 3, 1).contiguous()


def from_nhwc(y: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Y [N,H,W,C] as [N,C,H,W]: a channels_last view, or a contiguous copy."""
    y = y.permute(0, 3, 1, 2)
    # not `contiguous()`, which leaves the strides of sizes of 1 as they are
    return y if channels_last else y.clone(memory_format=torch.contiguous_format)
