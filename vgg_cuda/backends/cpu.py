"""The embedded backend: float32 in NumPy, for machines with no GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import im2col, winograd
from .threads import one_blas_thread, run_blocks

Float32 = NDArray[np.float32]

LINEAR_ROWS = 512  # of a dense layer's weights that a worker takes at a time
MIN_WINOGRAD_CHANNELS = 16  # below, the transforms cost more than they save


@dataclass(frozen=True)
class CpuConv3x3:
    """``filters``: [36,C,K] for Winograd, or [9*C+1,K], bias included, for im2col; bias [K]."""

    in_channels: int
    out_channels: int
    filters: Float32
    bias: Float32

    @property
    def winograd(self) -> bool:
        """Whether the filters are in the Winograd domain."""
        return self.filters.ndim == 3


@dataclass(frozen=True)
class CpuLinear:
    """w [K,C], bias [K]."""

    in_features: int
    out_features: int
    w: Float32
    bias: Float32


class CpuBackend:
    """Implements :class:`~vgg_cuda.backends.base.Backend` with NumPy arrays."""

    name = "cpu"
    device = "cpu"
    dtypes: tuple[str, ...] = ("float32",)
    batch_limit: int | None = 8

    def session(self) -> AbstractContextManager[None]:
        return one_blas_thread()

    def asarray(self, x: Any, dtype: DTypeLike) -> Float32:
        with np.errstate(over="ignore"):  # beyond float32 is infinite
            return np.ascontiguousarray(x, dtype)

    def synchronize(self) -> None:
        pass

    def to_numpy(self, x: Float32) -> Float32:
        return x

    def pack_conv3x3(self, w: Float32, bias: Float32, dtype: DTypeLike) -> CpuConv3x3:
        k, _, _, c = w.shape
        small = c < MIN_WINOGRAD_CHANNELS
        filters = im2col.pack_filter(w, bias) if small else winograd.transform_filter(w)
        return CpuConv3x3(c, k, filters, bias)

    def pack_linear(self, w: Float32, bias: Float32, dtype: DTypeLike) -> CpuLinear:
        return CpuLinear(w.shape[1], w.shape[0], w, bias)

    def conv3x3(self, x: Float32, packed: CpuConv3x3, *, relu: bool, pool: bool) -> Float32:
        if packed.winograd:
            return winograd.conv3x3(x, packed.filters, packed.bias, relu=relu, pool=pool)
        return im2col.conv3x3(x, packed.filters, relu=relu, pool=pool)

    def maxpool2x2(self, x: Float32) -> Float32:
        n, h, w, c = x.shape
        return im2col.maxpool2x2(x, np.empty((n, h // 2, w // 2, c), np.float32))

    def avgpool(self, x: Float32, grid: int) -> Float32:
        n, h, w, c = x.shape
        if (h, w) == (grid, grid):
            whole: Float32 = x.copy()
            return whole
        y = np.empty((n, grid, grid, c), np.float32)
        for i in range(grid):
            rows = slice(i * h // grid, -(-(i + 1) * h // grid))
            for j in range(grid):
                columns = slice(j * w // grid, -(-(j + 1) * w // grid))
                x[:, rows, columns].mean(axis=(1, 2), out=y[:, i, j])
        return y

    def linear(self, x: Float32, packed: CpuLinear, *, relu: bool) -> Float32:
        y = np.empty((x.shape[0], packed.out_features), np.float32)

        def job(part: slice) -> None:
            out = x @ packed.w[part].T
            out += packed.bias[part]
            y[:, part] = np.maximum(out, 0, out=out) if relu else out

        k = packed.out_features
        run_blocks(job, [slice(i, i + LINEAR_ROWS) for i in range(0, k, LINEAR_ROWS)])
        return y

    def relu(self, x: Float32) -> Float32:
        return np.maximum(x, 0)

    def softmax(self, x: Float32) -> Float32:
        y: Float32 = np.exp(x - x.max(axis=1, keepdims=True))
        y /= y.sum(axis=1, keepdims=True)
        return y
