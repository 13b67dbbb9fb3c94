"""The operations of a VGG, one function each, on the device where x lives.

x is a NumPy, CuPy, PyTorch or JAX array, or another that supports DLPack or
``__cuda_array_interface__``. The result has x's kind, dtype and device. Layouts are NHWC and KRSC.
All operations take these keywords:

- ``out``: array for the result, which is then returned: of the same kind as x, C-contiguous, not
  overlapping the inputs (``relu``, ``affine`` and ``softmax`` accept x itself).
- ``stream``: CUDA stream of the work, by default the current stream of CuPy or PyTorch.
- ``device``: device of the computation, by default that of x. No data moves between host and GPU;
  ``device="emulator"`` runs the GPU kernels on the CPU, for arrays in host memory.
- ``arch``: GPU architecture whose kernels are used, such as "sm_80"; by default the device's.
- ``return_stats``: return (result, :class:`vgg_cuda.backends.Stats`).

All raise ``ValueError`` for shapes, values and devices, ``TypeError`` for dtypes and array kinds,
``DeviceError`` for an unavailable device and ``KernelError`` for a failing GPU (both are a
``RuntimeError``), and ``MemoryError`` if the result does not fit. docs/operations.md describes
memory, streams, dtypes and rounding in detail.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..arrays import numpy_dtype
from ..backends import Array, PackedLinear
from ..backends.options import options as emulator_options
from ..images.presets import Preset
from .arguments import Call, Device, compute_precision, conv_filters, pixels_preset
from .packing import (
    check_affine,
    check_linear,
    check_packed,
    is_packed,
    memory_of,
    pack_conv3x3,
    pack_linear,
)

__all__ = [
    "adaptive_maxpool",
    "affine",
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
    """Apply a 3x3 convolution, stride 1, padding 1, then optional bias, ReLU and 2x2 max-pool.

    x is [N,H,W,C] with H, W, C >= 1. w [K,3,3,C] (KRSC) and bias [K] are floating point, in host
    memory or on the device of x; or w is the result of ``pack_conv3x3`` and bias is None. Returns
    [N,H,W,K], or [N,H//2,W//2,K] with ``pool``.

    ``dtype`` is the precision: by default that of packed w if x allows it, else the dtype of x (for
    uint8 the backend's first). float32 x also allows "tf32"; images, uint8 or float32 x [N,H,W,3],
    allow any precision. ``preset`` normalizes uint8 RGB pixels before the zero padding; w then has
    the preset's channel order.
    """
    with Call("conv3x3", x, out, stream, device, arch, return_stats, rank=4, uint8=True) as call:
        precision = compute_precision(call, dtype, w)
        call.check_size(2 if pool else 1)
        chosen = pixels_preset(call, preset)
        N, H, W, C = call.x.shape
        K, pack, sources = conv_filters(call, w, bias, C, precision)

        def compute(x: Array, *, out: Array | None) -> Array:
            return call.backend.conv3x3(x, pack(), relu=relu, pool=pool, preset=chosen, out=out)

        shape = (N, H // 2, W // 2, K) if pool else (N, H, W, K)
        return call.run(shape, compute, dtype=numpy_dtype(precision).name, must_not_alias=sources)


def fused_conv1_block(
    x: Any, w1: Any, bias1: Any, w2: Any, bias2: Any, *, dtype: Any = None,
    preset: str | Preset | None = None, out: Any = None, stream: Any = None,
    device: Device = None, arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """Apply ``conv3x3(relu=True)`` with w1, then ``conv3x3(relu=True, pool=True)`` with w2.

    x is [N,H,W,3] with H, W >= 2; w1 [K1,3,3,3], bias1 [K1], w2 [K2,3,3,K1], bias2 [K2], ``dtype``
    and ``preset`` are as for ``conv3x3``. Returns [N,H//2,W//2,K2].

    For sm_90a, float16 or bfloat16, and K1 = K2 = 64, one kernel computes both convolutions, and
    the tensor between them, rounded to the dtype, never leaves the chip. Otherwise two kernels run,
    and the stats describe the second.
    """
    with Call(
        "fused_conv1_block", x, out, stream, device, arch, return_stats, rank=4, uint8=True
    ) as call:
        precision = compute_precision(call, dtype, w1)
        call.check_size(2)
        chosen = pixels_preset(call, preset)
        N, H, W, C = call.x.shape
        if C != 3:
            raise ValueError(
                f"fused_conv1_block: x: expected [N, H, W, 3] (NHWC), got {call.x.shape}"
            )
        K1, pack1, sources1 = conv_filters(call, w1, bias1, C, precision, "1")
        K2, pack2, sources2 = conv_filters(call, w2, bias2, K1, precision, "2")

        def compute(x: Array, *, out: Array | None) -> Array:
            return call.backend.fused_conv1_block(x, pack1(), pack2(), preset=chosen, out=out)

        shape, name = (N, H // 2, W // 2, K2), numpy_dtype(precision).name
        return call.run(shape, compute, dtype=name, must_not_alias=sources1 | sources2)


def linear(
    x: Any, w: Any, bias: Any = None, *, relu: bool = False, dtype: Any = None, out: Any = None,
    stream: Any = None, device: Device = None, arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """Apply a dense layer, x @ w.T + bias, then an optional ReLU.

    x is [N,C]. w [K,C] and bias [K] are floating point, in host memory or on the device of x; or w
    is the result of ``pack_linear`` and bias is None. ``dtype`` is the precision: by default that
    of packed w if x allows it, else the dtype of x. float32 x also allows "tf32". Returns [N,K].
    """
    with Call("linear", x, out, stream, device, arch, return_stats, rank=2) as call:
        precision = compute_precision(call, dtype, w)
        N, C = call.x.shape
        pack: Callable[[], PackedLinear]
        if is_packed(w, "linear"):
            K, pack, sources = w.out_features, lambda: w, memory_of(w)
            if w.in_features != C:
                raise ValueError(f"linear: x: expected [N, {w.in_features}], got {call.x.shape}")
            check_packed("linear", w, bias, call.backend, precision)
        else:
            raw = check_linear(w, bias, C, call.backend.device)
            K, sources = raw.w.shape[0], raw.sources
            pack = partial(call.backend.pack_linear, raw.w, raw.bias, precision)

        def compute(x: Array, *, out: Array | None) -> Array:
            return call.backend.linear(x, pack(), relu=relu, out=out)

        return call.run((N, K), compute, must_not_alias=sources)


def maxpool2x2(
    x: Any, *, out: Any = None, stream: Any = None, device: Device = None,
    arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """Apply a 2x2 max-pool, stride 2, that drops an odd last row or column; NaN propagates.

    x is [N,H,W,C] with H, W >= 2. Returns [N,H//2,W//2,C].
    """
    with Call("maxpool2x2", x, out, stream, device, arch, return_stats, rank=4) as call:
        call.check_size(2)
        N, H, W, C = call.x.shape
        return call.run((N, H // 2, W // 2, C), call.backend.maxpool2x2)


def avgpool(
    x: Any, grid: int = 7, *, out: Any = None, stream: Any = None, device: Device = None,
    arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """Apply an adaptive average pool to ``grid`` x ``grid``, with PyTorch's bins.

    Bin i of an axis of length H covers floor(i*H/grid) up to ceil((i+1)*H/grid).
    x is [N,H,W,C] with H, W >= 1. Returns [N,grid,grid,C].
    """
    with Call("avgpool", x, out, stream, device, arch, return_stats, rank=4) as call:
        return call.run_adaptive(call.backend.avgpool, grid)


def adaptive_maxpool(
    x: Any, grid: int = 1, *, out: Any = None, stream: Any = None, device: Device = None,
    arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """Apply an adaptive max-pool to ``grid`` x ``grid``, with the bins of ``avgpool``.

    ``grid`` 1 is the maximum of all pixels, as in Keras' GlobalMaxPooling2D. NaN propagates.
    x is [N,H,W,C] with H, W >= 1. Returns [N,grid,grid,C].
    """
    with Call("adaptive_maxpool", x, out, stream, device, arch, return_stats, rank=4) as call:
        return call.run_adaptive(call.backend.adaptive_maxpool, grid)


def relu(
    x: Any, *, out: Any = None, stream: Any = None, device: Device = None,
    arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """Return max(x, 0) for x of any shape; NaN propagates."""
    with Call("relu", x, out, stream, device, arch, return_stats, rank=None) as call:
        return call.run(call.x.shape, call.backend.relu, in_place=True)


def affine(
    x: Any, scale: Any, shift: Any, *, out: Any = None, stream: Any = None, device: Device = None,
    arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """Return x * scale + shift per channel, such as a batch norm in inference.

    x is [N,H,W,C] with H, W, C >= 1; scale [C] and shift [C] are floating point, in host memory or
    on the device of x. The computation is in float32, and NaN and infinities are as in NumPy.
    """
    with Call("affine", x, out, stream, device, arch, return_stats, rank=4) as call:
        call.check_size(1)
        backend = call.backend
        scale, shift, sources = check_affine(scale, shift, call.x.shape[3], backend.device)

        def compute(x: Array, *, out: Array | None) -> Array:
            return backend.affine(x, backend.pack_affine(scale, shift, x.dtype.name), out=out)

        return call.run(call.x.shape, compute, must_not_alias=sources, in_place=True)


def softmax(
    x: Any, *, out: Any = None, stream: Any = None, device: Device = None,
    arch: str | None = None, return_stats: bool = False,
) -> Any:  # fmt: skip
    """Return exp(x - max(x)) / sum(exp(x - max(x))) over the last axis of x [N,C], C >= 1."""
    with Call("softmax", x, out, stream, device, arch, return_stats, rank=2) as call:
        if call.x.shape[1] < 1:
            raise ValueError(f"softmax: x: expected [N, C] with C >= 1, got {call.x.shape}")
        return call.run(call.x.shape, call.backend.softmax, in_place=True)


def convert(
    x: Any, dtype: Any = None, *, source: str = "NHWC", target: str = "NHWC", out: Any = None,
    stream: Any = None, device: Device = None, arch: str | None = None,
    return_stats: bool = False,
) -> Any:  # fmt: skip
    """Copy x to another dtype, and from the layout ``source`` to the layout ``target``.

    x is floating point or uint8: [N,H,W,C] for "NHWC", [N,C,H,W] for "NCHW", or of any shape if
    the layouts are equal. ``dtype`` is floating point: by default that of x, for uint8 the
    backend's first dtype; the CPU also has float16, bfloat16 and float64. Values are rounded to
    nearest even; values out of range become infinite. Always returns a new array.
    """
    for name, layout in (("source", source), ("target", target)):
        if layout not in ("NHWC", "NCHW"):
            raise ValueError(f"convert: {name}: expected NHWC or NCHW, got {layout!r}")
    on_cpu = ("float32", "float16", "float64", "bfloat16")
    with Call(
        "convert", x, out, stream, device, arch, return_stats,
        rank=None if source == target else 4, uint8=True, cpu_dtypes=on_cpu,
    ) as call:  # fmt: skip
        name = call.result_dtype(dtype)
        shape = call.x.shape
        if source != target:
            N, A, B, C = shape
            shape = (N, C, A, B) if target == "NCHW" else (N, B, C, A)
        change = partial(call.backend.convert, dtype=name, source=source, target=target)
        return call.run(shape, change, dtype=name)
