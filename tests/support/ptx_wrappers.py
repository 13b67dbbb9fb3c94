"""The kernels of csrc/ptx/test_kernels*.cu: their data, their right answers, how to run them.

A wrapper in csrc/ptx/ needs a kernel there and an entry in ``WRAPPERS``, here or, of those that
only sm_90a has, in ptx_wrappers_sm90.py; a test fails without.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from support.kernel_reference import numpy_dtype
from support.ptx_programs import aligned

from vgg_cuda import _C

PORTABLE, SM90 = MODULES = ("ptx/test_kernels", "ptx/test_kernels_sm90")
CSRC = Path(__file__).parents[2] / "csrc"
LANES = 32
ITEMS = 64  # blocks

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Map:
    """How an array is given to a kernel: as a tensor map of all of it, 128-byte swizzled.

    ``box``: sizes of what one copy takes, the contiguous dimension first.
    """

    ALIGNMENT = 64
    box: tuple[int, ...]

    def encode(self, encoder: Callable[..., bytes], address: int, array: np.ndarray) -> bytes:
        """``encoder``: ``_C.emulator_tensor_map``, or for a GPU ``_C.gpu_tensor_map``."""
        dims, strides = array.shape[::-1], array.strides[-2::-1]
        return encoder(address, array.dtype.name, dims, strides, box=self.box, swizzle=128)


@dataclass(frozen=True)
class Wrapper:
    """``covers``: the functions of csrc/ptx/ that ``kernel`` calls, "max_nan", "mma<__half>".

    ``inputs`` draws the arrays; ``expected`` is what the instruction's description makes of them;
    ``out`` is the result's shape per item and its dtype. ``bound``: how far a result on a GPU may
    be from the exact one where that is not to be met to the bit. ``maps``: which arrays, "out"
    among them, are given as tensor maps; ``access``: the emulator's to "out".
    """

    kernel: str
    covers: tuple[str, ...]
    inputs: Callable[[np.random.Generator], Arrays]
    expected: Callable[..., np.ndarray]
    out: tuple[tuple[int, ...], str]
    bound: Callable[..., np.ndarray] | None = None
    module: str = PORTABLE
    threads: int = LANES
    smem: int = 0
    maps: dict[str, Map] = field(default_factory=dict)
    access: str = "write_once"

    def arrays(self) -> Arrays:
        drawn = self.inputs(np.random.default_rng(1))
        return {name: aligned(np.ascontiguousarray(x)) for name, x in drawn.items()}


def preprocessed(path: Path) -> str:
    """Without comments, directives and what they include; macros are expanded."""
    text = re.sub(r"^#include.*$", "", path.read_text(), flags=re.MULTILINE)
    compiler = [os.environ.get("CXX", "c++"), "-E", "-P", "-x", "c++", "-"]
    return subprocess.run(compiler, input=text, capture_output=True, text=True, check=True).stdout


def sources() -> dict[str, set[str]]:
    """Every function of each file in csrc/ptx/; of a template with specialisations, those."""
    found = {}
    for path in sorted((CSRC / "ptx").glob("*.cuh")):
        text = preprocessed(path)
        names = set(re.findall(r"__device__[^;{}()]*?\b(\w+(?:<[^<>()]*>)?)\s*\(", text))
        special = {name.partition("<")[0] for name in names if "<" in name}
        found[path.name] = names - special
    return found


def ptx(module: str) -> str:
    return _C.emulator_modules()[module]


def entries(module: str) -> set[str]:
    return set(re.findall(r"\.entry (\w+)", ptx(module)))


# ---- Running them ----


def on_emulator(wrapper: Wrapper, inputs: Arrays) -> np.ndarray:
    shape, dtype = wrapper.out
    y = aligned(np.zeros((ITEMS, *shape), dtype))
    arrays = {**inputs, "out": y}
    params = b""
    for name, x in arrays.items():
        if name in wrapper.maps:
            params += bytes(-len(params) % Map.ALIGNMENT)
            params += wrapper.maps[name].encode(_C.emulator_tensor_map, x.ctypes.data, x)
        else:
            params += struct.pack("<Q", x.ctypes.data)
    _C.Emulator(workers=1).launch(
        ptx(wrapper.module), wrapper.kernel, grid=(ITEMS, 1, 1), block=(wrapper.threads, 1, 1),
        params=params, smem_bytes=wrapper.smem,
        buffers=[(name, x, wrapper.access if x is y else "read") for name, x in arrays.items()],
    )  # fmt: skip
    return y


def on_gpu(wrapper: Wrapper, inputs: Arrays, module: Any) -> np.ndarray:
    """``module``: a ``cupy.RawModule`` of ``ptx(wrapper.module)``."""
    import cupy

    shape, dtype = wrapper.out
    y = cupy.zeros((ITEMS, *shape), dtype)
    arrays = {name: cupy.asarray(x.view(f"u{x.itemsize}")) for name, x in inputs.items()}
    arguments = []
    for name, x in {**arrays, "out": y}.items():
        if name in wrapper.maps:  # a NumPy array of one element is given by value
            tensor_map = wrapper.maps[name].encode(_C.gpu_tensor_map, x.data.ptr, x)
            arguments.append(np.frombuffer(tensor_map, f"V{len(tensor_map)}"))
        else:
            arguments.append(x)
    kernel = module.get_function(wrapper.kernel)
    kernel((ITEMS,), (wrapper.threads,), tuple(arguments), shared_mem=wrapper.smem)
    return cupy.asnumpy(y)


# ---- What the instructions do ----


def max_nan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """PTX ISA: NaN where one is, the canonical one; +0 is more than -0."""
    larger = np.where((a > b) | ((a == b) & ~np.signbit(a)), a, b)
    nan = np.uint32(0x7FFFFFFF).view(np.float32)
    return np.where(np.isnan(a) | np.isnan(b), nan, larger)


def draw_max_nan(rng: np.random.Generator) -> Arrays:
    odd = np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-45, -1e-45, 1.5, 3e38])
    odd = np.append(odd, np.uint32([0x7F800001, 0xFFC12345]).view(np.float32))  # other NaNs
    a, b = (x.ravel() for x in np.meshgrid(odd, odd))
    more = rng.standard_normal((2, ITEMS * LANES - a.size), np.float32)
    shape = (ITEMS, LANES)
    return {"a": np.append(a, more[0]).reshape(shape), "b": np.append(b, more[1]).reshape(shape)}


def integers(rng: np.random.Generator, *shape: int, dtype: str = "uint32") -> np.ndarray:
    kind = np.iinfo(dtype)
    return rng.integers(kind.min, kind.max, (ITEMS, *shape), dtype, endpoint=True)


def ldmatrix(x: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Of matrix i, lane l's register i holds elements 2 (l % 4), 2 (l % 4) + 1 of row l / 4."""
    matrices = np.take_along_axis(x, row[:, :, None], axis=1).reshape(ITEMS, 4, 8, 4, 2)
    return np.ascontiguousarray(matrices.reshape(ITEMS, 4, LANES, 2).swapaxes(1, 2)).view("u4")[
        ..., 0
    ]


