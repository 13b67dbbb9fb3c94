"""The kernels of csrc/ptx/test_kernels_sm90.cu, as those of ptx_wrappers.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce

import numpy as np
from support.ptx_wrappers import (
    ITEMS,
    LANES,
    SM90,
    Arrays,
    Map,
    Wrapper,
    integers,
    operand,
    product,
    product_bound,
)

CHUNK = 8  # elements of 16 bits in 16 bytes
ROW = 64  # of them in the 128 bytes of a swizzled row


def swizzled(rows: np.ndarray) -> np.ndarray:
    """PTX ISA, 128-byte swizzle: of row r, chunk c of 16 bytes is where chunk c ^ (r % 8) was.

    rows [..., 64] of 16 bits, the first at a multiple of 1024 bytes; its own inverse.
    """
    chunks = rows.reshape(-1, ROW // CHUNK, CHUNK)
    r = np.arange(len(chunks))[:, None]
    return chunks[r, np.arange(ROW // CHUNK) ^ r % 8].reshape(rows.shape)


def box_of(x: np.ndarray, at: np.ndarray, box: Sequence[int]) -> np.ndarray:
    """The elements from ``at`` on, the contiguous dimension first; zero where there are none."""
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
    """Boxes inside, partly outside on either side, and wholly so."""

    def draw(rng: np.random.Generator) -> Arrays:
        x = rng.integers(1, 1 << 16, shape, np.uint16)  # not zero, as what lies outside is
        sizes = list(zip(shape[::-1], box, strict=True))
        at = np.stack([rng.integers(-b, n + 1, ITEMS) for n, b in sizes], axis=1)
        at[0] = 0
        at[1] = [-b for _, b in sizes]
        at[2] = [n for n, _ in sizes]
        return {"x": x, "at": at.astype(np.int32)}

    return draw


def load(kernel: str, wrapper: str, shape: tuple[int, ...], box: tuple[int, ...]) -> Wrapper:
    return Wrapper(
        kernel, (wrapper, "mbarrier_arrive_expect_tx", *BARRIER, "shared_address"),
        draw_load(shape, box), loaded(box), (box[::-1], "uint16"), module=SM90,
        maps={"x": Map(box)},
    )  # fmt: skip


PAIRS = ITEMS // 2  # of blocks, in clusters of two
TWO_DIMENSIONS = {"shape": (50, 72), "box": (ROW, 16)}


def draw_multicast(rng: np.random.Generator) -> Arrays:
    """Every choice of both blocks."""
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


STORED = (10, 6, 72)  # an item of what is stored to; boxes of three lines, four pixels
STORE_BOX = (ROW, 4, 3, 1)


def draw_store(rng: np.random.Generator) -> Arrays:
    """Three boxes an item that do not overlap: each starts on one of two lines, below the last."""
    at = np.stack(
        [
            rng.integers(-ROW, STORED[2], (ITEMS, 3)),
            rng.integers(-3, STORED[1], (ITEMS, 3)),
            4 * np.arange(3) - rng.integers(0, 2, (ITEMS, 3)),
            np.broadcast_to(np.arange(ITEMS)[:, None], (ITEMS, 3)),
        ],
        axis=2,
    )
    at[0, 1, 3], at[1, 1, 3] = -1, ITEMS  # nowhere
    return {"x": integers(rng, 3, 12, ROW, dtype="uint16"), "at": at.astype(np.int32)}


def stored(x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """What of the boxes lies outside is left out."""
    out = np.zeros((ITEMS, *STORED), np.uint16)
    for boxes, places in zip(x, at, strict=True):
        for box, (c0, x0, y0, n) in zip(boxes, places, strict=True):
            for (y, w, c), value in np.ndenumerate(swizzled(box).reshape(3, 4, ROW)):
                index = (n, y0 + y, x0 + w, c0 + c)
                if all(0 <= i < size for i, size in zip(index, out.shape, strict=True)):
                    out[index] = value
    return out


def stmatrix(x: np.ndarray, row: np.ndarray, matrices: int = 4, trans: bool = False) -> np.ndarray:
    """Lane l's register i is elements 2 (l % 4), 2 (l % 4) + 1 of row l / 4 of matrix i, or of a
    column.
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
    """Between the two even warps once and, there and back again, between the odd ones twice."""
    warps = x.reshape(ITEMS, 2, 2, LANES)
    return np.stack([warps[:, ::-1, 0] + 1, warps[:, :, 1] + 2], axis=2).reshape(x.shape)


def sums(
    a: np.ndarray, b: np.ndarray, acc: np.ndarray, add: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where ``add`` is zero the sums start at zero, whatever the registers hold."""
    return a, b, np.where(add[:, None, None] != 0, acc, 0)


def wgmma_product(**arrays: np.ndarray) -> np.ndarray:
    return product(*sums(**arrays))


def wgmma_bound(**arrays: np.ndarray) -> np.ndarray:
    return product_bound(*sums(**arrays))


def wgmma_exact(**arrays: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return wgmma_product(**arrays).astype(np.float32)


def draw_wgmma(n: int, dtype: str, kind: str) -> Callable[[np.random.Generator], Arrays]:
    """``kind``: "any" data; "exact", integers times a power of two; "special": some infinite,
    some NaN, too.
    """

    def draw(rng: np.random.Generator) -> Arrays:
        shapes = (ITEMS, 64, ROW), (ITEMS, n, ROW), (ITEMS, 64, n)
        if kind == "any":
            a, b, acc = (rng.standard_normal(shape) for shape in shapes)
            a *= 2.0 ** rng.integers(-4, 5, a.shape)
        else:
            scale = 2.0 ** rng.integers(-6, 7, (ITEMS, 1, 1))
            a, b, acc = (rng.integers(-100, 101, shape) for shape in shapes)
            a, acc = a * scale, acc * scale
        add = rng.integers(0, 2, ITEMS, np.int32)
        if kind == "special":
            b = np.abs(b) + 1
            a[:, 1, 2], a[:, 2, 3] = np.inf, np.nan
            acc[:, 3, 5], acc[:, 4, 6] = -np.inf, np.nan  # gone without `add`
        a, b = (operand(x, dtype) for x in (a, b))
        return {"a": a, "b": b, "acc": acc.astype(np.float32), "add": add}

    return draw


def wgmma(n: int, dtype: str, name: str, element: str) -> list[Wrapper]:
    """Any data within the bound; data with exact sums, infinities and NaN to the bit."""

    def of(kind: str) -> Wrapper:
        return Wrapper(
            f"ptx_wgmma_{name}_n{n}", (f"wgmma<{element}, {n // 2}>", *WGMMA),
            draw_wgmma(n, dtype, kind), wgmma_product if kind == "any" else wgmma_exact,
            ((64, n), "float32"), wgmma_bound if kind == "any" else None, module=SM90,
            threads=128, smem=n * 128 + 7 * 2048 + 1024,
        )  # fmt: skip

    return [of("any"), of("exact"), of("special")]


BARRIER = ("mbarrier_init", "fence_mbarrier_init", "mbarrier_wait")
CLUSTER = ("cluster_arrive", "cluster_wait")
WGMMA = (
    "wgmma_descriptor", "wgmma_descriptor_low", "wgmma_fence", "wgmma_commit", "wgmma_wait",
    "wgmma_read", "fence_proxy_async", "shared_address",
)  # fmt: skip

WRAPPERS = [
    Wrapper(
        "ptx_mbarrier", (*BARRIER, "mbarrier_arrive", "shared_address"),
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
         "mbarrier_arrive_expect_tx", *BARRIER, *CLUSTER, "shared_address"),
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
