"""The operations that mutants of their kernels run, with exact results and error bounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from support.kernel_reference import factors, numpy_dtype

from vgg_cuda import _C, reference


@dataclass(frozen=True)
class Case:
    """One operation at one size, and its result in float64 with a bound of the rounding errors."""

    op: Literal[
        "conv3x3", "linear", "softmax", "convert", "fused_conv1_block", "adaptive_maxpool", "affine"
    ]  # fmt: skip
    shape: tuple[int, ...]  # N, H, W, C; K or grid; N, C, K; rows, n; N, rows, columns
    dtype: str = "float16"
    pool: bool = False
    relu: bool = True
    arch: str = "sm_80"
    sm_count: int = 0  # of sm_90a; 0: as many as the architecture has
    variant: str | None = None  # of a convolution's kernel; None: the plan chooses

    @property
    def id(self) -> str:
        size = "x".join(map(str, self.shape))
        sms = f"-{self.sm_count}sm" if self.sm_count else ""
        variant = f"-{self.variant}" if self.variant else ""
        return f"{self.op}-{size}-{self.dtype}-{self.arch}{sms}{variant}" + "-pool" * self.pool

    @property
    def plan(self) -> _C.Plan:
        arch = _C.device_arch(9, 0, self.sm_count) if self.sm_count else _C.arch(self.arch)
        if self.op == "convert":
            return _C.plan_convert(*self.shape, x_dtype="float32", dtype=self.dtype, arch=arch)
        options: dict[str, Any] = {"dtype": self.dtype, "aligned": True, "arch": arch}
        if self.op == "softmax":
            return _C.plan_softmax(*self.shape, **options)
        if self.op == "adaptive_maxpool":
            return _C.plan_adaptive_maxpool(*self.shape, **options)
        if self.op == "affine":
            return _C.plan_affine(*self.shape, **options)
        options["relu"] = self.relu
        if self.op == "linear":
            return _C.plan_linear(*self.shape, **options)
        x_dtype = numpy_dtype(self.dtype).name
        options |= {"x_dtype": x_dtype, "pool": self.pool, "variant": self.variant}
        return _C.plan_conv3x3(*self.shape, **options)

    @property
    def x(self) -> np.ndarray:
        shape = self.shape if self.op in ("softmax", "convert", "affine") else self.shape[:-1]
        dtype = "float32" if self.op == "convert" else self.dtype
        x = np.random.default_rng(0).standard_normal(shape)
        if self.op == "softmax":
            x += 3 * np.linspace(0, 1, self.shape[-1])  # the maximum is in the last warp
        if self.op == "adaptive_maxpool":
            x -= 9  # maxima are negative
        return x.astype(numpy_dtype(dtype))

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """[K, GEMM_K] and bias."""
        rng = np.random.default_rng(1)
        taps = 9 if self.op == "conv3x3" else 1
        w = rng.standard_normal((self.shape[-1], taps * self.shape[-2])) * 0.1
        w = factors(w.astype(numpy_dtype(self.dtype)), self.dtype)
        return w, rng.standard_normal(self.shape[-1]).astype(np.float32)

    @property
    def affine(self) -> np.ndarray:
        """Scale and shift, packed."""
        size = 2, _C.packed_bias(self.shape[-1])
        return np.random.default_rng(2).standard_normal(size).astype(np.float32)

    def run(self, executor: _C.Emulator) -> np.ndarray:
        plan, x = self.plan, self.x
        if self.op in ("softmax", "convert"):
            shape = self.shape if self.op == "softmax" else (*self.shape[:1], *self.shape[:0:-1])
            out = np.empty(shape, self.dtype)
            getattr(_C, self.op)(plan, x, out, executor)
            return out
        if self.op == "adaptive_maxpool":
            out = np.empty(self.expected[0].shape, self.dtype)
            _C.adaptive_maxpool(plan, x, out, executor)
            return out
        if self.op == "affine":
            out = np.empty_like(x)
            _C.affine(plan, x, *self.affine, out, executor)
            return out
        w, bias = self.weights
        K, columns = w.shape
        packed = np.zeros((K, _C.packed_columns(columns, self.dtype)), w.dtype)
        packed[:, :columns] = w
        packed_bias = np.zeros(_C.packed_bias(K), np.float32)
        packed_bias[:K] = bias
        workspace = np.empty(plan.workspace_bytes, np.uint8) if plan.workspace_bytes else None
        out = np.empty(self.expected[0].shape, w.dtype)
        getattr(_C, self.op)(plan, x, packed, packed_bias, out, workspace, executor)
        return out

    @cached_property
    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        x = self.x.astype(np.float64)
        unit = {"float16": 2.0**-11}.get(self.dtype, 2.0**-24)
        if self.op == "convert":
            y = x.transpose(0, 2, 1)
            return y, unit * np.abs(y)
        if self.op == "softmax":
            y = np.exp(x - x.max(axis=1, keepdims=True))
            y /= y.sum(axis=1, keepdims=True)
            return y, (unit + 2.0**-24 * (self.shape[1] + 16)) * y + 2.0**-25
        if self.op == "adaptive_maxpool":
            y = reference.adaptive_maxpool(x, self.shape[-1])
            return y, np.zeros_like(y)
        if self.op == "affine":
            y = reference.affine(x, *self.affine[:, : self.shape[-1]])
            return y, (unit + 2.0**-24) * np.abs(y) + 2.0**-25
        w, bias = (array.astype(np.float64) for array in self.weights)
        x = factors(self.x, self.dtype).astype(np.float64)
        rows = x if self.op == "linear" else _im2col(x)
        y = rows @ w.T
        size = (w.shape[1] + 2) * 2.0**-24 * (np.abs(rows) @ np.abs(w).T + np.abs(bias))
        if self.pool:
            y, size = _pooled(y), _pooled(size)
        y = y + bias
        y = np.maximum(y, 0) if self.relu else y
        return y, size + unit * np.abs(y) + 2.0**-25

    def is_right(self, y: np.ndarray) -> bool:
        expected, bound = self.expected
        return bool((np.abs(y.astype(np.float64) - expected) <= bound).all())  # false for NaN


def _im2col(x: np.ndarray) -> np.ndarray:
    _, H, W, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, r : r + H, s : s + W] for r in range(3) for s in range(3)]
    return np.concatenate(taps, axis=-1)


def _pooled(y: np.ndarray) -> np.ndarray:
    N, H, W, K = y.shape
    return y[:, : H // 2 * 2, : W // 2 * 2].reshape(N, H // 2, 2, W // 2, 2, K).max(axis=(2, 4))
