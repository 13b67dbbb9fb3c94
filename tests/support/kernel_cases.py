"""The shapes that kernels are run at, on the emulator and on GPUs; each knows its references."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, ClassVar

import numpy as np
from support.kernel_reference import (
    SHORT,
    accumulate,
    avgpool32,
    draw,
    epilogue,
    factors,
    im2col,
    numpy_dtype,
    pooled,
    rounded,
    softmax32,
)

from vgg_cuda import _C, PRESETS, ops, reference
from vgg_cuda.backends import get_backend
from vgg_cuda.backends.operations import Planner
from vgg_cuda.configs import CONFIGS, Conv, Pool, get_config

Place = Callable[[np.ndarray], Any]
"""Moves an array to where it is computed."""

Tiling = dict[str, Any]


def dtypes() -> list[str]:
    """Those that there are kernels of."""
    names = _C.kernels()
    return [
        d for d in ("float16", "float32", "bfloat16") if any(f"_{SHORT[d]}" in n for n in names)
    ]


def precisions() -> list[str]:
    """What there are matrix products in."""
    return dtypes() + ["tf32"] * any("_tf32_" in n for n in _C.kernels())


def place_at(place: Place, x: np.ndarray, offset: int) -> Any:
    """x on the device, ``offset`` elements behind an aligned address."""
    if not offset:
        return place(x)
    return place(np.concatenate([np.zeros(offset, x.dtype), x.ravel()]))[offset:].reshape(x.shape)


class VariantPlanner(Planner):
    """Plans convolutions by one variant."""

    def __init__(self, arch: _C.Arch, variant: str) -> None:
        super().__init__(arch)
        self.variant = variant

    def _make_plan(
        self, op: str, sizes: tuple[int, ...], options: tuple[tuple[str, Any], ...]
    ) -> _C.Plan:
        more = (("variant", self.variant),) if op == "conv3x3" else ()
        return super()._make_plan(op, sizes, (*options, *more))


def with_variant(backend: Any, variant: str, arch: str) -> Any:
    """The backend, whose convolutions take the variant if its kernels are ``arch``'s."""
    if backend.arch.name != arch:
        return backend
    changed = copy(backend)
    changed.plan = VariantPlanner(backend.plan.arch, variant)
    return changed


@dataclass(frozen=True)
class ConvCase:
    """``offset``: of x's address, in elements; ``preset``: of uint8 images.

    ``arch``: whose plan is run; the large tiles are planned for small problems on a GPU with few
    SMs. ``variant``: of that arch's kernels; None: the plan chooses.
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
        """x and w in the dtype, float32 bias."""
        x = draw((self.n, self.h, self.w, self.c), self.x_dtype or self.dtype)
        # with a preset w is as small as He's: normalized pixels are as large as others
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
        """In float64, normalized there, too."""
        x, w, bias = self.arrays
        return reference.conv3x3(
            normalized64(x, self.preset), w, bias, relu=self.relu, pool=self.pool
        )

    def same(self, tiling: Tiling) -> np.ndarray:
        """In the kernel's precision and order."""
        x, w, bias = self.arrays
        x = normalized32(x, self.preset)
        return convolved(x, w, bias, tiling, self.dtype, self.relu, self.pool)


@dataclass(frozen=True)
class BlockCase:
    """Two convolutions of 64 channels and a pool; ``offset`` and ``preset`` as of a ConvCase."""

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
        """w1, bias1, w2, bias2."""
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
        """In float64, nothing in between rounded."""
        w1, bias1, w2, bias2 = self.weights
        z = reference.conv3x3(normalized64(self.x, self.preset), w1, bias1, relu=True)
        return reference.conv3x3(z, w2, bias2, relu=True, pool=True)

    def same(self, tiling: Tiling) -> np.ndarray:
        w1, bias1, w2, bias2 = self.weights
        first = self.plan().as_dict()["first_tiling"]
        z = convolved(normalized32(self.x, self.preset), w1, bias1, first, self.dtype, True, False)
        return convolved(z, w2, bias2, tiling, self.dtype, True, True)


def normalized64(x: np.ndarray, name: str | None) -> np.ndarray:
    """Images as the preset of that name makes them, in float64."""
    x64 = x.astype(np.float64)
    if name is None:
        return x64
    preset = PRESETS[name]
    x64 = x64 / preset.divisor - preset.center
    x64 = x64[..., ::-1] if preset.channels == "BGR" else x64
    return np.asarray((x64 - preset.mean) / preset.std)


