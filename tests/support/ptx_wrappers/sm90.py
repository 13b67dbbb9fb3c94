"""The wrappers that only sm_90a has, of the kernels in csrc/ptx/test_kernels_sm90.cu."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce

import numpy as np
from support.ptx_wrappers.products import ROW, wgmma
from support.ptx_wrappers.wrapper import ITEMS, LANES, SM90, Arrays, Map, Wrapper, integers

CHUNK = 8  # elements of 16 bits in 16 bytes
PAIRS = ITEMS // 2  # clusters of two blocks
TWO_DIMENSIONS = {"shape": (50, 72), "box": (ROW, 16)}
BARRIER = ("mbarrier_init", "fence_mbarrier_init", "mbarrier_wait")
CLUSTER = ("cluster_arrive", "cluster_wait")


def swizzled(rows: np.ndarray) -> np.ndarray:
    """Apply the 128-byte swizzle (PTX ISA): swap chunks c and c ^ (r % 8) of row r.

    A chunk has 16 bytes. rows [..., 64] of 16 bits; the first is at a multiple of 1024 bytes. The
    swizzle is its own inverse.
    """
    chunks = rows.reshape(-1, ROW // CHUNK, CHUNK)
    r = np.arange(len(chunks))[:, None]
    return chunks[r, np.arange(ROW // CHUNK) ^ r % 8].reshape(rows.shape)


def box_of(x: np.ndarray, at: np.ndarray, box: Sequence[int]) -> np.ndarray:
    """Return the box at ``at`` (contiguous dimension first), with zeros outside of x."""
    indices = [a + np.arange(size) for a, size in zip(at[::-1], box[::-1], strict=True)]
    padded = [i.clip(0, n - 1) for i, n in zip(indices, x.shape, strict=True)]
    inside = [(i >= 0) & (i < n) for i, n in zip(indices, x.shape, strict=True)]
    return np.where(reduce(np.logical_and.outer, inside), x[np.ix_(*padded)], 0).astype(x.dtype)


def loaded(box: Sequence[int]) -> Callable[..., np.ndarray]:
    def expected(x: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.stack([swizzled(box_of(x, one, box)) for one in at])

    return expected


def draw_load(
    shape: tuple[int, ...], box: tuple[int, ...]
) -> Callable[[np.random.Generator], Arrays]:
    """Draw boxes inside of the array, partly outside on either side, and wholly outside."""

    def draw(rng: np.random.Generator) -> Arrays:
        x = rng.integers(1, 1 << 16, shape, np.uint16)  # never zero, as elements outside are
        sizes = list(zip(shape[::-1], box, strict=True))
        at = np.stack([rng.integers(-b, n + 1, ITEMS) for n, b in sizes], axis=1)
        at[0] = 0
        at[1] = [-b for _, b in sizes]
        at[2] = [n for n, _ in sizes]
        return {"x": x, "at": at.astype(np.int32)}

    return draw


def load(kernel: str, wrapper: str, shape: tuple[int, ...], box: tuple[int, ...]) -> Wrapper:
    return Wrapper(
        kernel,
        (wrapper, "prefetch_tensor_map", "mbarrier_arrive_expect_tx", *BARRIER, "shared_address"),
        draw_load(shape, box), loaded(box), (box[::-1], "uint16"), module=SM90,
        maps={"x": Map(box)},
    )  # fmt: skip


def draw_multicast(rng: np.random.Generator) -> Arrays:
    """Draw loads, and every choice of receiving blocks."""
    pair, rank = np.divmod(np.arange(ITEMS, dtype=np.int32), 2)
    return draw_load(**TWO_DIMENSIONS)(rng) | {"blocks": 1 + pair // 3**rank % 3}


def multicast(x: np.ndarray, at: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    boxes = loaded(TWO_DIMENSIONS["box"])(x, at).reshape(PAIRS, 1, 2, 16, ROW)
    to = blocks.reshape(PAIRS, 1, 2) >> np.arange(2)[:, None] & 1  # [pair, to, from]
    return (boxes * to[..., None, None]).astype(x.dtype).reshape(ITEMS, 2, 16, ROW)


def draw_rounds(rng: np.random.Generator) -> Arrays:
    draws = [draw_load(**TWO_DIMENSIONS)(rng) for _ in range(3)]
    return draws[0] | {"at": np.stack([draw["at"] for draw in draws], axis=1)}


def shared_by_two(x: np.ndarray, at: np.ndarray) -> np.ndarray:
    boxes = loaded(TWO_DIMENSIONS["box"])(x, at.reshape(-1, 2)).reshape(PAIRS, 2, 3, 16, ROW)
    return np.repeat(boxes.swapaxes(1, 2), 2, axis=0)


STORED = (10, 6, 72)  # one item of the destination; boxes have three lines of four pixels
STORE_BOX = (ROW, 4, 3, 1)


def draw_store(rng: np.random.Generator) -> Arrays:
    """Draw three boxes per item, one below the other without overlap."""
    at = np.stack(
        [
            rng.integers(-ROW, STORED[2], (ITEMS, 3)),
            rng.integers(-3, STORED[1], (ITEMS, 3)),
            4 * np.arange(3) - rng.integers(0, 2, (ITEMS, 3)),
            np.broadcast_to(np.arange(ITEMS)[:, None], (ITEMS, 3)),
        ],
        axis=2,
    )
    at[0, 1, 3], at[1, 1, 3] = -1, ITEMS  # outside
    return {"x": integers(rng, 3, 12, ROW, dtype="uint16"), "at": at.astype(np.int32)}


def stored(x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Store the boxes' elements that lie inside of the array."""
    out = np.zeros((ITEMS, *STORED), np.uint16)
    for boxes, places in zip(x, at, strict=True):
        for box, (c0, x0, y0, n) in zip(boxes, places, strict=True):
            for (y, w, c), value in np.ndenumerate(swizzled(box).reshape(3, 4, ROW)):
                index = (n, y0 + y, x0 + w, c0 + c)
                if all(0 <= i < size for i, size in zip(index, out.shape, strict=True)):
                    out[index] = value
    return out


