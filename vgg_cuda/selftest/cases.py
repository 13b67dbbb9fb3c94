"""Operations that the self-test launches: small ragged ones, and ones with several tiles per SM."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from .. import _C
from ..arrays import numpy_dtype
from ..configs import Conv, Pool, get_config
from ..text import plain

WAVES = 2.5  # tiles per SM of the larger cases, so that kernels reuse all of a block's state
BATCHES = (1, 16, 64)
IMAGES = (("", None), ("float32", None), ("uint8", None), ("uint8", "torchvision"))
"""dtypes and presets of images; "" is the dtype of the computation."""


@dataclass(frozen=True)
class Case:
    """One operation on x of ``shape``; ``k`` is the number of its output channels or features.

    ``argument`` is the grid of a pool or the source layout of a conversion. With ``exact``,
    operands are integers whose sums float32 holds exactly, so that all kernels give the same bits.
    """

    op: str
    shape: tuple[int, ...]
    dtype: str
    k: int = 0
    x_dtype: str = ""
    relu: bool = False
    pool: bool = False
    preset: str | None = None
    variant: str | None = None
    argument: Any = None
    exact: bool = False

    @property
    def source(self) -> str:
        """The dtype of x."""
        return self.x_dtype or numpy_dtype(self.dtype).name

    def __str__(self) -> str:
        flags = ("relu" * self.relu, "pool" * self.pool, self.preset or "", self.argument or "")
        words = (self.op, self.variant or "", self.dtype, f"x {self.source} {list(self.shape)}")
        outputs = f"to {self.k}" if self.k else ""
        return plain(" ".join(str(word) for word in (*words, outputs, *flags) if word))


def plan(case: Case, arch: _C.Arch) -> _C.Plan | None:
    """Plan the launches of a convolution, a dense layer or the fused block."""
    make: Any = getattr(_C, f"plan_{case.op}")
    found: _C.Plan | None
    if case.op == "fused_conv1_block":
        options = {"dtype": case.dtype, "x_dtype": case.source, "aligned": True, "arch": arch}
        found = make(*case.shape[:3], case.k, case.k, **options)
    else:
        found = make(*case.shape, case.k, **_options(case, arch), variant=case.variant)
    return found


def variants(case: Case, arch: _C.Arch, family: str) -> list[Case]:
    """Return ``case`` with each variant of ``family`` that ``arch`` has for it."""
    every = [case]
    if case.op != "fused_conv1_block":
        names: Any = getattr(_C, f"{case.op}_variants")
        known = names(*case.shape, case.k, **_options(case, arch))
        every = [replace(case, variant=name) for name in known]
    return [each for each in every if _family(each, arch) == family]


def family_cases(family: str, arch: _C.Arch, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases with every variant of ``family``, for each of ``dtypes``."""
    ragged, full = _SHAPES[family]
    for dtype, case in product(dtypes, ragged):
        yield from variants(replace(case, dtype=dtype), arch, family)
    # each dtype with one of them: more would test the same code again
    for dtype, case in zip(dtypes, full * len(dtypes), strict=False):
        yield from enlarged(replace(case, dtype=dtype, exact=True), arch, family)