def draw_ldmatrix(rng: np.random.Generator) -> Arrays:
    rows = np.stack([rng.permutation(40)[:LANES] for _ in range(ITEMS)])
    return {"x": integers(rng, 40, 8, dtype="uint16"), "row": rows.astype(np.int32)}


def product(a: np.ndarray, b: np.ndarray, acc: np.ndarray) -> np.ndarray:
    """acc + a b^T in float64. A float32 where the sum, in any order, is exact."""
    a, b = (x.astype(np.float64) for x in (a, b))
    return acc.astype(np.float64) + a @ b.swapaxes(1, 2)


def product_bound(a: np.ndarray, b: np.ndarray, acc: np.ndarray) -> np.ndarray:
    """Of a tensor core's result around the exact one.

    Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ CS 7, 2021:
    products are exact; the terms of a block, no fewer than 4 products and the sum so far, are
    aligned to the largest and cut to float32's 24 bits, and the block's sum is cut again. None of
    these, each at most S = |acc| + |a| |b|^T (and what was cut before), loses more than 2^-23 of
    it: K products, and twice per block. The emulator's K roundings, each 2^-24 S, stay below.
    """
    K = a.shape[-1]
    cuts = K + 2 * K / 4
    largest = product(np.abs(a), np.abs(b), np.abs(acc)) * (1 + cuts * 2.0**-23)
    return cuts * 2.0**-23 * largest


def operand(x: np.ndarray, dtype: str) -> np.ndarray:
    """As a product takes it: tf32 is a float32 whose low 13 bits are zero."""
    if dtype == "tf32":
        return round_to_tf32(x.astype(np.float32).view(np.uint32)).view(np.float32)
    return x.astype(numpy_dtype(dtype))


def round_to_tf32(x: np.ndarray) -> np.ndarray:
    """PTX ISA, cvt.rna: to nearest, ties away from zero; beyond the range it is infinite."""
    return (x + np.uint32(1 << 12)) & np.uint32(~((1 << 13) - 1) & 0xFFFFFFFF)


