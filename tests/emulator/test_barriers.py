"""Barriers and atomics on the emulator, in every order."""

from __future__ import annotations

import numpy as np
import pytest
from support.ptx_programs import (
    address,
    compute,
    every_order,
    read,
    result,
    run,
    scratch,
)

pytestmark = pytest.mark.emulator

LANE = np.arange(32)


REVERSE = """.shared .align 4 .b8 smem[{bytes}];
mov.u32 %r1, smem; mad.lo.u32 %r2, %tid, 4, %r1;
st.shared.u32 [%r2], %tid;
{barrier}
sub.u32 %r3, {last}, %tid; mad.lo.u32 %r3, %r3, 4, %r1;
ld.shared.u32 %d, [%r3];"""


@every_order
@pytest.mark.parametrize("barrier", ["bar.sync 0;", "barrier.sync 3;", "bar.sync 1, 128;",
                                     "barrier.cta.sync.aligned 15;"])  # fmt: skip
def test_barrier_shows_stores_of_every_warp(barrier: str, schedule: str, lazy: bool) -> None:
    code = REVERSE.format(bytes=512, barrier=barrier, last=127)
    got = compute(code, 128, np.uint32, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got, 127 - np.arange(128))


@every_order
def test_named_barriers_of_some_warps(schedule: str, lazy: bool) -> None:
    """Warps 0, 1 and warps 2, 3 each exchange by themselves, at their own barrier."""
    code = """.shared .align 4 .b8 smem[512];
    mov.u32 %r1, smem; mad.lo.u32 %r2, %tid, 4, %r1;
    shr.u32 %r5, %tid, 6; add.u32 %r5, %r5, 1;
    mov.u32 %r6, 0;
    LOOP: add.u32 %r7, %tid, %r6; st.shared.u32 [%r2], %r7;
    bar.sync %r5, 64;
    xor.b32 %r3, %tid, 32; mad.lo.u32 %r3, %r3, 4, %r1; ld.shared.u32 %d, [%r3];
    bar.sync %r5, 64;
    add.u32 %r6, %r6, 1; setp.lt.u32 %p1, %r6, 5; @%p1 bra LOOP;"""
    got = compute(code, 128, np.uint32, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got, (np.arange(128) ^ 32) + 4)


@every_order
def test_producers_arrive_and_consumers_wait(schedule: str, lazy: bool) -> None:
    """Warp 0 fills a buffer that warp 1 reads: full and empty barriers, twice round."""
    out = result("out", 128)
    body = """.shared .align 4 .b8 smem[128];
    mov.u32 %r1, smem; mad.lo.u32 %r2, %lane, 4, %r1; mov.u32 %r3, 0;
    setp.eq.u32 %p1, %warp, 1; @%p1 bra CONSUMER;
    FILL: bar.sync 1, 64;
    mad.lo.u32 %r4, %r3, 100, %lane; st.shared.u32 [%r2], %r4;
    bar.arrive 2, 64;
    add.u32 %r3, %r3, 1; setp.lt.u32 %p2, %r3, 4; @%p2 bra FILL;
    bra END;
    CONSUMER: bar.arrive 1, 64;
    DRAIN: bar.sync 2, 64;
    xor.b32 %r5, %r2, 4; ld.shared.u32 %r6, [%r5];
    setp.lt.u32 %p2, %r3, 3; @%p2 bar.arrive 1, 64;
    mad.lo.u32 %r7, %r3, 32, %lane;""" + address("%rd1", "out", "%r7", 4)
    body += """st.global.u32 [%rd1], %r6;
    add.u32 %r3, %r3, 1; setp.lt.u32 %p2, %r3, 4; @%p2 bra DRAIN;
    END:"""
    run(body, out, block=64, schedule=schedule, lazy=lazy)
    expected = 100 * np.arange(4)[:, None] + (LANE ^ 1)
    np.testing.assert_array_equal(out.array.reshape(4, 32), expected)


@every_order
def test_barriers_that_vote(schedule: str, lazy: bool) -> None:
    code = """setp.lt.u32 %p1, %tid, 70; setp.lt.u32 %p2, %tid, 500;
    bar.red.popc.u32 %d, 0, %p1;
    bar.red.and.pred %p3, 0, %p1; @%p3 add.u32 %d, %d, 1000;
    bar.red.or.pred %p4, 0, %p1; @%p4 add.u32 %d, %d, 2000;
    bar.red.and.pred %p5, 0, %p2; @%p5 add.u32 %d, %d, 4000;
    bar.red.or.pred %p6, 0, !%p2; @%p6 add.u32 %d, %d, 8000;"""
    got = compute(code, 96, np.uint32, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got, np.full(96, 70 + 2000 + 4000))


