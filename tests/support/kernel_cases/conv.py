"""Convolutions, and the first block of a VGG, as cases: how to run them, and the exact results."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from support.kernel_cases.common import Place, Tiling, place_at
from support.kernel_reference import (
    SHORT,
    accumulate,
    draw,
    epilogue,
    factors,
    im2col,
    numpy_dtype,
    pooled,
    rounded,
)

from vgg_cuda import _C, PRESETS, ops, reference
from vgg_cuda.backends import get_backend
from vgg_cuda.backends.operations import Planner


class VariantPlanner(Planner):
    """A planner that gives every convolution one variant."""

    def __init__(self, arch: _C.Arch, variant: str) -> None:
        super().__init__(arch)
        self.variant = variant

    def _make_plan(
        self, op: str, sizes: tuple[int, ...], options: tuple[tuple[str, Any], ...]
    ) -> _C.Plan:
        more = (("variant", self.variant),) if op == "conv3x3" else ()
        return super()._make_plan(op, sizes, (*options, *more))


def with_variant(backend: Any, variant: str, arch: str) -> Any:
    """Return a backend whose convolutions take the variant, if it computes as an ``arch``."""
    if backend.arch.name != arch:
        return backend
    changed = copy(backend)
    changed.plan = VariantPlanner(backend.plan.arch, variant)
    return changed


@dataclass(frozen=True)
class ConvCase:
    """One 3x3 convolution.

    ``offset`` shifts x's address by elements; ``preset`` normalizes uint8 images. The plan is
    ``arch``'s; an architecture with few SMs takes large tiles even for small problems. ``variant``
    names one of that architecture's kernels; None leaves the choice to the plan.
    """

    n: int
    h: int
    w: int
    c: int
    k: int
    dtype: str
    pool: bool = False
    relu: bool = True
    x_dtype: str = ""
    preset: str | None = None
    offset: int = 0
    arch: str = "sm_80"
    variant: str | None = None
    op: ClassVar[str] = "conv3x3"

    @property
    def id(self) -> str:
        name = f"n{self.n}-h{self.h}" + (f"-w{self.w}" if self.w != self.h else "")
        name += f"-c{self.c}-k{self.k}-{SHORT[self.dtype]}"
        extra = {
            "pool": self.pool, "linear": not self.relu,
            f"from_{SHORT[self.x_dtype or self.dtype]}": self.x_dtype,
            str(self.preset): self.preset, f"off{self.offset}": self.offset,
            self.arch: self.arch != "sm_80", str(self.variant): self.variant,
        }  # fmt: skip
        return "-".join([name, *(text for text, said in extra.items() if said)])

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return x and w in the dtype, and a float32 bias."""
        x = draw((self.n, self.h, self.w, self.c), self.x_dtype or self.dtype)
        # raw pixels are a hundred times larger than normalized ones
        scale = (2 / (9 * self.c)) ** 0.5 / (1 if self.preset or self.x_dtype != "uint8" else 100)
        w = draw((self.k, 3, 3, self.c), self.dtype, scale, seed=1)
        return x, w, draw((self.k,), "float32", 0.3, seed=2)

    def plan(self, arch: str | None = None) -> _C.Plan:
        return _C.plan_conv3x3(
            self.n, self.h, self.w, self.c, self.k, dtype=self.dtype,
            x_dtype=self.x_dtype or numpy_dtype(self.dtype).name, relu=self.relu, pool=self.pool,
            aligned=not self.offset, arch=_C.arch(arch or self.arch),
            variant=self.variant if arch in (None, self.arch) else None,
        )  # fmt: skip

    def run(self, place: Place, **where: Any) -> Any:
        if self.variant:
            device, arch = where.pop("device", "cuda"), where.pop("arch", None)
            backend = get_backend(device, arch) if isinstance(device, str) else device
            where["device"] = with_variant(backend, self.variant, self.arch)
        x, w, bias = self.arrays
        return ops.conv3x3(
            place_at(place, x, self.offset), w, bias, relu=self.relu, pool=self.pool,
            dtype=self.dtype, preset=self.preset, **where,
        )  # fmt: skip

    def expected(self) -> np.ndarray:
        """Return the result in float64; images are normalized in float64, too."""
        x, w, bias = self.arrays
        return reference.conv3x3(
            normalized64(x, self.preset), w, bias, relu=self.relu, pool=self.pool
        )

    def same(self, tiling: Tiling) -> np.ndarray:
        """Return the result in the kernel's precision and order of additions."""
        x, w, bias = self.arrays
        x = normalized32(x, self.preset)
        return convolved(x, w, bias, tiling, self.dtype, self.relu, self.pool)


