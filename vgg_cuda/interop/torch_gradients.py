"""Gradients of the operators in ``torch_ops.py``, by PyTorch's formulas and kernels.

They consist of differentiable operators, so they have gradients themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)

Tensor = torch.Tensor

_aten = torch.ops.aten


def conv3x3_gradients(
    grad: Tensor, x: Tensor, w: Tensor, bias: Tensor | None, *, relu: bool, pool: bool,
    needed: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """Return the gradients of x [N,C,H,W], w [K,C,3,3] and bias [K]; None if not ``needed``.

    The convolution runs again to find where ReLU and pool pass the gradient: PyTorch's own
    convolution decides ties.
    """
    if relu or pool:
        z = F.conv2d(x, w, bias, padding=1)
        if pool:
            grad = maxpool2x2_gradient(grad, F.relu(z) if relu else z)
        if relu:
            grad = _aten.threshold_backward(grad, z, 0)
    sizes = None if bias is None else [w.shape[0]]
    found: tuple[Tensor | None, Tensor | None, Tensor | None] = _aten.convolution_backward(
        grad, x, w, sizes, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, list(needed)
    )
    return found


def maxpool2x2_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of x [N,C,H,W] for ``grad`` [N,C,H//2,W//2]."""
    window = [2, 2], [2, 2], [0, 0], [1, 1], False  # kernel, stride, padding, dilation, ceil
    _, indices = _aten.max_pool2d_with_indices(x, *window)
    found: Tensor = _aten.max_pool2d_with_indices_backward(grad, x, *window, indices)
    return found


def linear_gradients(
    grad: Tensor, x: Tensor, w: Tensor, y: Tensor | None, *, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of x [N,C], w [K,C], bias [K]; None if not ``needed``.

    y is the result if a ReLU is fused.
    """
    if y is not None:
        grad = _aten.threshold_backward(grad, y, 0)
    return (
        grad @ w if needed[0] else None,
        grad.t() @ x if needed[1] else None,
        grad.sum(0) if needed[2] else None,
    )
