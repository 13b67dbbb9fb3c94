"""When a PyTorch module's own forward must run, whatever its layers are."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.modules import module as modules

from ..torch_watched import why_watched

_has_global_hooks: Any = modules._has_any_global_hook  # PyTorch has no types for it

HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip


def why_original(module: Any, x: Any) -> str | None:
    """Why ``module``'s own forward must run on ``x``; None where nothing speaks for it."""
    if type(x) not in (torch.Tensor, torch.nn.Parameter):
        return f"the input is a {type(x).__name__}, no plain tensor"
    if (why := why_watched(x.device.type)) is not None:
        return why
    if x.ndim != 4 or x.layout is not torch.strided or x.numel() == 0:
        return f"the input is no batch [N, C, H, W] of images: {x.layout}, {tuple(x.shape)}"
    return why_module(module, x.requires_grad)


def why_module(module: Any, x_requires_grad: bool) -> str | None:
    """Why ``module``, as it is, must run itself: training, gradients, hooks."""
    grad = torch.is_grad_enabled()
    if grad and x_requires_grad:
        return "a gradient is needed: the input requires grad"
    if _has_global_hooks():
        return "hooks are registered for all modules"
    for name, inner in module.named_modules():
        # A container's own flag means nothing but to its forward; that of vgg.features[:16] is set.
        if inner.training and not inner._modules:
            return f"{_at(name)} is in training mode: call eval()"
        if inner is not module and why_changed(inner):
            return f"{name} {why_changed(inner)}"
        if grad and any(p is not None and p.requires_grad for p in inner._parameters.values()):
            return (
                f"a gradient is needed: parameters of {_at(name)} require grad; call under "
                "torch.no_grad() or torch.inference_mode()"
            )
    return None


def why_changed(inner: Any) -> str | None:
    """What would be skipped, or seen by what is not meant to, if ``inner``'s call were recorded."""
    if any(getattr(inner, hooks) for hooks in HOOKS):
        return "has hooks"
    if inner._compiled_call_impl is not None:
        return "is compiled"
    return None


def _at(name: str) -> str:
    return name or "the module"
