"""The wrappers that every architecture has, of the kernels in csrc/ptx/test_kernels.cu."""

from __future__ import annotations

import numpy as np
from support.ptx_wrappers.products import draw_round_to_tf32, mma, round_to_tf32
from support.ptx_wrappers.wrapper import ITEMS, LANES, Arrays, Wrapper, integers


def max_nan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the maximum (PTX ISA, max.NaN): canonical NaN if either is NaN, and +0 > -0."""
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


def ldmatrix(x: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Give lane l elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4 of matrix i, in register i."""
    matrices = np.take_along_axis(x, row[:, :, None], axis=1).reshape(ITEMS, 4, 8, 4, 2)
    return np.ascontiguousarray(matrices.reshape(ITEMS, 4, LANES, 2).swapaxes(1, 2)).view("u4")[
        ..., 0
    ]


def draw_ldmatrix(rng: np.random.Generator) -> Arrays:
    rows = np.stack([rng.permutation(40)[:LANES] for _ in range(ITEMS)])
    return {"x": integers(rng, 40, 8, dtype="uint16"), "row": rows.astype(np.int32)}


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