def normalized32(x: np.ndarray, name: str | None) -> np.ndarray:
    """The same in a kernel's precision."""
    if name is None:
        return x
    preset = PRESETS[name]
    x = x[..., ::-1] if preset.channels == "BGR" else x
    scale = np.float32(1 / (preset.divisor * np.array(preset.std)))
    shift = np.float32(-(preset.center + np.array(preset.mean)) / preset.std)
    return np.asarray((x.astype(np.float64) * scale + shift).astype(np.float32))  # fused


def convolved(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray, tiling: Tiling, dtype: str, relu: bool,
    pool: bool,
) -> np.ndarray:  # fmt: skip
    """conv3x3's result in the kernel's precision and order."""
    x, w = factors(x, dtype), factors(w, dtype)
    y = accumulate(im2col(x), w.reshape(len(w), -1), tiling).reshape(*x.shape[:3], len(w))
    return rounded(epilogue(pooled(y) if pool else y, bias, relu), dtype)


@dataclass(frozen=True)
class LinearCase:
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
    """Pools, ReLU, softmax, conversion: ``argument`` is a grid or a layout."""

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
        n, h, w, c = self.shape
        if self.op in ("avgpool", "adaptive_maxpool"):
            return getattr(_C, f"plan_{self.op}")(n, h, w, c, self.argument, **known)
        return _C.plan_maxpool2x2(n, h, w, c, **known)

    def run(self, place: Place, **where: Any) -> Any:
        x = place_at(place, self.x, self.offset)
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
        if self.op in ("avgpool", "adaptive_maxpool"):
            return getattr(reference, self.op)(self.x, self.argument)
        return getattr(reference, self.op)(self.x)

    def same(self, tiling: Tiling) -> np.ndarray:
        if self.op == "avgpool":
            return rounded(avgpool32(self.x, self.argument), self.dtype)
        if self.op == "softmax":
            return rounded(softmax32(self.x), self.dtype)
        return rounded(self.expected(), self.dtype)


Case = ConvCase | BlockCase | LinearCase | SimpleCase