def stmatrix(x: np.ndarray, row: np.ndarray, matrices: int = 4, trans: bool = False) -> np.ndarray:
    """Store lane l's register i as elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4 of matrix i.

    With ``trans`` the registers hold columns.
    """
    out = np.zeros((ITEMS, 40, 8), np.uint16)
    rows = x.view(np.uint16).reshape(ITEMS, 8, 4, 4, 2).transpose(0, 3, 1, 2, 4)
    rows = rows.reshape(ITEMS, 4, 8, 8)[:, :matrices]
    if trans:
        rows = rows.swapaxes(2, 3)
    lanes = 8 * matrices
    np.put_along_axis(out, row[:, :lanes, None], rows.reshape(ITEMS, lanes, 8), axis=1)
    return out


def draw_stmatrix(rng: np.random.Generator) -> Arrays:
    rows = np.stack([rng.permutation(40)[:LANES] for _ in range(ITEMS)])
    return {"x": integers(rng, LANES, 4), "row": rows.astype(np.int32)}


def exchanged(x: np.ndarray) -> np.ndarray:
    """Exchange data once between the even warps, and there and back between the odd warps."""
    warps = x.reshape(ITEMS, 2, 2, LANES)
    return np.stack([warps[:, ::-1, 0] + 1, warps[:, :, 1] + 2], axis=2).reshape(x.shape)