def enlarged(case: Case, arch: _C.Arch, family: str) -> list[Case]:
    """Return all variants of ``case``, so large that every SM gets several tiles.

    They have more images, dense layers more output features.
    """
    n, needed = 1, math.ceil(WAVES * arch.sm_count)
    while True:
        each = replace(case, shape=(n * case.shape[0], *case.shape[1:]))
        if case.op == "linear":
            each = replace(case, k=n * case.k)
        found = variants(each, arch, family)
        fewest = min((_tiles(one, arch) for one in found), default=needed)
        if fewest >= needed:
            return found
        n = max(n + 1, n * needed // fewest)


def portable_cases(arch: _C.Arch, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield cases of every operation on kernels that all GPUs have.

    ``arch`` has no kernel families; ``dtypes`` may include "tf32".
    """
    for dtype in dtypes:
        convolutions = (
            Case("conv3x3", (2, 9, 12, 64), dtype, 64, relu=True, pool=True),
            Case("conv3x3", (3, 15, 7, 72), dtype, 130),
            Case("conv3x3", (1, 7, 6, 5), dtype, 68, relu=True),
        )
        dense = Case("linear", (17, 136), dtype, 129, relu=True), Case("linear", (3, 520), dtype, 9)
        for case in (*convolutions, *dense):
            yield from variants(case, arch, "portable")
        for x_dtype, preset in IMAGES:
            if x_dtype != numpy_dtype(dtype).name:
                yield Case("conv3x3", (2, 9, 13, 3), dtype, 64, x_dtype, True, True, preset)
        full = Case("conv3x3", (1, 15, 17, 64), dtype, 128, relu=True, exact=True)
        yield from enlarged(full, arch, "portable")
        if dtype != "tf32":
            yield from _simple_cases(dtype, [each for each in dtypes if each != "tf32"])


def _simple_cases(dtype: str, dtypes: Sequence[str]) -> Iterator[Case]:
    for shape in ((2, 7, 5, 3), (1, 8, 9, 64)):
        yield Case("maxpool2x2", shape, dtype)
        yield Case("relu", shape, dtype)
        yield Case("affine", shape, dtype)
        yield Case("avgpool", shape, dtype, argument=4)
        yield Case("adaptive_maxpool", shape, dtype, argument=4)
    for rows in ((3, 10), (2, 1000)):
        yield Case("softmax", rows, dtype)
    for x_dtype, layout in product((*dtypes, "uint8"), (None, "NCHW", "NHWC")):
        yield Case("convert", (2, 3, 9, 5), dtype, 0, x_dtype, argument=layout)


def vgg16_cases(arch: _C.Arch, dtypes: Sequence[str]) -> Iterator[Case]:
    """Yield the matrix products of VGG-16 at 224x224, with every variant that ``arch`` has."""
    config = get_config("vgg16")
    for dtype, n in product(dtypes, BATCHES):
        side = 224
        for layer, following in zip(config.features, (*config.features[1:], None), strict=True):
            if isinstance(layer, Pool):
                side //= 2
                continue
            assert isinstance(layer, Conv)
            yield from _layer_cases(layer, isinstance(following, Pool), n, side, dtype, arch)
        for dense in config.dense:
            case = Case("linear", (n, dense.in_features), dtype, dense.out_features)
            yield from _all_variants(case, arch)


def _layer_cases(
    layer: Conv, pool: bool, n: int, side: int, dtype: str, arch: _C.Arch
) -> Iterator[Case]:
    shape, k = (n, side, side, layer.in_channels), layer.out_channels
    case = Case("conv3x3", shape, dtype, k, relu=True, pool=pool)
    if layer.in_channels > 3:
        yield from _all_variants(case, arch)
        return
    pixels = replace(case, x_dtype="uint8", preset="torchvision")
    yield pixels
    block = replace(pixels, op="fused_conv1_block", relu=False)
    yield from variants(block, arch, "fused_conv1_block")


def _all_variants(case: Case, arch: _C.Arch) -> Iterator[Case]:
    for family in ("portable", *arch.families):
        yield from variants(case, arch, family)


def _options(case: Case, arch: _C.Arch) -> dict[str, Any]:
    known: dict[str, Any] = {"dtype": case.dtype, "relu": case.relu, "aligned": True, "arch": arch}
    return known if case.op == "linear" else {**known, "x_dtype": case.source, "pool": case.pool}


def _tiles(case: Case, arch: _C.Arch) -> int:
    found = plan(case, arch)
    assert found is not None
    tiles: int = found.as_dict()["tiles"]
    return tiles


def _family(case: Case, arch: _C.Arch) -> str | None:
    found = plan(case, arch)
    return None if found is None else found.family


_CONVOLUTIONS = (
    Case("conv3x3", (2, 5, 17, 128), "", 256, relu=True),
    Case("conv3x3", (1, 7, 13, 128), "", 256, pool=True),
    Case("conv3x3", (1, 3, 29, 192), "", 128, relu=True, pool=True),
    Case("conv3x3", (1, 15, 7, 64), "", 64),
)
_FULL_CONVOLUTIONS = (
    Case("conv3x3", (1, 15, 9, 128), "", 256, relu=True),
    Case("conv3x3", (1, 15, 9, 128), "", 256, relu=True, pool=True),
)
_SHAPES: dict[str, tuple[tuple[Case, ...], tuple[Case, ...]]] = {
    "halo": (_CONVOLUTIONS, _FULL_CONVOLUTIONS),
    "swap_ab": (_CONVOLUTIONS, _FULL_CONVOLUTIONS),
    "dense": (
        (
            Case("linear", (3, 520), "", 130, relu=True),
            Case("linear", (9, 1016), "", 129),
            Case("linear", (130, 136), "", 260, relu=True),
        ),
        (Case("linear", (7, 520), "", 256, relu=True), Case("linear", (140, 264), "", 256)),
    ),
    "fused_conv1_block": (
        tuple(
            Case("fused_conv1_block", shape, "", 64, x_dtype, preset=preset)
            for shape, (x_dtype, preset) in zip(
                ((1, 2, 2, 3), (2, 15, 17, 3), (1, 34, 19, 3), (3, 8, 33, 3)), IMAGES, strict=True
            )
        ),
        (Case("fused_conv1_block", (1, 15, 33, 3), "", 64),),
    ),
}
"""Ragged cases and larger ones of each family; their dtype is set later."""
