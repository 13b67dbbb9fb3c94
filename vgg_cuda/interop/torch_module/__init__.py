"""``vgg_cuda.from_torch``: PyTorch modules whose inference runs on this package's kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def from_torch(
    module: torch.nn.Module, *, dtype: Any = None, arch: str | None = None
) -> torch.nn.Module:
    """Return a module like ``module`` whose inference runs on this package's kernels.

    ``module`` is a VGG: 3x3 convolutions, batch norms after them, ReLUs, 2x2 max-pools, an average
    pool, dense layers, a softmax. Before the first convolution, the images may be normalized per
    channel (``(x - mean) / std``) and their channels reversed. A slice may begin with max-pools.
    The layers may be nested, and ``forward`` may be any code that calls them one after the other:
    torchvision's, timm's, an ``nn.Sequential``, a slice such as ``vgg.features[4:16]``. It may
    return results of several layers, in lists, tuples, dicts and named tuples. The result's class
    is a subclass of ``module``'s class. Both share layers and parameters, so ``state_dict()``,
    ``load_state_dict()``, ``to()`` and ``eval()`` work as before. Tensors are [N,C,H,W] in any
    memory format; spatial results are channels_last views.

    The kernels run in ``eval()`` if no gradient is needed: under ``torch.no_grad()`` or
    ``torch.inference_mode()``, or if no parameter requires grad. The original forward runs

    - in training, with hooks on layers, and under autocast, torch.compile, torch.export,
      torch.jit.trace, torch.func and the capture of a CUDA graph,
    - for a dtype or device other than the parameters',
    - if the forward does something that the kernels cannot.

    Every call runs the forward's Python code on a tensor without values to see what it does, and so
    does this function. Side effects of that code (counts, prints, writes to buffers) happen at that
    time: once here, and twice in a call that then runs the original. ``result.calls`` counts both
    kinds of calls. ``result.why`` says why the last call ran the original, None if kernels ran.
    Each reason is also a ``FallbackWarning``, once for each module, with advice.
    ``print(result.report())`` lists all kinds of calls: what kernels computed, or the reason.

    ``dtype`` is the kernels' precision, by default the parameters' own: float32 on the CPU;
    float32, tf32, float16 or bfloat16 on GPUs. ``arch``, such as "sm_80", is the architecture that
    GPU kernels are planned for, by default that of the GPU; it has no effect on the CPU. Weights
    are packed here for their device, and again in the next call after they have changed. Writes
    that PyTorch does not count need ``result.refresh()``: writes through ``parameter.data``, by
    collectives such as ``torch.distributed.broadcast(parameter, 0)``, by replayed CUDA graphs, by a
    compiled step of an optimizer with ``fused=True``, and on a GPU updates of running statistics
    that ``num_batches_tracked`` does not count. Inference tensors are packed for every call.

    Raises ``UnsupportedError``, a ``ValueError`` that names the layer, for other networks,
    ``TypeError`` for other objects, ``ValueError`` for an unknown dtype or arch, and for an arch
    that the GPU cannot run, ``DeviceError`` for parameters on a GPU that this package cannot use,
    ``ImportError`` without PyTorch. Warns as :meth:`VGG.load` for parameters on a GPU.
    """
    try:
        from .accelerated import accelerate
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(
            'from_torch needs PyTorch: pip install ".[torch]" in a clone of vgg_cuda'
        ) from None
    result: torch.nn.Module = accelerate(module, dtype, arch)
    return result