@dataclass(frozen=True)
class BlockCase:
    """Two convolutions to 64 channels and a pool; see ConvCase for ``offset`` and ``preset``."""

    n: int
    h: int
    w: int
    dtype: str
    x_dtype: str = ""
    preset: str | None = None
    offset: int = 0
    arch: str = "sm_90a"
    op: ClassVar[str] = "fused_conv1_block"

    @property
    def id(self) -> str:
        name = f"n{self.n}-h{self.h}-w{self.w}-{SHORT[self.dtype]}"
        name += f"-from_{SHORT[self.x_dtype]}" if self.x_dtype else ""
        return name + f"-{self.preset}" * bool(self.preset) + f"-off{self.offset}" * self.offset

    @property
    def x(self) -> np.ndarray:
        return draw((self.n, self.h, self.w, 3), self.x_dtype or self.dtype)

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return w1, bias1, w2 and bias2."""
        raw = self.x_dtype == "uint8" and not self.preset
        w1 = draw((64, 3, 3, 3), self.dtype, (2 / 27) ** 0.5 / (100 if raw else 1), seed=1)
        w2 = draw((64, 3, 3, 64), self.dtype, (2 / 576) ** 0.5, seed=2)
        return w1, draw((64,), "float32", 0.3, seed=3), w2, draw((64,), "float32", 0.3, seed=4)

    def plan(self, arch: str | _C.Arch | None = None) -> _C.Plan:
        target = arch or self.arch
        plan = _C.plan_fused_conv1_block(
            self.n, self.h, self.w, 64, 64, dtype=self.dtype, x_dtype=self.x_dtype or self.dtype,
            aligned=True, arch=_C.arch(target) if isinstance(target, str) else target,
        )  # fmt: skip
        assert plan
        return plan

    def run(self, place: Place, **where: Any) -> Any:
        x = place_at(place, self.x, self.offset)
        return ops.fused_conv1_block(
            x, *self.weights, dtype=self.dtype, preset=self.preset, **where
        )

    def expected(self) -> np.ndarray:
        """Return the result in float64, without rounding the tensor in between."""
        w1, bias1, w2, bias2 = self.weights
        z = reference.conv3x3(normalized64(self.x, self.preset), w1, bias1, relu=True)
        return reference.conv3x3(z, w2, bias2, relu=True, pool=True)

    def same(self, tiling: Tiling) -> np.ndarray:
        """Return the result in the kernel's precision and order of additions."""
        w1, bias1, w2, bias2 = self.weights
        first = self.plan().as_dict()["first_tiling"]
        z = convolved(normalized32(self.x, self.preset), w1, bias1, first, self.dtype, True, False)
        return convolved(z, w2, bias2, tiling, self.dtype, True, True)


def normalized64(x: np.ndarray, name: str | None) -> np.ndarray:
    """Normalize images by the preset of that name, in float64."""
    x64 = x.astype(np.float64)
    if name is None:
        return x64
    preset = PRESETS[name]
    x64 = x64 / preset.divisor - preset.center
    x64 = x64[..., ::-1] if preset.channels == "BGR" else x64
    return np.asarray((x64 - preset.mean) / preset.std)


def normalized32(x: np.ndarray, name: str | None) -> np.ndarray:
    """Normalize images by the preset of that name, in a kernel's precision."""
    if name is None:
        return x
    preset = PRESETS[name]
    x = x[..., ::-1] if preset.channels == "BGR" else x
    scale = np.float32(1 / (preset.divisor * np.array(preset.std)))
    shift = np.float32(-(preset.center + np.array(preset.mean)) / preset.std)
    return np.asarray((x.astype(np.float64) * scale + shift).astype(np.float32))  # one rounding


def convolved(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray, tiling: Tiling, dtype: str, relu: bool,
    pool: bool,
) -> np.ndarray:  # fmt: skip
    """Convolve in the kernel's precision and order of additions."""
    x, w = factors(x, dtype), factors(w, dtype)
    y = accumulate(im2col(x), w.reshape(len(w), -1), tiling).reshape(*x.shape[:3], len(w))
    return rounded(epilogue(pooled(y) if pool else y, bias, relu), dtype)
