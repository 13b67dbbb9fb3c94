"""Conditions under which PyTorch must run operations or modules itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import overrides
from torch.autograd import forward_ad
from torch.nn.modules import module as modules
from torch.utils._device import DeviceContext

PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)

# PyTorch has no type hints for these functions.
_is_tracing: Any = getattr(torch.jit, "is_tracing")  # noqa: B009
_function_modes: Any = overrides._get_current_function_mode_stack
_has_global_hooks: Any = getattr(modules, "_has_any_global_hook", None)
if _has_global_hooks is None:  # PyTorch 2.6
    _GLOBAL_HOOKS: Any = [
        getattr(modules, f"_global_{name}_hooks")
        for name in ("forward", "forward_pre", "backward", "backward_pre")
    ]

    def _has_global_hooks() -> bool:
        return any(_GLOBAL_HOOKS)


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def why_watched(device: str) -> str | None:
    """Return what follows or changes PyTorch's operations at the moment; None if nothing does."""
    if _is_tracing():
        return "torch.jit traces"
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "a transform of torch.func is active"
    if forward_ad._current_level >= 0:
        return "forward-mode derivatives are computed"
    if torch._C._len_torch_dispatch_stack() or not all(
        type(mode) is DeviceContext for mode in _function_modes()
    ):
        return "a mode that follows operations is active"
    if device == "cuda" and torch.cuda.is_current_stream_capturing():
        return "a CUDA graph is captured"  # CuPy would allocate in it
    if device in ("cpu", "cuda") and torch.is_autocast_enabled(device):
        return "autocast is on"
    return None


def why_original(module: Any, x: Any) -> str | None:
    """Return why ``module``'s own forward must run on ``x``; None if nothing requires it."""
    if type(x) not in PLAIN_TENSORS:
        return f"expected a plain tensor as input, got {type(x).__name__}"
    if (why := why_watched(x.device.type)) is not None:
        return why
    if x.ndim != 4 or x.layout is not torch.strided or x.numel() == 0:
        return f"expected a batch [N, C, H, W] of images, got {x.layout}, {tuple(x.shape)}"
    grad = torch.is_grad_enabled()
    if grad and x.requires_grad:
        return "a gradient is needed: the input requires grad"
    if _has_global_hooks():
        return "hooks are registered for all modules"
    for name, inner in module.named_modules():
        # A container's flag concerns its own forward alone; new slices of a Sequential have it set.
        if inner.training and not inner._modules:
            return f"{name or 'the module'} is in training mode: call eval()"
        if inner is not module and why_changed(inner):
            return f"{name} {why_changed(inner)}"
        if grad and any(p is not None and p.requires_grad for p in inner._parameters.values()):
            return (
                f"a gradient is needed: parameters of {name or 'the module'} require grad; call "
                "under torch.no_grad() or torch.inference_mode()"
            )
    return None


def why_changed(inner: Any) -> str | None:
    """Return why a call of ``inner`` must not be skipped or see a tensor without values."""
    if any(getattr(inner, hooks) for hooks in _HOOKS):
        return "has hooks"
    if inner._compiled_call_impl is not None:
        return "is compiled"
    return None
