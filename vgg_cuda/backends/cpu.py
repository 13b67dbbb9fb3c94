"""The CPU backend: float32 in NumPy, for machines without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..arrays import numpy_dtype
from ..images.presets import Preset
from . import im2col, winograd
from .stats import record
from .threads import one_blas_thread, run_blocks

Float32 = NDArray[np.float32]

LINEAR_ROWS = 512  # rows of a dense layer's weights per task of a worker
MIN_WINOGRAD_CHANNELS = 16  # with fewer, the transforms cost more than they save


@dataclass(frozen=True)
class CpuConv3x3:
    """bias [K] and filters: [36,C,K] for Winograd, or [9*C+1,K], bias included, for im2col."""

    in_channels: int
    out_channels: int
    filters: Float32
    bias: Float32
    dtype: str = "float32"
    device: str = "cpu"

    @property
    def winograd(self) -> bool:
        """Whether the filters are in the Winograd domain."""
        return self.filters.ndim == 3


@dataclass(frozen=True)
class CpuLinear:
    """Dense layer of w [K,C] and bias [K]."""

    in_features: int
    out_features: int
    w: Float32
    bias: Float32
    dtype: str = "float32"
    device: str = "cpu"


@dataclass(frozen=True)
class CpuAffine:
    """Scale [C] and shift [C]."""

    channels: int
    scale: Float32
    shift: Float32
    dtype: str = "float32"
    device: str = "cpu"


class CpuBackend:
    """Implementation of :class:`~vgg_cuda.backends.base.Backend` with NumPy."""

    name = "cpu"
    device = "cpu"
    dtypes: tuple[str, ...] = ("float32",)
    precisions: tuple[str, ...] = ("float32",)
    batch_limit: int | None = 8

    def report_families(self) -> None:
        pass  # no kernel can be switched off

    def session(self) -> AbstractContextManager[None]:
        return one_blas_thread()

    def on_stream(self, stream: Any) -> AbstractContextManager[None]:
        if stream is not None:
            raise ValueError(
                f"stream: expected None on the cpu, which has no streams, got {stream!r}"
            )
        return nullcontext()

    def asarray(self, x: Any, dtype: DTypeLike) -> NDArray[Any]:
        with np.errstate(over="ignore"):  # values beyond float32 become infinite
            return np.asarray(x, dtype, order="C")

    def as_images(self, x: Any, dtype: str) -> NDArray[Any]:
        return self.asarray(x, "uint8" if x.dtype == np.uint8 else dtype)

    def synchronize(self) -> None:
        pass

    def to_numpy(self, x: Float32) -> Float32:
        return x

    def pack_conv3x3(self, w: Float32, bias: Float32, dtype: str) -> CpuConv3x3:
        k, _, _, c = w.shape
        small = c < MIN_WINOGRAD_CHANNELS
        filters = im2col.pack_filter(w, bias) if small else winograd.transform_filter(w)
        return CpuConv3x3(c, k, filters, bias)

    def pack_linear(self, w: Float32, bias: Float32, dtype: str) -> CpuLinear:
        return CpuLinear(w.shape[1], w.shape[0], w, bias)

    def pack_affine(self, scale: Float32, shift: Float32, dtype: str) -> CpuAffine:
        return CpuAffine(len(scale), scale, shift)

    def conv3x3(
        self, x: NDArray[Any], packed: CpuConv3x3, *, relu: bool, pool: bool,
        preset: Preset | None = None, out: Float32 | None = None,
    ) -> Float32:  # fmt: skip
        if preset is not None:
            x = preset.normalize(x)
        x = self.asarray(x, np.float32)
        record("cpu_winograd" if packed.winograd else "cpu_im2col")
        if packed.winograd:
            w, bias = packed.filters, packed.bias
            return winograd.conv3x3(x, w, bias, relu=relu, pool=pool, out=out)
        return im2col.conv3x3(x, packed.filters, relu=relu, pool=pool, out=out)

    def fused_conv1_block(
        self, x: NDArray[Any], first: CpuConv3x3, second: CpuConv3x3, *,
        preset: Preset | None = None, out: Float32 | None = None,
    ) -> Float32:  # fmt: skip
        z = self.conv3x3(x, first, relu=True, pool=False, preset=preset)
        return self.conv3x3(z, second, relu=True, pool=True, out=out)

    def maxpool2x2(self, x: Float32, *, out: Float32 | None = None) -> Float32:
        n, h, w, c = x.shape
        record("cpu_maxpool2x2")
        return im2col.maxpool2x2(x, _result(out, n, h // 2, w // 2, c))

    def avgpool(self, x: Float32, grid: int, *, out: Float32 | None = None) -> Float32:
        n, h, w, c = x.shape
        y = _result(out, n, grid, grid, c)
        record("cpu_avgpool")
        if (h, w) == (grid, grid):
            np.copyto(y, x)
            return y
        return _reduce_bins(np.mean, x, y)

    def adaptive_maxpool(self, x: Float32, grid: int, *, out: Float32 | None = None) -> Float32:
        record("cpu_adaptive_maxpool")
        return _reduce_bins(np.max, x, _result(out, x.shape[0], grid, grid, x.shape[3]))

    def linear(
        self, x: Float32, packed: CpuLinear, *, relu: bool, out: Float32 | None = None
    ) -> Float32:
        y = _result(out, x.shape[0], packed.out_features)
        record("cpu_linear")

        def job(part: slice) -> None:
            product = x @ packed.w[part].T
            product += packed.bias[part]
            y[:, part] = np.maximum(product, 0, out=product) if relu else product

        k = packed.out_features
        run_blocks(job, [slice(i, i + LINEAR_ROWS) for i in range(0, k, LINEAR_ROWS)])
        return y

    def relu(self, x: Float32, *, out: Float32 | None = None) -> Float32:
        record("cpu_relu")
        return np.maximum(x, 0, out=_result(out, *x.shape))

    def affine(self, x: Float32, packed: CpuAffine, *, out: Float32 | None = None) -> Float32:
        record("cpu_affine")
        with np.errstate(invalid="ignore", over="ignore"):  # zero times infinity, as on a GPU
            y: Float32 = np.multiply(x, packed.scale, out=_result(out, *x.shape))
            y += packed.shift
        return y

    def softmax(self, x: Float32, *, out: Float32 | None = None) -> Float32:
        record("cpu_softmax")
        with np.errstate(invalid="ignore"):  # infinite maxima give NaN, as on a GPU
            y: Float32 = np.exp(x - x.max(axis=1, keepdims=True), out=out)
        y /= y.sum(axis=1, keepdims=True)
        return y

    def convert(
        self, x: NDArray[Any], dtype: str, source: str, target: str, *,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:  # fmt: skip
        record("cpu_convert")
        if source != target:
            x = x.transpose((0, 3, 1, 2) if target == "NCHW" else (0, 2, 3, 1))
        y = np.empty(x.shape, numpy_dtype(dtype)) if out is None else out
        with np.errstate(over="ignore", invalid="ignore"):
            np.copyto(y, x, casting="unsafe")
        return y


def _reduce_bins(reduce: Callable[..., Any], x: Float32, y: Float32) -> Float32:
    """Reduce each bin of x [N,H,W,C] to a pixel of y [N,grid,grid,C] with a NumPy reduction."""
    (_, h, w, _), grid = x.shape, y.shape[1]
    for i in range(grid):
        rows = slice(i * h // grid, -(-(i + 1) * h // grid))
        for j in range(grid):
            columns = slice(j * w // grid, -(-(j + 1) * w // grid))
            reduce(x[:, rows, columns], axis=(1, 2), out=y[:, i, j])
    return y


def _result(out: Float32 | None, *shape: int) -> Float32:
    return np.empty(shape, np.float32) if out is None else out
