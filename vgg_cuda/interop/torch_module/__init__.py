"""``vgg_cuda.from_torch``: a PyTorch module whose inference runs on this package's kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def from_torch(module: torch.nn.Module, *, dtype: Any = None) -> torch.nn.Module:
    """A module like ``module`` whose inference runs on this package's kernels.

    ``module`` is a VGG: 3x3 convolutions, batch norms after them, ReLUs, 2x2 max-pools, an average
    pool, dense layers, a softmax, in any nesting and with any ``forward`` that calls one after the
    other: torchvision's, timm's, an ``nn.Sequential``, a slice such as ``vgg.features[:16]``. The
    result's class is a subclass of its class, and its layers and parameters are the same objects:
    ``state_dict()``, ``load_state_dict()``, ``to()``, ``eval()`` do what they did. Tensors are
    [N,C,H,W] in any memory format; spatial results are channels_last views.

    The kernels run in ``eval()`` where no gradient is needed: under ``torch.no_grad()`` or
    ``torch.inference_mode()``, or where no parameter requires grad. The original forward runs in
    training, under autocast, torch.compile, torch.export, torch.jit.trace and torch.func, in the
    capture of a CUDA graph, with hooks on layers, for another dtype or device than the parameters',
    and wherever it does in this call what the kernels cannot: every call, and this one, runs the
    forward's Python code on a tensor without values to see what it does. What that code does beside
    (counts, prints, writes to buffers) it does then, too: once here, and twice in a call where the
    original runs after it. ``result.calls`` counts both kinds of calls; ``result.why`` says why the
    last one ran on the original, and is None where it did not.

    ``dtype`` is what is computed in, by default the parameters' own: float32 on the CPU; float32,
    tf32, float16 or bfloat16 on GPUs. Weights are packed here, for the device where they are, and
    again in the next call after they changed, in place or not, or an optimizer made a step. Writes
    that PyTorch does not count need ``result.refresh()``: those through ``parameter.data``, of
    collectives such as ``torch.distributed.broadcast(parameter, 0)``, of replayed CUDA graphs, of a
    compiled step of an optimizer with ``fused=True``, and on a GPU those of running statistics that
    ``num_batches_tracked`` does not count. Parameters that are inference tensors are packed for
    every call.

    Raises ``UnsupportedError``, a ``ValueError`` that names the layer, for what is no such network,
    ``TypeError`` for what is no module, ``ValueError`` for an unknown dtype, ``DeviceError`` for
    parameters on a GPU that this package cannot use, ``ImportError`` without PyTorch.
    """
    try:
        from .accelerated import accelerate
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError('from_torch needs PyTorch: pip install "vgg-cuda[torch]"') from None
    result: torch.nn.Module = accelerate(module, dtype)
    return result
