"""Dense layers and the simple operations as cases: how to run them, and the exact results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from support.kernel_cases.common import Place, Tiling, place_at
from support.kernel_reference import (
    SHORT,
    accumulate,
    avgpool32,
    draw,
    epilogue,
    factors,
    rounded,
    softmax32,
)

from vgg_cuda import _C, ops, reference


@dataclass(frozen=True)
class LinearCase:
    """One dense layer; see ConvCase for ``offset`` and ``arch``."""

    n: int
    c: int
    k: int
    dtype: str
    relu: bool = True
    offset: int = 0
    arch: str = "sm_80"
    op: ClassVar[str] = "linear"

    @property
    def id(self) -> str:
        name = f"n{self.n}-c{self.c}-k{self.k}-{SHORT[self.dtype]}"
        name += ("" if self.relu else "-linear") + f"-off{self.offset}" * bool(self.offset)
        return name + f"-{self.arch}" * (self.arch != "sm_80")

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        w = draw((self.k, self.c), self.dtype, (2 / self.c) ** 0.5, seed=1)
        return draw((self.n, self.c), self.dtype), w, draw((self.k,), "float32", 0.3, seed=2)

    def plan(self, arch: str | _C.Arch | None = None) -> _C.Plan:
        on = arch if isinstance(arch, _C.Arch) else _C.arch(arch or self.arch)
        return _C.plan_linear(
            self.n, self.c, self.k, dtype=self.dtype, relu=self.relu, aligned=not self.offset,
            arch=on,
        )  # fmt: skip

    def run(self, place: Place, **where: Any) -> Any:
        x, w, bias = self.arrays
        return ops.linear(
            place_at(place, x, self.offset), w, bias, relu=self.relu, dtype=self.dtype, **where
        )

    def expected(self) -> np.ndarray:
        return reference.linear(*self.arrays, relu=self.relu)

    def same(self, tiling: Tiling) -> np.ndarray:
        x, w, bias = self.arrays
        y = accumulate(factors(x, self.dtype), factors(w, self.dtype), tiling)
        return rounded(epilogue(y, bias, self.relu), self.dtype)


@dataclass(frozen=True)
class SimpleCase:
    """An operation on one array; ``argument`` is a pool's grid or a layout."""

    op: str
    shape: tuple[int, ...]
    dtype: str
    x_dtype: str = ""
    argument: Any = None
    offset: int = 0
    arch: ClassVar[str] = "sm_80"

    @property
    def id(self) -> str:
        name = f"{self.op}-{'x'.join(map(str, self.shape))}-{SHORT[self.dtype]}"
        name += f"-from_{SHORT[self.x_dtype]}" if self.x_dtype else ""
        name += f"-{self.argument}" if self.argument else ""
        return name + f"-off{self.offset}" * bool(self.offset)

    @property
    def x(self) -> np.ndarray:
        return draw(self.shape, self.x_dtype or self.dtype, 4.0)

    @property
    def affine(self) -> list[np.ndarray]:
        """Scale and shift of every channel."""
        return [draw(self.shape[-1:], "float32", seed=seed) for seed in (1, 2)]

    def plan(self, arch: str | None = None) -> _C.Plan:
        known: dict[str, Any] = {"dtype": self.dtype, "arch": _C.arch(arch or self.arch)}
        if self.op == "convert":
            N, *rest = self.shape
            rows = {"NHWC": rest[-1] and int(np.prod(rest[:-1])), "NCHW": rest[0]}.get(
                self.argument, 1
            )
            x_dtype = self.x_dtype or self.dtype
            columns = int(np.prod(rest)) // rows
            return _C.plan_convert(N, rows, columns, x_dtype=x_dtype, **known)
        known["aligned"] = not self.offset
        if self.op == "relu":
            return _C.plan_relu(int(np.prod(self.shape)), **known)
        if self.op == "softmax":
            return _C.plan_softmax(self.shape[0], self.shape[1], **known)
        if self.op == "affine":
            return _C.plan_affine(*self.shape, **known)
        n, h, w, c = self.shape
        if self.op in ("avgpool", "adaptive_maxpool"):
            return getattr(_C, f"plan_{self.op}")(n, h, w, c, self.argument, **known)
        return _C.plan_maxpool2x2(n, h, w, c, **known)

    def run(self, place: Place, **where: Any) -> Any:
        x = place_at(place, self.x, self.offset)
        if self.op == "affine":
            return ops.affine(x, *self.affine, **where)
        if self.op in ("avgpool", "adaptive_maxpool"):
            return getattr(ops, self.op)(x, self.argument, **where)
        if self.op == "convert":
            source = self.argument or "NHWC"
            target = {"NHWC": "NCHW", "NCHW": "NHWC"}.get(self.argument, "NHWC")
            return ops.convert(x, self.dtype, source=source, target=target, **where)
        return getattr(ops, self.op)(x, **where)

    def expected(self) -> np.ndarray:
        if self.op == "convert":
            axes = {"NHWC": (0, 3, 1, 2), "NCHW": (0, 2, 3, 1)}.get(self.argument)
            return (self.x.transpose(axes) if axes else self.x).astype(np.float64)
        if self.op == "relu":
            return np.maximum(self.x.astype(np.float64), 0)
        if self.op == "affine":
            return reference.affine(self.x, *self.affine)
        if self.op in ("avgpool", "adaptive_maxpool"):
            return getattr(reference, self.op)(self.x, self.argument)
        return getattr(reference, self.op)(self.x)

    def same(self, tiling: Tiling) -> np.ndarray:
        if self.op == "avgpool":
            return rounded(avgpool32(self.x, self.argument), self.dtype)
        if self.op == "softmax":
            return rounded(softmax32(self.x), self.dtype)
        if self.op == "affine":  # one fma
            return rounded(self.expected().astype(np.float32), self.dtype)
        return rounded(self.expected(), self.dtype)