def conv_cases() -> Iterator[ConvCase]:
    """Every C with every K, the other sizes and options in turn."""
    spatial = [(15, 7), (7, 7), (2, 15), (1, 1), (1, 2), (7, 2), (15, 15)]
    for dtype in precisions():
        pairs = product((1, 3, 5, 8, 12, 16, 40, 64, 72), (1, 5, 8, 64, 68, 130))
        for i, (c, k) in enumerate(pairs):
            h, w = spatial[i % len(spatial)]
            pool = bool(i // 2 % 2) and min(h, w) > 1
            yield ConvCase(1 + i % 3, h, w, c, k, dtype, pool, relu=i % 5 != 0)
        for c, k, pool in product((8, 64), (8, 130), (False, True)):
            yield ConvCase(2, 7, 6, c, k, dtype, pool, offset=1)
        for pool in (False, True):
            yield ConvCase(2, 9, 12, 64, 64, dtype, pool, relu=False)
            yield ConvCase(2, 7, 6, 4, 64, dtype, pool)  # 16 bytes of float32, 8 of others
            c = 40 if dtype == "float16" else 16
            yield ConvCase(1, 12, 13, c, 1000, dtype, pool, arch="sm_87")


HALO_WIDTHS = {
    "halo_m512n64": 64, "halo_m256n128_c2": 128, "halo_m128n256_c2": 256, "halo_m128n128": 128,
    "halo_m128n128_split": 128, "halo_m128n64_split": 64,
}  # fmt: skip
"""Channels of every tile."""


def halo_cases() -> Iterator[ConvCase]:
    """For Hopper, every tile: ragged slabs, odd numbers of tiles, channels once and twice as many.

    Splits of as many channels, and a last one of fewer.
    """
    sizes = [(7, 7), (8, 8), (9, 17), (16, 8), (15, 7), (33, 4), (2, 2), (14, 14), (1, 1)]
    for dtype in ("float16", "bfloat16"):
        for v, (variant, width) in enumerate(HALO_WIDTHS.items()):
            for i, times in enumerate((1, 2)):
                for j in (i + 2 * v, i + 2 * v + 3):
                    h, w = sizes[j % len(sizes)]
                    pool = bool(j % 2) and min(h, w) > 1
                    split = variant.endswith("split")
                    c = (128, 192)[(i + j) % 2] if split else (64, 128)[(i + v) % 2]
                    splits = ("2", "23"[j % 2])[c == 192] if split else ""
                    yield ConvCase(
                        1 + j % 3, h, w, c, times * width, dtype, pool, relu=i % 3 != 0,
                        arch="sm_90a", variant=variant + splits,
                    )  # fmt: skip


def swap_ab_cases() -> Iterator[ConvCase]:
    """For Hopper: ragged tiles and groups of images, odd numbers of tiles, C in several parts."""
    sizes = [(9, 3, 15), (1, 1, 1), (2, 5, 29), (8, 2, 14), (3, 6, 3), (1, 2, 57)]
    variants = ("swap_ab_rows2", "swap_ab_rows1", "swap_ab_rows2_c2", "swap_ab_rows1_c2")
    for dtype, first in (("float16", 0), ("bfloat16", 1)):
        for i, (variant, j) in enumerate(product(variants, range(3))):
            n, h, w = sizes[(first + i) % len(sizes)]
            pool = "rows2" in variant and j != first and h > 1
            c, k = 64 * (1 + (i + first) % 2), 128 * (1 + j // 2)
            yield ConvCase(
                n, h, w, c, k, dtype, pool, relu=j != 2, arch="sm_90a", variant=variant
            )  # fmt: skip
        for pool, variant in ((False, "swap_ab_rows1_split3"), (True, "swap_ab_rows2_c2_split2")):
            yield ConvCase(3, 3, 15, 192, 128, dtype, pool, arch="sm_90a", variant=variant)


def first_layer_cases() -> Iterator[ConvCase]:
    """Images: uint8 with every kind of preset and without, float32 in all dtypes."""
    for dtype in precisions():
        for i, preset in enumerate(("torchvision", "keras", "lpips", None)):
            yield ConvCase(1 + i % 2, 9, 12, 3, 64, dtype, bool(i % 2), True, "uint8", preset)
        yield ConvCase(1, 5, 4, 3, 5, dtype, False, False, "uint8", "features")
        yield ConvCase(2, 7, 7, 3, 64, dtype, True, True, "uint8", "caffe", offset=1)
        if dtype != "float32":
            yield ConvCase(1, 8, 9, 3, 64, dtype, x_dtype="float32")
            yield ConvCase(2, 8, 9, 3, 68, dtype, True, x_dtype="float32", offset=1)


def block_cases() -> Iterator[BlockCase]:
    """Tiles that are cut off on every side, by one line or column or all but one; all images."""
    for dtype in ("float16", "bfloat16"):
        yield BlockCase(1, 2, 2, dtype)
        yield BlockCase(2, 15, 17, dtype)
        yield BlockCase(1, 17, 35, dtype, "uint8", "torchvision")
        yield BlockCase(1, 28, 32, dtype, "float32")
        yield BlockCase(2, 16, 18, dtype, "uint8", "caffe", offset=1)
        yield BlockCase(1, 3, 33, dtype, "uint8")


def vgg_layers() -> list[tuple[int, int, int, bool]]:
    """Size at 224x224, C, K and whether a pool follows, of every network's convolutions."""
    found = set()
    for name in CONFIGS:
        size = 224
        for layer, following in pairwise(get_config(name).features):
            if isinstance(layer, Conv):
                pool = isinstance(following, Pool)
                found.add((size, layer.in_channels, layer.out_channels, pool))
                size //= 2 if pool else 1
    return sorted(found)


def vgg_cases() -> Iterator[ConvCase | LinearCase]:
    for dtype in precisions():
        short = numpy_dtype(dtype).itemsize == 2  # others take the emulator longer
        side = 8 if short else 4
        for c, k, pool in sorted({layer[1:] for layer in vgg_layers()}):
            yield ConvCase(1, side, side, c, k, dtype, pool)
        for c, k in ((4096, 4096), (4096, 1000)) if short else ((4096, 1000),):
            yield LinearCase(1, c, k, dtype, relu=k != 1000)
    yield LinearCase(2, 25088, 512, "float16")


def linear_cases() -> Iterator[LinearCase]:
    for dtype in precisions():
        pairs = product((1, 3, 7, 8, 40, 72, 100, 520), (1, 5, 8, 64, 68, 130))
        for i, (c, k) in enumerate(pairs):
            yield LinearCase((1, 2, 3, 17, 65)[i % 5], c, k, dtype, relu=i % 3 != 0)
        yield LinearCase(130, 256, 136, dtype)
        yield LinearCase(136, 40, 1000, dtype, arch="sm_87")
        yield LinearCase(3, 4096, 72, dtype, offset=1)
        yield LinearCase(5, 64, 64, dtype, offset=1)


def dense_cases() -> Iterator[LinearCase]:
    """Planned for Hopper: ragged images, columns and features; from one to eight splits. Then every
    width of tile, by as few products as plans take it for.
    """
    sizes = [(1, 1024, 128), (8, 1000, 100), (3, 520, 10), (17, 136, 129), (9, 256, 260), (2, 8, 1)]
    sizes += [(356, 8, 264), (428, 8, 520), (524, 8, 1000), (260, 8, 4096), (260, 8, 8192)]
    for dtype in ("float16", "bfloat16"):
        for i, (n, c, k) in enumerate(sizes):
            yield LinearCase(n, c, k, dtype, relu=i % 3 != 0, arch="sm_90a")


def few_sms_cases() -> Iterator[tuple[LinearCase, int]]:
    """Dense layers that get wider tiles with that few SMs, and rings that are filled again."""
    sizes = [(6, 968, 136, 1), (16, 904, 136, 2), (32, 456, 200, 1), (60, 520, 130, 1),
             (128, 328, 136, 1), (300, 392, 129, 1), (130, 584, 128, 2)]  # fmt: skip
    for dtype in ("float16", "bfloat16"):
        for i, (n, c, k, sms) in enumerate(sizes):
            yield LinearCase(n, c, k, dtype, relu=i % 3 != 0, arch="sm_90a"), sms


def simple_cases() -> Iterator[SimpleCase]:
    for dtype in dtypes():
        for shape in ((1, 2, 2, 1), (2, 7, 5, 3), (1, 8, 8, 64), (2, 15, 3, 40), (1, 4, 300, 8)):
            yield SimpleCase("maxpool2x2", shape, dtype)
            yield SimpleCase("relu", shape, dtype)
        for shape, grid in (((1, 7, 7, 64), 7), ((2, 5, 9, 3), 7), ((1, 14, 14, 16), 7)):
            yield SimpleCase("avgpool", shape, dtype, argument=grid)
        yield SimpleCase("avgpool", (1, 1, 1, 5), dtype, argument=3)
        for shape, grid in (((2, 7, 7, 64), 1), ((1, 14, 9, 16), 4), ((2, 5, 9, 3), 7)):
            yield SimpleCase("adaptive_maxpool", shape, dtype, argument=grid)
        yield SimpleCase("adaptive_maxpool", (1, 1, 1, 5), dtype, argument=3)
        yield SimpleCase("adaptive_maxpool", (300, 1, 2, 8), dtype, argument=1)
        for shape in ((1, 1), (3, 10), (2, 256), (3, 257), (2, 1000), (1, 4099)):
            yield SimpleCase("softmax", shape, dtype)
        for op, shape in (
            ("maxpool2x2", (1, 6, 6, 16)), ("relu", (3, 40)), ("softmax", (2, 1000)),
            ("softmax", (2, 64)),
        ):  # fmt: skip
            yield SimpleCase(op, shape, dtype, offset=1)
        yield SimpleCase("avgpool", (1, 9, 9, 16), dtype, argument=7, offset=1)
        yield SimpleCase("adaptive_maxpool", (1, 9, 9, 16), dtype, argument=2, offset=1)
        for x_dtype in (*dtypes(), "uint8"):
            yield SimpleCase("convert", (3, 5, 7), dtype, x_dtype)
            yield SimpleCase("convert", (2, 3, 9, 5), dtype, x_dtype, "NCHW")
            yield SimpleCase("convert", (1, 7, 6, 70), dtype, x_dtype, "NHWC")


def all_cases() -> list[Case]:
    makers = (
        conv_cases, halo_cases, swap_ab_cases, block_cases, first_layer_cases, vgg_cases,
        linear_cases, dense_cases, simple_cases,
    )  # fmt: skip
    return [case for maker in makers for case in maker()]
