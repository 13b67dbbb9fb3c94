"""Addresses in shared memory hold the rank of their block, as they do in machine code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.ptx_pairs import Pair, assert_fails_in_every_order, assert_runs_in_every_order
from support.ptx_programs import Buffer, address, every_order, read, result, run
from support.ptx_wgmma import BASE, FILL, SHARED, THREADS, M, Tile

pytestmark = pytest.mark.emulator

RANK = 1 << 24
BLOCKS = 3
OWN = ".shared .align 16 .b8 first[64]; .shared .align 16 .b8 smem[256];\n"
OUT = address("%rd9", "out", "%thread", 4) + "st.global.u32 [%rd9], %r9;"


def by_block(code: str, expected: Any, **options: Any) -> None:
    """Run one thread in each block of a cluster; compare what it leaves in %r9."""
    out = result("out", BLOCKS)
    run(OWN + code + OUT, out, grid=BLOCKS, cluster=(BLOCKS, 1, 1), block=1, **options)
    np.testing.assert_array_equal(out.array, expected)


@pytest.mark.parametrize(
    ("code", "offset"),
    [
        ("mov.u32 %r9, first;", 0),
        ("mov.u32 %r9, smem;", 64),
        ("mov.u32 %r9, smem+32;", 96),
        ("mov.u64 %rd1, smem; cvt.u32.u64 %r9, %rd1;", 64),
        ("mov.u64 %rd1, smem; cvta.shared.u64 %rd1, %rd1; cvt.u32.u64 %r9, %rd1;", 64),
        ("mov.u64 %rd1, smem; cvta.shared.u64 %rd1, %rd1; cvta.to.shared.u64 %rd1, %rd1;"
         "cvt.u32.u64 %r9, %rd1;", 64),
    ],
)  # fmt: skip
def test_own_addresses_hold_the_rank(code: str, offset: int) -> None:
    by_block(code, BASE + offset + RANK * np.arange(BLOCKS))


def test_numbers_hold_no_rank() -> None:
    """The address of `first` in block 0 is also a number."""
    by_block(f"mov.u32 %r1, first; mov.u32 %r9, {BASE}; sub.u32 %r9, %r1, %r9;",
             RANK * np.arange(BLOCKS))  # fmt: skip


def test_mapped_addresses_hold_the_other_rank() -> None:
    by_block("mov.u32 %r1, smem; mapa.shared::cluster.u32 %r9, %r1, 2;", BASE + 64 + 2 * RANK)


@every_order
def test_own_addresses_reach_the_own_block(schedule: str, lazy: bool) -> None:
    code = """mov.u32 %r1, smem; mov.u32 %r2, %cluster_ctarank; st.shared.u32 [smem+4], %r2;
    ld.shared.u32 %r3, [%r1+4]; st.shared::cluster.u32 [%r1+8], %r3;
    ld.shared::cta.u32 %r4, [smem+8];
    cvt.u64.u32 %rd1, %r1; cvta.shared.u64 %rd1, %rd1; st.u32 [%rd1+12], %r4;
    ld.u32 %r9, [%rd1+12];
    """
    by_block(code, np.arange(BLOCKS), schedule=schedule, lazy=lazy)


# One product in each of two blocks. The tile of A is at the start of shared memory.
A, B = Tile(M, 3, stride=1024), Tile(8, 3, start=8192, stride=1024)
PRODUCT = (
    FILL
    + """
ld.global.u64 %rd20, [%d]; ld.global.u64 %rd21, [%d+8]; setp.eq.u32 %p2, %r1, %r1;
FAULT // HERE
or.b32 %r9, %r9, 65536; mov.b64 {%r8, %r10}, %rd20; mov.b64 %rd20, {%r9, %r10};
"""
    + "".join(f"mov.f32 %f{i}, 0f00000000;\n" for i in range(4))
    + "wgmma.fence.sync.aligned;\nwgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 "
    + "{%f0, %f1, %f2, %f3}, %rd20, %rd21, %p2, 1, 1, 0, 0;\n"
    + "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;\n"
    + address("%rd2", "out", "%thread", 16)
    + "st.global.v4.f32 [%rd2], {%f0, %f1, %f2, %f3};"
)


def tiles() -> list[Buffer]:
    descriptors = np.array([tile.descriptor() for tile in (A, B)], np.uint64)
    return [read("image", np.zeros(SHARED, np.uint8)), read("d", descriptors),
            result("out", 2 * 4 * THREADS, np.float32)]  # fmt: skip


DESCRIPTOR = Pair(
    "address-with-a-rank",
    PRODUCT,
    "shr.u32 %r9, %r1, 4;",
    "and.b32 %r9, %r1, 262143; shr.u32 %r9, %r9, 4;",
    (
        "block (1,0,0), warp * (threads *), *: the descriptor's leading dimension byte offset is "
        "272, which a swizzled operand does not use: expected 0 or 16. Mask the address (0x3ffff): "
        "it holds the block's rank in the cluster, 1",
    ),
    tiles,
    {"grid": 2, "cluster": (2, 1, 1), "block": THREADS},
)


def test_descriptor_with_a_rank_is_found() -> None:
    assert_fails_in_every_order(DESCRIPTOR)


def test_descriptor_with_a_masked_address_is_right() -> None:
    assert_runs_in_every_order(DESCRIPTOR)
