"""``torch.ops.vgg_cuda``: conv3x3, maxpool2x2 and linear as PyTorch operators.

    import vgg_cuda.interop.torch_ops  # registers them
    y = torch.ops.vgg_cuda.conv3x3(x, w, bias, relu=True, pool=True)

The operators take PyTorch's shapes, x [N,C,H,W], w [K,C,3,3] and [K,C], in any memory format.
Results are channels_last if x is, else contiguous; only an x that is not channels_last is copied.
They compute on x's device: float32 on the CPU; float16, float32 and bfloat16 on a GPU, on PyTorch's
current stream. w and bias have x's dtype and device and are packed once, see ``torch_cache.py``.
Sums are float32.

Fake kernels serve tracing and ``torch.export``. Gradients follow PyTorch's formulas and can be
differentiated again. Wrong shapes raise ``ValueError``, wrong dtypes ``TypeError``. Autocast does
not change dtypes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError(
        'PyTorch is not installed: pip install ".[torch]" in a clone of vgg_cuda'
    ) from error

from .. import ops
from ..arrays import dtype_name
from ..backends import Backend, get_backend
from .torch_cache import packed_conv3x3, packed_linear
from .torch_gradients import conv3x3_gradients, linear_gradients, maxpool2x2_gradient
from .torch_layout import from_nhwc, is_channels_last, to_nhwc

__all__ = ["backend_of", "conv3x3", "linear", "maxpool2x2"]

Tensor = torch.Tensor

_DEVICES = ("cpu", "cuda")


@cache
def backend_of(device: torch.device, arch: str | None = None) -> Backend:
    """Return the backend for tensors on ``device``; raises ``DeviceError`` without one.

    ``arch`` has no effect on the CPU.
    """
    return get_backend(device, arch if device.type == "cuda" else None)


@torch.library.custom_op(
    "vgg_cuda::conv3x3", mutates_args=(), device_types=_DEVICES,
    schema="(Tensor x, Tensor w, Tensor? bias=None, bool relu=False, bool pool=False) -> Tensor",
)  # fmt: skip
def conv3x3(
    x: Tensor, w: Tensor, bias: Tensor | None = None, relu: bool = False, pool: bool = False
) -> Tensor:
    """Return a 3x3 convolution (stride 1, padding 1), then ReLU and 2x2 max-pool on request.

    x [N,C,H,W], w [K,C,3,3], bias [K] -> [N,K,H,W], or [N,K,H//2,W//2] with ``pool``.
    """
    _check_conv3x3(x, w, bias, pool)
    backend = _backend_for("conv3x3", x)
    packed = packed_conv3x3(backend, w, bias)
    y = ops.conv3x3(to_nhwc(x.detach()), packed, relu=relu, pool=pool)
    return from_nhwc(y, is_channels_last(x))


@conv3x3.register_fake
def _(
    x: Tensor, w: Tensor, bias: Tensor | None = None, relu: bool = False, pool: bool = False
) -> Tensor:
    _check_conv3x3(x, w, bias, pool)
    N, _, H, W = x.shape
    K = w.shape[0]
    return _empty_like(x, (N, K, H // 2, W // 2) if pool else (N, K, H, W))


@torch.library.custom_op(
    "vgg_cuda::maxpool2x2", mutates_args=(), device_types=_DEVICES, schema="(Tensor x) -> Tensor"
)
def maxpool2x2(x: Tensor) -> Tensor:
    """Return a 2x2 max-pool of stride 2; an odd last row or column is dropped; NaN propagates.

    x [N,C,H,W] -> [N,C,H//2,W//2].
    """
    _check_image("maxpool2x2", x, 2)
    _backend_for("maxpool2x2", x)
    return from_nhwc(ops.maxpool2x2(to_nhwc(x.detach())), is_channels_last(x))


@maxpool2x2.register_fake
def _(x: Tensor) -> Tensor:
    _check_image("maxpool2x2", x, 2)
    N, C, H, W = x.shape
    return _empty_like(x, (N, C, H // 2, W // 2))


@torch.library.custom_op(
    "vgg_cuda::linear", mutates_args=(), device_types=_DEVICES,
    schema="(Tensor x, Tensor w, Tensor? bias=None, bool relu=False) -> Tensor",
)  # fmt: skip
def linear(x: Tensor, w: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """Return x @ w.T + bias, then ReLU on request: x [N,C], w [K,C], bias [K] -> [N,K]."""
    _check_linear(x, w, bias)
    packed = packed_linear(_backend_for("linear", x), w, bias)
    y: Tensor = ops.linear(x.detach().contiguous(), packed, relu=relu)
    return y


@linear.register_fake
def _(x: Tensor, w: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    _check_linear(x, w, bias)
    return x.new_empty((x.shape[0], w.shape[0]))


# ---- Gradients ----


def _save_conv3x3(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w, bias, ctx.relu, ctx.pool = inputs
    ctx.save_for_backward(x, w, bias)


def _conv3x3_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, w, bias = ctx.saved_tensors
    found = conv3x3_gradients(grad, x, w, bias, relu=ctx.relu, pool=ctx.pool, needed=_needed(ctx))
    return *found, None, None


conv3x3.register_autograd(_conv3x3_backward, setup_context=_save_conv3x3)


def _save_maxpool2x2(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _maxpool2x2_backward(ctx: Any, grad: Tensor) -> Tensor:
    return maxpool2x2_gradient(grad, *ctx.saved_tensors)


maxpool2x2.register_autograd(_maxpool2x2_backward, setup_context=_save_maxpool2x2)


def _save_linear(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w, _, ctx.relu = inputs
    ctx.save_for_backward(x, w, output if ctx.relu else None)


def _linear_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, w, y = ctx.saved_tensors
    return *linear_gradients(grad, x, w, y, needed=_needed(ctx)), None


linear.register_autograd(_linear_backward, setup_context=_save_linear)


def _needed(ctx: Any) -> tuple[bool, ...]:
    """Return which of x, w and bias need a gradient; PyTorch omits a bias of None."""
    return (*ctx.needs_input_grad, False)[:3]


# ---- Checks, for real and fake tensors ----


def _check_conv3x3(x: Tensor, w: Tensor, bias: Tensor | None, pool: bool) -> None:
    _check_image("conv3x3", x, 2 if pool else 1)
    if w.ndim != 4 or w.shape[1] != x.shape[1] or tuple(w.shape[2:]) != (3, 3):
        raise ValueError(
            f"vgg_cuda::conv3x3: w: expected [K, {x.shape[1]}, 3, 3], got {tuple(w.shape)}"
        )
    _check_parameters("conv3x3", x, w, bias)


def _check_linear(x: Tensor, w: Tensor, bias: Tensor | None) -> None:
    if x.ndim != 2:
        raise ValueError(f"vgg_cuda::linear: x: expected [N, C], got {tuple(x.shape)}")
    if w.ndim != 2 or w.shape[1] != x.shape[1]:
        raise ValueError(f"vgg_cuda::linear: w: expected [K, {x.shape[1]}], got {tuple(w.shape)}")
    _check_parameters("linear", x, w, bias)


def _check_image(op: str, x: Tensor, size: int) -> None:
    if x.ndim != 4 or x.shape[1] < 1 or x.shape[2] < size or x.shape[3] < size:
        raise ValueError(
            f"vgg_cuda::{op}: x: expected [N, C, H, W] with C >= 1 and H, W >= {size}, "
            f"got {tuple(x.shape)}"
        )


def _check_parameters(op: str, x: Tensor, w: Tensor, bias: Tensor | None) -> None:
    if w.shape[0] < 1:
        raise ValueError(f"vgg_cuda::{op}: w: expected K >= 1, got {tuple(w.shape)}")
    if bias is not None and (bias.ndim != 1 or bias.shape[0] != w.shape[0]):
        raise ValueError(f"vgg_cuda::{op}: bias: expected [{w.shape[0]}], got {tuple(bias.shape)}")
    for name, tensor in (("w", w), ("bias", bias)):
        if tensor is not None and (tensor.dtype != x.dtype or tensor.device != x.device):
            raise TypeError(
                f"vgg_cuda::{op}: {name}: expected {x.dtype} on {x.device} as x, "
                f"got {tensor.dtype} on {tensor.device}"
            )


def _backend_for(op: str, x: Tensor) -> Backend:
    backend = backend_of(x.device)
    if dtype_name(x.dtype) not in backend.dtypes:
        raise TypeError(
            f"vgg_cuda::{op}: x: expected dtype {' or '.join(backend.dtypes)} on {x.device}, "
            f"got {x.dtype}"
        )
    return backend


def _empty_like(x: Tensor, shape: tuple[Any, ...]) -> Tensor:
    memory_format = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format)