@every_order
def test_warp_barrier_orders_its_lanes(schedule: str, lazy: bool) -> None:
    code = REVERSE.format(bytes=128, barrier="bar.warp.sync -1;", last=31)
    got = compute(code, 32, np.uint32, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got, 31 - LANE)


ATOMICS = [
    ("add.u32", np.uint32, 5, lambda v: 5 + v.sum()),
    ("add.s32", np.int32, -5, lambda v: -5 + v.sum()),
    ("add.u64", np.uint64, 1 << 40, lambda v: (1 << 40) + v.sum()),
    ("add.f32", np.float32, 0.5, lambda v: 0.5 + v.sum()),
    ("min.s32", np.int32, 50, lambda v: min(50, v.min())),
    ("max.u32", np.uint32, 7, lambda v: max(7, v.max())),
    ("or.b32", np.uint32, 1, lambda v: 1 | np.bitwise_or.reduce(v)),
    ("and.b32", np.uint32, 255, lambda v: 255 & np.bitwise_and.reduce(v)),
    ("xor.b32", np.uint32, 9, lambda v: 9 ^ np.bitwise_xor.reduce(v)),
]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("op", "dtype", "start", "expected"), ATOMICS, ids=[a[0] for a in ATOMICS])
def test_atomics_of_many_blocks(
    op: str, dtype: type, start: float, expected: object, workers: int
) -> None:
    grid, block = 20, 64
    values = (np.arange(grid * block) % 97).astype(dtype)
    total = scratch("total", np.array([start], dtype))
    size = values.itemsize
    register = {"f": "%f1", "u": "%r1", "i": "%r1"}[values.dtype.kind] if size == 4 else "%rd5"
    body = address("%rd1", "x", "%thread", size) + f"ld.global.b{8 * size} {register}, [%rd1];\n"
    body += f"red.global.{op} [%total], {register};"
    counters = run(body, read("x", values), total, grid=grid, block=block, workers=workers)
    assert total.array[0] == expected(values)
    assert counters["atomics"] == grid * block


def test_atomics_return_what_was_there() -> None:
    """Every thread of every block draws a ticket: all different."""
    counter = scratch("counter", np.zeros(1, np.uint32))
    code = "atom.global.add.u32 %d, [%counter], 1;"
    got = compute(code, 1280, np.uint32, counter, block=64, workers=2)
    np.testing.assert_array_equal(np.sort(got), np.arange(1280))


def test_exchange_compare_increment_decrement() -> None:
    cells = scratch("cells", np.array([3, 3, 3, 0], np.uint32))
    body = """setp.ne.u32 %p1, %tid, 0; @%p1 ret;
    atom.global.exch.b32 %r1, [%cells], 10;
    atom.global.cas.b32 %r2, [%cells+4], 3, 20; atom.global.cas.b32 %r3, [%cells+4], 3, 30;
    atom.global.inc.u32 %r4, [%cells+8], 3;
    atom.global.dec.u32 %r5, [%cells+12], 9;
    add.u32 %r6, %r1, %r2; add.u32 %r6, %r6, %r3; add.u32 %r6, %r6, %r4; add.u32 %r6, %r6, %r5;
    st.global.u32 [%out], %r6;"""
    out = result("out", 1)
    run(body, cells, out)
    np.testing.assert_array_equal(cells.array, [10, 20, 0, 9])
    assert out.array[0] == 3 + 3 + 20 + 3 + 0


@every_order
def test_atomics_in_shared_memory(schedule: str, lazy: bool) -> None:
    code = """.shared .align 4 .b8 smem[4];
    setp.eq.u32 %p1, %tid, 0; @%p1 st.shared.u32 [smem], 0;
    bar.sync 0;
    atom.shared.add.u32 %r1, [smem], %tid;
    red.shared.add.u32 [smem], 1;
    bar.sync 0;
    ld.shared.u32 %d, [smem];"""
    got = compute(code, 96, np.uint32, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got, np.full(96, 96 * 95 // 2 + 96))
