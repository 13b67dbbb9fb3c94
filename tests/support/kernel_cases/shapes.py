"""The shapes that kernels run at, on the emulator and on GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

from support.kernel_cases.common import dtypes, precisions
from support.kernel_cases.conv import BlockCase, ConvCase
from support.kernel_cases.simple import LinearCase, SimpleCase
from support.kernel_reference import numpy_dtype

from vgg_cuda.configs import CONFIGS, Conv, Pool, get_config

Case = ConvCase | BlockCase | LinearCase | SimpleCase


def conv_cases() -> Iterator[ConvCase]:
    """Combine every C with every K, and take the other sizes and options in turn."""
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
"""Output channels of each tile of the halo kernels."""


def halo_cases() -> Iterator[ConvCase]:
    """Cover every tile for Hopper: ragged slabs, odd numbers of tiles, one or two of channels.

    Splits have equal parts of the channels, or a smaller last part.
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
    """Cover ragged tiles, groups of images, odd numbers of tiles, and split C, for Hopper."""
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
    """Cover uint8 images with and without each kind of preset, and float32 images."""
    for dtype in precisions():
        for i, preset in enumerate(("torchvision", "keras", "lpips", None)):
            yield ConvCase(1 + i % 2, 9, 12, 3, 64, dtype, bool(i % 2), True, "uint8", preset)
        yield ConvCase(1, 5, 4, 3, 5, dtype, False, False, "uint8", "features")
        yield ConvCase(2, 7, 7, 3, 64, dtype, True, True, "uint8", "caffe", offset=1)
        if dtype != "float32":
            yield ConvCase(1, 8, 9, 3, 64, dtype, x_dtype="float32")
            yield ConvCase(2, 8, 9, 3, 68, dtype, True, x_dtype="float32", offset=1)


def block_cases() -> Iterator[BlockCase]:
    """Cover tiles cut off by one line or column, or by all but one, for every kind of image."""
    for dtype in ("float16", "bfloat16"):
        yield BlockCase(1, 2, 2, dtype)
        yield BlockCase(2, 15, 17, dtype)
        yield BlockCase(1, 17, 35, dtype, "uint8", "torchvision")
        yield BlockCase(1, 28, 32, dtype, "float32")
        yield BlockCase(2, 16, 18, dtype, "uint8", "caffe", offset=1)
        yield BlockCase(1, 3, 33, dtype, "uint8")


def vgg_layers() -> list[tuple[int, int, int, bool]]:
    """Return size (at 224x224), C, K and "a pool follows" for the convolutions of all networks."""
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
        short = numpy_dtype(dtype).itemsize == 2  # the emulator is slower with 32-bit types
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
    """Cover ragged sizes, one to eight splits, and every width of tile, for Hopper.

    Each wide tile has the smallest problem for which a plan chooses it.
    """
    sizes = [(1, 1024, 128), (8, 1000, 100), (3, 520, 10), (17, 136, 129), (9, 256, 260), (2, 8, 1)]
    sizes += [(356, 8, 264), (428, 8, 520), (524, 8, 1000), (260, 8, 4096), (260, 8, 8192)]
    for dtype in ("float16", "bfloat16"):
        for i, (n, c, k) in enumerate(sizes):
            yield LinearCase(n, c, k, dtype, relu=i % 3 != 0, arch="sm_90a")


def few_sms_cases() -> Iterator[tuple[LinearCase, int]]:
    """Cover wide tiles and reused pipeline stages, by dense layers on very few SMs."""
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
            yield SimpleCase("affine", shape, dtype)
        yield SimpleCase("affine", (2, 13, 15, 24), dtype)  # two blocks, and pixels across them
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
        yield SimpleCase("affine", (1, 3, 5, 16), dtype, offset=1)
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
