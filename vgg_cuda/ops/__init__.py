"""The operations of a VGG, one signature each, on the device where x lives.

x is a NumPy or CuPy array, or one of another library that shares its memory through DLPack or
``__cuda_array_interface__``; the result is of the same kind and dtype, on the same device (an
array with ``__cuda_array_interface__`` alone gives CuPy's). Layouts are NHWC and KRSC. An x that is
not C-contiguous is copied first. x and ``out`` may be at any address; multiples of 16 bytes are
fastest. N = 0 gives an empty result. The same call gives the same bits every time; sums may be
added in another order for another shape, alignment or ``arch``. Every operation takes these
keywords:

- ``out``: where the result goes, and what is returned: an array of x's kind, of the result's shape
  and dtype, C-contiguous, writable, sharing no memory with the inputs (``relu`` and ``softmax``
  may be given x itself), on a GPU at a multiple of the dtype's size. JAX's arrays are read-only.
- ``device``: where to compute; by default where x is. Arrays in host memory are computed on the
  CPU, or with ``device="emulator"`` by the GPU's compiled kernels, executed on the CPU. Nothing is
  moved between host and GPU: ``device="cuda"`` for a NumPy array raises ``ValueError``.
- ``stream``: of a GPU: the work is enqueued there (a stream of CuPy or PyTorch, an object with
  ``__cuda_stream__``, or an address) instead of on the current stream, which for a PyTorch
  tensor is PyTorch's, for all else CuPy's. Nothing is waited for, but the stream that a
  ``__cuda_array_interface__`` names, as it demands. What other libraries share through DLPack is
  ordered behind the work that makes it; CuPy's arrays are the caller's to order where ``stream`` is
  not their own. Arrays must be kept until a ``stream`` that is given has used them.
- ``arch``: the GPU whose kernels are planned, "sm_80" for example; by default the device's own, on
  the emulator "sm_80".
- ``return_stats``: returns (result, stats), with the ``kernel``'s name, its ``plan`` and the
  emulator's ``counters`` of this call; see :class:`vgg_cuda.backends.Stats`.

dtypes are float32 on the CPU, float16, float32 and bfloat16 (with ``ml_dtypes``; PyTorch's, too)
elsewhere. Sums are float32 and rounded to the dtype once; beyond float16 is infinite, as IEEE 754
says. There ``conv3x3`` and ``linear`` have another precision, ``dtype="tf32"``, for float32 arrays:
both factors of every product are rounded to eleven binary digits (ties away from zero) for the
tensor cores; sums and result are float32. (A NaN in x that only its last 13 bits tell from an
infinity becomes one; arithmetic makes none of these.)

All raise ``ValueError`` for shapes, values, devices and layouts of ``out`` that do not fit,
``TypeError`` for dtypes and array kinds, ``DeviceError`` (a ``RuntimeError``) for a device that is
not there, ``MemoryError``, saying what the result needs, where the device's memory does not do:
before anything is allocated on the emulator and with CuPy's default memory pool.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..arrays import numpy_dtype
from ..backends import Array, PackedLinear
from ..backends.options import options as emulator_options
from ..images.presets import Preset
from .arguments import Call, Device, computed_in, filters, pixels_preset
from .packing import check_linear, check_packed, is_packed, memory_of, pack_conv3x3, pack_linear

__all__ = [
    "adaptive_maxpool",
    "avgpool",
    "conv3x3",
    "convert",
    "emulator_options",
    "fused_conv1_block",
    "linear",
    "maxpool2x2",
    "pack_conv3x3",
    "pack_linear",
    "relu",
    "softmax",
]


def conv3x3(
    x: Any, w: Any, bias: Any = None, *, relu: bool = False, pool: bool = False,
    dtype: Any = None, preset: str | Preset | None = None, out: Any = None, stream: Any = None,
    device: Device = None, arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """3x3 convolution, stride 1, padding 1, + bias, then ReLU and a 2x2 max-pool on request.

    x [N,H,W,C] with N >= 0 and H, W, C >= 1; w [K,3,3,C] (KRSC) and bias [K], floating point, in
    host memory or beside x, or w as ``pack_conv3x3`` of the backend returned it (then no bias).
    Returns [N,H,W,K], or [N,H//2,W//2,K] with ``pool``.

    ``dtype`` is what is computed in, by default x's, or packed w's where x may have it: for float32
    also "tf32". Images, x [N,H,W,3]
    of uint8 or float32, are read as they are, for a result of any ``dtype`` (of uint8 by default
    the backend's first). ``preset``, for uint8 RGB alone, normalizes the pixels on the way: the
    padding is zero after that, and w reads the preset's order of channels.
    """
    with Call(
        "conv3x3", x, rank=4, device=device, arch=arch, stream=stream, out=out,
        return_stats=return_stats, uint8=True,
    ) as call:  # fmt: skip
        computed = computed_in(call, dtype, w)
        call.at_least(2 if pool else 1)
        chosen = pixels_preset(call, preset)
        N, H, W, C = call.x.shape
        K, pack, given = filters(call, w, bias, C, computed)

        def compute(x: Array, out: Array | None) -> Array:
            return call.backend.conv3x3(x, pack(), relu=relu, pool=pool, preset=chosen, out=out)

        shape = (N, H // 2, W // 2, K) if pool else (N, H, W, K)
        return call.run(shape, compute, dtype=numpy_dtype(computed).name, apart=given)


def fused_conv1_block(
    x: Any, w1: Any, bias1: Any, w2: Any, bias2: Any, *, dtype: Any = None,
    preset: str | Preset | None = None, out: Any = None, stream: Any = None,
    device: Device = None, arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """``conv3x3(relu=True)`` with w1, then ``conv3x3(relu=True, pool=True)`` with w2.

    x [N,H,W,3] with N >= 0 and H, W >= 2; w1 [K1,3,3,3], bias1 [K1], w2 [K2,3,3,K1] and bias2 [K2],
    all as for ``conv3x3``, biases perhaps None. Returns [N,H//2,W//2,K2].

    ``dtype`` and ``preset`` as for ``conv3x3`` of w1. The tensor in between is rounded to the
    dtype. For sm_90a, float16 and bfloat16, and K1 = K2 = 64 one kernel does it all and that tensor
    is never in memory; elsewhere two convolutions do, and the stats are the second's.
    """
    with Call(
        "fused_conv1_block", x, rank=4, device=device, arch=arch, stream=stream, out=out,
        return_stats=return_stats, uint8=True,
    ) as call:  # fmt: skip
        computed = computed_in(call, dtype, w1)
        call.at_least(2)
        chosen = pixels_preset(call, preset)
        N, H, W, C = call.x.shape
        if C != 3:
            raise ValueError(
                f"fused_conv1_block: x: expected [N, H, W, 3] (NHWC), got {call.x.shape}"
            )
        K1, pack1, given1 = filters(call, w1, bias1, C, computed, "1")
        K2, pack2, given2 = filters(call, w2, bias2, K1, computed, "2")

        def compute(x: Array, out: Array | None) -> Array:
            return call.backend.fused_conv1_block(x, pack1(), pack2(), preset=chosen, out=out)

        shape, result = (N, H // 2, W // 2, K2), numpy_dtype(computed).name
        return call.run(shape, compute, dtype=result, apart={**given1, **given2})


def linear(
    x: Any, w: Any, bias: Any = None, *, relu: bool = False, dtype: Any = None, out: Any = None,
    stream: Any = None, device: Device = None, arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """Dense layer, x @ w.T + bias, then ReLU on request.

    x [N,C] with C >= 1; w [K,C] and bias [K], floating point, in host memory or beside x, or w as
    ``pack_linear`` of the backend returned it (then no bias). ``dtype`` is what is computed in, by
    default x's or packed w's, for float32 also "tf32". Returns [N,K].
    """
    with Call(
        "linear", x, rank=2, device=device, arch=arch, stream=stream, out=out,
        return_stats=return_stats,
    ) as call:  # fmt: skip
        computed = computed_in(call, dtype, w)
        N, C = call.x.shape
        pack: Callable[[], PackedLinear]
        if is_packed(w, "linear"):
            K, pack, given = w.out_features, lambda: w, memory_of(w)
            if w.in_features != C:
                raise ValueError(f"linear: x: expected [N, {w.in_features}], got {call.x.shape}")
            check_packed("linear", w, bias, call.backend, computed)
        else:
            raw = check_linear(w, bias, C, call.backend.device)
            K, given = raw.w.shape[0], raw.given
            pack = partial(call.backend.pack_linear, raw.w, raw.bias, computed)

        def compute(x: Array, out: Array | None) -> Array:
            return call.backend.linear(x, pack(), relu=relu, out=out)

        return call.run((N, K), compute, apart=given)


def maxpool2x2(
    x: Any, *, out: Any = None, stream: Any = None, device: Device = None,
    arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """2x2 max-pool, stride 2; an odd last row or column is dropped; NaN propagates.

    x [N,H,W,C] with H, W >= 2. Returns [N,H//2,W//2,C].
    """
    with Call(
        "maxpool2x2", x, rank=4, device=device, arch=arch, stream=stream, out=out,
        return_stats=return_stats,
    ) as call:  # fmt: skip
        call.at_least(2)
        N, H, W, C = call.x.shape
        return call.run((N, H // 2, W // 2, C), lambda x, out: call.backend.maxpool2x2(x, out=out))


def avgpool(
    x: Any, grid: int = 7, *, out: Any = None, stream: Any = None, device: Device = None,
    arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """Adaptive average pool to ``grid`` x ``grid``, with PyTorch's bins.

    Bin i of an axis of length H covers floor(i*H/grid) up to ceil((i+1)*H/grid).
    x [N,H,W,C] with H, W >= 1. Returns [N,grid,grid,C].
    """
    with Call(
        "avgpool", x, rank=4, device=device, arch=arch, stream=stream, out=out,
        return_stats=return_stats,
    ) as call:  # fmt: skip
        call.at_least(1)
        size = call.grid(grid)
        N, _, _, C = call.x.shape
        return call.run((N, size, size, C), lambda x, out: call.backend.avgpool(x, size, out=out))


def adaptive_maxpool(
    x: Any, grid: int = 1, *, out: Any = None, stream: Any = None, device: Device = None,
    arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """Adaptive max-pool to ``grid`` x ``grid``, of ``avgpool``'s bins; NaN propagates.

    With ``grid`` 1 the maximum of all pixels, as Keras' GlobalMaxPooling2D.
    x [N,H,W,C] with H, W >= 1. Returns [N,grid,grid,C].
    """
    with Call(
        "adaptive_maxpool", x, rank=4, device=device, arch=arch, stream=stream, out=out,
        return_stats=return_stats,
    ) as call:  # fmt: skip
        call.at_least(1)
        size = call.grid(grid)
        N, _, _, C = call.x.shape
        return call.run(
            (N, size, size, C), lambda x, out: call.backend.adaptive_maxpool(x, size, out=out)
        )


def relu(
    x: Any, *, out: Any = None, stream: Any = None, device: Device = None,
    arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """max(x, 0) of x of any shape, [N,H,W,C] or [N,C] in a VGG; NaN propagates."""
    with Call(
        "relu", x, rank=None, device=device, arch=arch, stream=stream, out=out,
        return_stats=return_stats,
    ) as call:  # fmt: skip
        return call.run(call.x.shape, lambda x, out: call.backend.relu(x, out=out), in_place=True)


def softmax(
    x: Any, *, out: Any = None, stream: Any = None, device: Device = None,
    arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """exp(x - max(x)) / sum(exp(x - max(x))) over the last axis.

    x [N,C] with C >= 1. Returns [N,C].
    """
    with Call(
        "softmax", x, rank=2, device=device, arch=arch, stream=stream, out=out,
        return_stats=return_stats,
    ) as call:  # fmt: skip
        if call.x.shape[1] < 1:
            raise ValueError(f"softmax: x: expected [N, C] with C >= 1, got {call.x.shape}")
        return call.run(
            call.x.shape, lambda x, out: call.backend.softmax(x, out=out), in_place=True
        )


def convert(
    x: Any, dtype: Any = None, *, source: str = "NHWC", target: str = "NHWC", out: Any = None,
    stream: Any = None, device: Device = None, arch: str | None = None,
    return_stats: bool = False,
) -> Any:  # fmt: skip
    """x in another dtype, and in the layout ``target`` where it is in ``source``.

    x is floating point or uint8: of any shape where the layouts are the same, else [N,H,W,C] for
    "NHWC" or [N,C,H,W] for "NCHW". ``dtype`` is floating point, by default x's, of uint8 the
    backend's first; on the CPU also float16 and float64. Values are rounded to nearest even,
    beyond the dtype's range they are infinite. Returns a new array, even where nothing changes.
    """
    for name, layout in (("source", source), ("target", target)):
        if layout not in ("NHWC", "NCHW"):
            raise ValueError(f"convert: {name}: expected NHWC or NCHW, got {layout!r}")
    on_cpu = ("float32", "float16", "float64", "bfloat16")
    with Call(
        "convert", x, rank=None if source == target else 4, device=device, arch=arch,
        stream=stream, out=out, return_stats=return_stats, uint8=True, on_cpu=on_cpu,
    ) as call:  # fmt: skip
        name = call.result_dtype(dtype)
        shape = call.x.shape
        if source != target:
            N, A, B, C = shape
            shape = (N, C, A, B) if target == "NCHW" else (N, B, C, A)
        return call.run(
            shape,
            lambda x, out: call.backend.convert(x, name, source, target, out=out),
            dtype=name,
        )