WRAPPERS = [
    Wrapper(
        "ptx_mbarrier", (*BARRIER, "mbarrier_try_wait", "mbarrier_arrive", "shared_address"),
        lambda rng: {"x": integers(rng, 5, LANES)},
        lambda x: x.reshape(ITEMS, 5, LANES // 2, 2)[..., ::-1].reshape(x.shape),
        ((5, LANES), "uint32"), module=SM90, threads=64,
    ),
    load("ptx_tma_load_2d", "tma_load_2d", **TWO_DIMENSIONS),
    load("ptx_tma_load_4d", "tma_load_4d", (5, 7, 9, 72), (ROW, 5, 3, 2)),
    Wrapper(
        "ptx_tma_load_2d_multicast",
        ("tma_load_2d_multicast", "mbarrier_arrive_expect_tx", *BARRIER, *CLUSTER,
         "fence_proxy_async", "shared_address"),
        draw_multicast, multicast, ((2, 16, ROW), "uint16"), module=SM90,
        maps={"x": Map(TWO_DIMENSIONS["box"])},
    ),
    Wrapper(
        "ptx_cluster",
        ("cluster_address", "mbarrier_arrive_cluster", "tma_load_2d_multicast",
         "mbarrier_arrive_expect_tx", *BARRIER, *CLUSTER, "cluster_arrive_relaxed",
         "shared_address"),
        draw_rounds, shared_by_two, ((3, 2, 16, ROW), "uint16"), module=SM90,
        maps={"x": Map(TWO_DIMENSIONS["box"])},
    ),
    Wrapper(
        "ptx_cluster_load", ("cluster_load", "cluster_address", *CLUSTER, "shared_address"),
        lambda rng: {"x": rng.standard_normal((ITEMS, LANES, 4), np.float32)},
        lambda x: x.reshape(PAIRS, 2, LANES, 4)[:, ::-1].reshape(x.shape),
        ((LANES, 4), "float32"), module=SM90,
    ),
    Wrapper(
        "ptx_tma_store_4d",
        ("tma_store_4d", "bulk_commit", "bulk_wait_read", "fence_proxy_async", "shared_address"),
        draw_store, stored, (STORED, "uint16"), module=SM90, maps={"out": Map(STORE_BOX)},
        access="any",
    ),
    Wrapper(
        "ptx_elect_one", ("elect_one",), lambda rng: {},
        lambda: np.ones((ITEMS, 1), np.uint32), ((1,), "uint32"), module=SM90,
    ),
    Wrapper(
        "ptx_griddepcontrol", ("griddepcontrol_wait", "griddepcontrol_launch_dependents"),
        lambda rng: {"x": integers(rng, LANES)}, lambda x: x + 1, ((LANES,), "uint32"), module=SM90,
    ),
    Wrapper(
        "ptx_globaltimer", ("globaltimer",), lambda rng: {},
        lambda: np.ones((ITEMS, 1), np.uint32), ((1,), "uint32"), module=SM90,
    ),
    Wrapper(
        "ptx_registers", ("decrease_registers", "increase_registers"),
        lambda rng: {"x": integers(rng, 384)},
        lambda x: x + np.repeat(np.uint32([2, 2, 1]), 128), ((384,), "uint32"), module=SM90,
        threads=384,
    ),
    Wrapper(
        "ptx_named_barrier", ("named_barrier",), lambda rng: {"x": integers(rng, 128)},
        exchanged, ((128,), "uint32"), module=SM90, threads=128,
    ),
    *(
        Wrapper(
            f"ptx_stmatrix_{name}", (f"stmatrix_{name}", "shared_address"), draw_stmatrix,
            partial(stmatrix, matrices=int(name[1]), trans=name.endswith("trans")),
            ((40, 8), "uint16"), module=SM90,
        )
        for name in ("x4", "x4_trans", "x2_trans")
    ),
    *(
        wrapper
        for n in (8, 16, 32, 64, 112, 128, 224, 240, 256)
        for types in (("float16", "f16", "__half"), ("bfloat16", "bf16", "__nv_bfloat16"))
        for wrapper in wgmma(n, *types)
    ),
]  # fmt: skip
