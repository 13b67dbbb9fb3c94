"""Gradients of the operators in ``torch_ops.py``, by PyTorch's own formulas and kernels.

All are made of differentiable operators, so that they have gradients themselves.
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
    """Of x [N,C,H,W], w [K,C,3,3] and bias [K], where ``needed``, else None.

    The convolution is computed again for the places where ReLU and pool let the gradient through:
    ties are settled as PyTorch's own convolution would have them.
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
    """Of x [N,C,H,W]; ``grad`` [N,C,H//2,W//2]."""
    window = [2, 2], [2, 2], [0, 0], [1, 1], False  # kernel, stride, padding, dilation, ceil
    _, indices = _aten.max_pool2d_with_indices(x, *window)
    found: Tensor = _aten.max_pool2d_with_indices_backward(grad, x, *window, indices)
    return found


def linear_gradients(
    grad: Tensor, x: Tensor, w: Tensor, y: Tensor | None, *, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Of x [N,C], w [K,C] and bias [K], where ``needed``, else None; y: the result of a ReLU."""
    if y is not None:
        grad = _aten.threshold_backward(grad, y, 0)
    return (
        grad @ w if needed[0] else None,
        grad.t() @ x if needed[1] else None,
        grad.sum(0) if needed[2] else None,
    )