def draw_round_to_tf32(rng: np.random.Generator) -> Arrays:
    """Every exponent, ties, infinities; a NaN's bits are left open."""
    x = integers(rng, LANES)
    x[0, :4] = 0x3F801000, 0x3F800FFF, 0x7F800000, 0xFF800000
    x[:, 4:8] = x[:, 4:8] & 0xFFFFE000 | 0x1000
    return {"x": np.where((x & 0x7FFFFFFF) > 0x7F800000, np.uint32(0x3F800000), x)}


def draw_product(k: int, dtype: str, exact: bool) -> Callable[[np.random.Generator], Arrays]:
    """``exact``: small integers times a power of two per item, so that no sum is rounded."""

    def draw(rng: np.random.Generator) -> Arrays:
        shapes = (ITEMS, 16, k), (ITEMS, 8, k), (ITEMS, 16, 8)
        if exact:
            scale = 2.0 ** rng.integers(-6, 7, (ITEMS, 1, 1))
            a, b, acc = (rng.integers(-100, 101, shape) for shape in shapes)
            a, acc = a * scale, acc * scale
        else:
            a, b, acc = (rng.standard_normal(shape) for shape in shapes)
            a *= 2.0 ** rng.integers(-4, 5, a.shape)  # of many exponents
        a, b = (operand(x, dtype) for x in (a, b))
        return {"a": a, "b": b, "acc": acc.astype(np.float32)}

    return draw


def draw_special(k: int, dtype: str) -> Callable[[np.random.Generator], Arrays]:
    """Infinities, NaN and products that cancel, in a few rows of an exact problem."""

    def draw(rng: np.random.Generator) -> Arrays:
        arrays = draw_product(k, dtype, True)(rng)
        arrays["a"][:, 1, 2], arrays["a"][:, 2, 3], arrays["a"][:, 4] = np.inf, np.nan, -0.0
        arrays["b"][:] = np.abs(arrays["b"].astype(np.float32)) + 1
        arrays["acc"][:, 3, 5] = -np.inf
        return arrays

    return draw


def mma(suffix: str, covers: tuple[str, ...], k: int, dtype: str) -> list[Wrapper]:
    """Any data within the bound; data with exact sums, infinities and NaN to the bit."""
    out = ((16, 8), "float32")
    kernel = f"ptx_mma_{suffix}"

    def exact(**arrays: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return product(**arrays).astype(np.float32)

    return [
        Wrapper(kernel, covers, draw_product(k, dtype, False), product, out, product_bound),
        Wrapper(kernel, covers, draw_product(k, dtype, True), exact, out),
        Wrapper(kernel, covers, draw_special(k, dtype), exact, out),
    ]


CP_ASYNC = ("cp_async_16", "cp_async_commit", "cp_async_wait", "shared_address")

WRAPPERS = [
    Wrapper("ptx_max_nan", ("max_nan",), draw_max_nan, max_nan, ((LANES,), "float32")),
    Wrapper(
        "ptx_kept", ("kept",), lambda rng: {"x": integers(rng, LANES, dtype="int32")},
        lambda x: x, ((LANES,), "int32"),
    ),
    Wrapper(
        "ptx_shared_address", ("shared_address",),
        lambda rng: {"index": rng.integers(0, 256, (ITEMS, LANES), np.int32)},
        lambda index: 4 * index.astype(np.uint32), ((LANES,), "uint32"),
    ),
    Wrapper(
        "ptx_cp_async_16", CP_ASYNC,
        lambda rng: {
            "x": integers(rng, LANES, 4), "valid": rng.integers(0, 2, (ITEMS, LANES), np.int32),
        },
        lambda x, valid: np.where(valid[..., None] != 0, x, 0), ((LANES, 4), "uint32"),
    ),
    Wrapper(
        "ptx_cp_async_groups", CP_ASYNC, lambda rng: {"x": integers(rng, 2, LANES, 4)},
        lambda x: x, ((2, LANES, 4), "uint32"),
    ),
    Wrapper(
        "ptx_ldmatrix_x4", ("ldmatrix_x4", "shared_address"), draw_ldmatrix, ldmatrix,
        ((LANES, 4), "uint32"),
    ),
    *mma("f16", ("mma<__half>",), 16, "float16"),
    *mma("bf16", ("mma<__nv_bfloat16>",), 16, "bfloat16"),
    *mma("tf32", ("mma<Tf32>",), 8, "tf32"),
    Wrapper(
        "ptx_round_to_tf32", ("round_to_tf32",), draw_round_to_tf32, round_to_tf32,
        ((LANES,), "uint32"),
    ),
]  # fmt: skip
