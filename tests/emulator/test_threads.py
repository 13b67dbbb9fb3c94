"""Divergence, shuffles, votes and reductions of warps on the emulator, in every order."""

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


@every_order
def test_branch_if_and_else(schedule: str, lazy: bool) -> None:
    code = """rem.u32 %r1, %thread, 3;
    setp.eq.u32 %p1, %r1, 0; @%p1 bra ZERO;
    setp.eq.u32 %p1, %r1, 1; @%p1 bra ONE;
    mul.lo.u32 %d, %thread, 5; bra END;
    ZERO: add.u32 %d, %thread, 1000; bra END;
    ONE: mov.u32 %d, 7;
    END: add.u32 %d, %d, 1;"""
    i = np.arange(128)
    got = compute(code, 128, np.uint32, block=64, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got, np.choose(i % 3, [i + 1001, np.full(128, 8), 5 * i + 1]))


@every_order
def test_loops_of_different_lengths(schedule: str, lazy: bool) -> None:
    """Collatz: each thread goes round as often as its number needs; then all meet in a shuffle."""
    code = """add.u32 %r1, %thread, 1; mov.u32 %r2, 0;
    LOOP: setp.eq.u32 %p1, %r1, 1; @%p1 bra END;
    and.b32 %r3, %r1, 1; setp.eq.u32 %p2, %r3, 0; @%p2 bra EVEN;
    mad.lo.u32 %r1, %r1, 3, 1; bra NEXT;
    EVEN: shr.u32 %r1, %r1, 1;
    NEXT: add.u32 %r2, %r2, 1; bra LOOP;
    END: shfl.sync.bfly.b32 %d, %r2, 1, 31, -1;"""

    def steps(n: int) -> int:
        count = 0
        while n != 1:
            n, count = (3 * n + 1 if n % 2 else n // 2), count + 1
        return count

    got = compute(code, 64, np.uint32, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got, [steps((i ^ 1) + 1) for i in range(64)])


def test_early_exit() -> None:
    out = scratch("out", np.zeros(64, np.uint32))
    body = "setp.lt.u32 %p1, %tid, 40;\n@%p1 ret;\nsetp.eq.u32 %p1, %tid, 50; @%p1 exit;\n"
    run(body + address("%rd1", "out", "%tid", 4) + "st.global.u32 [%rd1], %tid;", out, block=64)
    i = np.arange(64)
    np.testing.assert_array_equal(out.array, np.where((i < 40) | (i == 50), 0, i))


def test_partial_warp() -> None:
    out = result("out", 45)
    body = address("%rd1", "out", "%tid", 4) + "bar.sync 0;\nst.global.u32 [%rd1], %tid;"
    run(body, out, block=45)
    np.testing.assert_array_equal(out.array, np.arange(45))


def test_branch_table() -> None:
    code = """and.b32 %r1, %tid, 3;
    TABLE: .branchtargets A, B, C, B;
    brx.idx %r1, TABLE;
    A: mov.u32 %d, 10; bra END;
    B: mov.u32 %d, 20; bra END;
    C: mov.u32 %d, 30;
    END: add.u32 %d, %d, 1;"""
    np.testing.assert_array_equal(
        compute(code, 32, np.uint32), np.array([11, 21, 31, 21])[LANE % 4]
    )


def test_registers_have_scopes() -> None:
    """Braces, as inline assembly has them."""
    code = """mov.u32 %d, 1;
    { .reg .b32 x; mov.u32 x, 5; { .reg .b32 x; mov.u32 x, 9; } add.u32 %d, %d, x; }"""
    np.testing.assert_array_equal(compute(code, 32, np.uint32), np.full(32, 6))


def shuffled(mode: str, lane: int, b: int, c: int) -> tuple[int, bool]:
    """The lane that is read, and whether it is in range. PTX ISA, 9.7.9.6, its pseudo-code."""
    bval, cval, segment = b & 31, c & 31, c >> 8 & 31
    max_lane = (lane & segment) | (cval & ~segment)
    min_lane = lane & segment
    if mode == "up":
        j, ok = lane - bval, lane - bval >= max_lane
    elif mode == "down":
        j, ok = lane + bval, lane + bval <= max_lane
    elif mode == "bfly":
        j, ok = lane ^ bval, lane ^ bval <= max_lane
    else:
        j = min_lane | (bval & ~segment)
        ok = j <= max_lane
    return (j if ok else lane), ok


@pytest.mark.parametrize("width", [32, 16, 8, 4, 2])
@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
def test_shuffles(mode: str, width: int) -> None:
    """As __shfl_*_sync(…, width) compiles, by every distance; the predicate too."""
    c = (32 - width) << 8 | (0 if mode == "up" else 31)
    for b in (0, 1, 2, 3, 5, 8, 16, 31):
        code = f"""mul.lo.u32 %r1, %tid, 3;
        shfl.sync.{mode}.b32 %r2|%p1, %r1, {b}, {c}, -1;
        selp.u32 %d, 1000, 0, %p1; add.u32 %d, %d, %r2;"""
        sources = [shuffled(mode, lane, b, c) for lane in range(32)]
        np.testing.assert_array_equal(
            compute(code, 32, np.uint32), [3 * lane + 1000 * ok for lane, ok in sources]
        )


def test_shuffle_idx_reads_the_named_lane() -> None:
    code = "sub.u32 %r1, 31, %tid; shfl.sync.idx.b32 %d, %tid, %r1, 31, -1;"
    np.testing.assert_array_equal(compute(code, 32, np.uint32), 31 - LANE)


def test_shuffle_within_members() -> None:
    """Two halves of a warp, diverged, shuffle by themselves."""
    code = """setp.lt.u32 %p1, %tid, 16; @%p1 bra LOW;
    shfl.sync.bfly.b32 %d, %tid, 1, 31, 0xffff0000; bra END;
    LOW: shfl.sync.bfly.b32 %d, %tid, 2, 31, 0x0000ffff;
    END: bar.warp.sync -1;"""
    np.testing.assert_array_equal(
        compute(code, 32, np.uint32), np.where(LANE < 16, LANE ^ 2, LANE ^ 1)
    )


def test_votes() -> None:
    x = np.random.default_rng(0).integers(0, 2, 32).astype(np.uint32)
    for values in (x, np.zeros(32, np.uint32), np.ones(32, np.uint32)):
        code = (
            address("%rd1", "x", "%tid", 4)
            + """ld.global.u32 %r1, [%rd1];
        setp.ne.u32 %p1, %r1, 0;
        vote.sync.ballot.b32 %r2, %p1, -1;
        vote.sync.all.pred %p2, %p1, -1; vote.sync.any.pred %p3, %p1, -1;
        vote.sync.uni.pred %p4, %p1, -1; vote.sync.any.pred %p5, !%p1, -1;
        cvt.u64.u32 %d, %r2;
        @%p2 add.u64 %d, %d, 0x100000000; @%p3 add.u64 %d, %d, 0x200000000;
        @%p4 add.u64 %d, %d, 0x400000000; @%p5 add.u64 %d, %d, 0x800000000;"""
        )
        got = compute(code, 32, np.uint64, read("x", values))
        ballot = sum(int(bit) << lane for lane, bit in enumerate(values))
        flags = [values.all(), values.any(), values.all() or not values.any(), not values.all()]
        expected = ballot + sum(int(flag) << 32 + i for i, flag in enumerate(flags))
        np.testing.assert_array_equal(got, np.full(32, expected, np.uint64))


@pytest.mark.parametrize("op", ["add.u32", "min.s32", "max.s32", "min.u32", "max.u32", "or.b32",
                                "and.b32", "xor.b32"])  # fmt: skip
def test_reductions_of_a_warp(op: str) -> None:
    x = np.random.default_rng(0).integers(-1000, 1000, 32).astype(np.int32)
    code = (
        address("%rd1", "x", "%tid", 4) + f"ld.global.u32 %r1, [%rd1]; redux.sync.{op} %d, %r1, -1;"
    )
    name, t = op.split(".")
    function = {"add": np.add, "min": np.minimum, "max": np.maximum, "or": np.bitwise_or,
                "and": np.bitwise_and, "xor": np.bitwise_xor}[name]  # fmt: skip
    expected = function.reduce(x if t == "s32" else x.view(np.uint32))
    got = compute(code, 32, np.uint32, read("x", x))
    np.testing.assert_array_equal(got, np.full(32, expected).astype(np.uint32))


def test_active_mask() -> None:
    code = """mov.u32 %d, 0; setp.lt.u32 %p1, %tid, 5; @%p1 bra LOW;
    activemask.b32 %d; bra END;
    LOW: activemask.b32 %d;
    END: bar.warp.sync -1;"""
    np.testing.assert_array_equal(compute(code, 32, np.uint32), np.where(LANE < 5, 31, 2**32 - 32))
