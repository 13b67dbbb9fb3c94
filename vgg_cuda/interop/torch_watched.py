"""When operations must be PyTorch's own, whatever they are: something else follows them."""

from __future__ import annotations

from typing import Any

import torch
from torch import overrides
from torch.autograd import forward_ad
from torch.utils._device import DeviceContext

# what PyTorch has no types for
_is_tracing: Any = getattr(torch.jit, "is_tracing")  # noqa: B009
_function_modes: Any = overrides._get_current_function_mode_stack


def why_watched(device: str) -> str | None:
    """Why operations must be PyTorch's now: something else follows or changes them."""
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
