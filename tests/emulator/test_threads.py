"""What threads do together on the emulator: memory, divergence, shuffles, barriers, copies.

All of it under every schedule, with copies as late and as early as is legal: correct programs give
the same result, without an alarm. Incorrect ones are in test_emulator_checks.py.
"""

from __future__ import annotations

import struct

import numpy as np
import pytest
from support.ptx_programs import (
    address,
    aligned,
    compute,
    every_order,
    read,
    result,
    run,
    scratch,
)

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

LANE = np.arange(32)


# ---- Where threads are ----


def test_indices_in_three_dimensions() -> None:
    grid, block = (2, 3, 2), (4, 5, 3)
    threads, blocks = 60, 12
    out = result("out", (blocks * threads, 12))
    special = [f"%{name}.{axis}" for name in ("tid", "ctaid", "ntid", "nctaid") for axis in "xyz"]
    body = """mad.lo.u32 %r1, %tid.z, 5, %tid.y; mad.lo.u32 %r1, %r1, 4, %tid.x;
    mad.lo.u32 %r2, %ctaid.z, 3, %ctaid.y; mad.lo.u32 %r2, %r2, 2, %ctaid.x;
    mad.lo.u32 %r1, %r2, 60, %r1;
    """ + address("%rd1", "out", "%r1", 48)
    body += "".join(f"\nst.global.u32 [%rd1+{4 * i}], {name};" for i, name in enumerate(special))
    run(body, out, grid=grid, block=block)
    expected = [
        [x, y, z, bx, by, bz, *block, *grid]
        for bz in range(2) for by in range(3) for bx in range(2)
        for z in range(3) for y in range(5) for x in range(4)
    ]  # fmt: skip
    np.testing.assert_array_equal(out.array, expected)


def test_lane_registers() -> None:
    bit = 1 << LANE.astype(np.uint64)
    expected = {"laneid": LANE, "lanemask_eq": bit, "lanemask_lt": bit - 1,
                "lanemask_le": 2 * bit - 1, "lanemask_gt": 2**32 - 2 * bit,
                "lanemask_ge": 2**32 - bit}  # fmt: skip
    for name, values in expected.items():
        got = compute(f"mov.u32 %d, %{name};", 64, np.uint32)
        np.testing.assert_array_equal(got, np.tile(values, 2), err_msg=name)


# ---- Memory ----

WIDTHS = [(t, count) for t in ("u8", "u16", "u32", "u64") for count in (1, 2, 4)
          if int(t[1:]) * count <= 128]  # fmt: skip


@pytest.mark.parametrize(("t", "count"), WIDTHS, ids=lambda value: str(value))
@pytest.mark.parametrize("through", ["registers", "shared"])
def test_load_and_store_widths(t: str, count: int, through: str) -> None:
    bits = int(t[1:])
    size = bits // 8 * count
    x = np.random.default_rng(0).integers(0, 256, 64 * size, np.uint8)
    out = result("out", 64 * size, np.uint8)
    register = {8: "h", 16: "h", 32: "r", 64: "rd"}[bits]
    values = ", ".join(f"%{register}{20 + i}" for i in range(count))
    value, vector = (f"{{{values}}}", f".v{count}") if count > 1 else (values, "")
    body = address("%rd1", "x", "%thread", size) + address("%rd2", "out", "%thread", size)
    body += f"\nld.global{vector}.{t} {value}, [%rd1];"
    if through == "shared":
        body += f""".shared .align 16 .b8 smem[{64 * size}];
        mov.u32 %r1, smem; mad.lo.u32 %r1, %tid, {size}, %r1;
        st.shared{vector}.{t} [%r1], {value};
        ld.shared{vector}.{t} {value}, [%r1];"""
    body += f"\nst.global{vector}.{t} [%rd2], {value};"
    counters = run(body, read("x", x), out, block=64)
    np.testing.assert_array_equal(out.array, x)
    assert counters["load_bytes"] == counters["store_bytes"] == 64 * size


@pytest.mark.parametrize(("t", "to"), [("s8", "s16"), ("s8", "s32"), ("s8", "s64"), ("s16", "s32"),
                                       ("s16", "s64"), ("s32", "s64")])  # fmt: skip
def test_signed_loads_extend_the_sign(t: str, to: str) -> None:
    dtype = np.dtype(f"i{int(t[1:]) // 8}")
    x = np.arange(-32, 32, dtype=dtype) * 3
    got = compute(
        address("%rd1", "x", "%thread", dtype.itemsize) + f"ld.global.{t} %d, [%rd1];",
        64, f"i{int(to[1:]) // 8}", read("x", x),
    )  # fmt: skip
    np.testing.assert_array_equal(got, x)


def test_an_offset_may_be_negative() -> None:
    x = np.arange(40, dtype=np.uint32)
    code = address("%rd1", "x", "%thread", 4, 16) + "ld.global.nc.u32 %d, [%rd1+-12];"
    np.testing.assert_array_equal(compute(code, 32, np.uint32, read("x", x)), np.arange(1, 33))


def test_generic_addresses_of_shared_memory() -> None:
    code = """.shared .align 4 .b8 smem[128];
    mov.u32 %r1, smem; mad.lo.u32 %r1, %tid, 4, %r1;
    cvt.u64.u32 %rd1, %r1; cvta.shared.u64 %rd2, %rd1;
    st.u32 [%rd2], %tid;
    cvta.to.shared.u64 %rd3, %rd2; cvt.u32.u64 %r2, %rd3;
    ld.shared.u32 %d, [%r2];"""
    np.testing.assert_array_equal(compute(code, 32, np.uint32), LANE)


def test_generic_addresses_of_global_memory() -> None:
    x = read("x", np.arange(32, dtype=np.uint32))
    code = "cvta.global.u64 %rd5, %x; cvta.to.global.u64 %rd5, %rd5;"
    code += "mul.wide.u32 %rd1, %tid, 4; add.s64 %rd1, %rd1, %rd5; ld.u32 %d, [%rd1];"
    np.testing.assert_array_equal(compute(code, 32, np.uint32, x), LANE)


def test_dynamic_shared_memory_lies_behind_the_static() -> None:
    code = """.shared .align 4 .b8 static_smem[20];
    mov.u32 %r1, dynamic_smem; mov.u32 %r2, static_smem; mad.lo.u32 %r3, %tid, 4, %r1;
    sub.u32 %r4, %r1, %r2;
    st.shared.u32 [%r3], %r4;
    ld.shared.u32 %d, [%r3];"""
    np.testing.assert_array_equal(compute(code, 32, np.uint32, smem=128), np.full(32, 32))


def test_parameters_that_are_structs() -> None:
    """A struct by value, read in parts and through a register."""
    values = struct.pack("<iihhBxxxd", -5, 7, -3, 9, 200, 2.5)
    out = result("out", 6, np.float64)
    body = """ld.param.s32 %r1, [params]; ld.param.v2.u32 {%r2, %r3}, [params];
    ld.param.s16 %r4, [params+8]; ld.param.u8 %r5, [params+12]; ld.param.f64 %fd5, [params+16];
    mov.u64 %rd1, params; ld.param.u32 %r6, [%rd1+4];
    setp.ne.u32 %p1, %tid, 0; @%p1 ret;
    cvt.rn.f64.s32 %fd1, %r1; st.global.f64 [%out], %fd1;
    cvt.rn.f64.s32 %fd1, %r3; st.global.f64 [%out+8], %fd1;
    cvt.rn.f64.s32 %fd1, %r4; st.global.f64 [%out+16], %fd1;
    cvt.rn.f64.s32 %fd1, %r5; st.global.f64 [%out+24], %fd1;
    st.global.f64 [%out+32], %fd5;
    cvt.rn.f64.s32 %fd1, %r6; st.global.f64 [%out+40], %fd1;"""
    run(body, out, extra_params=".param .align 8 .b8 params[24]", extra_bytes=values)
    np.testing.assert_array_equal(out.array, [-5, 7, -3, 200, 2.5, 7])


# ---- Counters ----


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 32, 33])
def test_bank_conflicts(stride: int) -> None:
    """Words 32 apart share a bank; threads that read the same word share the access."""
    code = f""".shared .align 16 .b8 smem[{4 * 32 * 33 + 4}];
    mov.u32 %r1, smem; mad.lo.u32 %r1, %tid, {4 * stride}, %r1;
    st.shared.u32 [%r1], %tid;
    ld.shared.u32 %d, [%r1];"""
    out = result("out", 32)
    body = (
        f".reg .b32 %d;\n{code}\n" + address("%rd1", "out", "%tid", 4) + "st.global.u32 [%rd1], %d;"
    )
    counters = run(body, out)
    banks = np.bincount(LANE * stride % 32)
    assert counters["shared_ideal"] == 2
    assert counters["shared_wavefronts"] == 2 * banks.max()


@pytest.mark.parametrize(("size", "sectors"), [(4, 4), (8, 8), (16, 16), (64, 32)])
def test_sectors(size: int, sectors: int) -> None:
    x = np.zeros(32 * size, np.uint8)
    body = address("%rd1", "x", "%tid", size) + "ld.global.u32 %r1, [%rd1];"
    counters = run(body, read("x", x))
    assert (counters["load_bytes"], counters["load_sectors"]) == (128, sectors)


def test_products_and_barriers_are_counted() -> None:
    body = "fma.rn.f32 %f1, %f2, %f3, %f4;\nbar.sync 0;\nbar.sync 0;\n"
    body += "shfl.sync.bfly.b32 %r1, %tid, 1, 31, -1;"
    counters = run(body, grid=3, block=64)
    counted = (counters["fma"], counters["barriers"], counters["shuffles"])
    assert counted == (3 * 64, 6, 6)


# ---- Divergence ----


@every_order
def test_if_and_else(schedule: str, lazy: bool) -> None:
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


def test_a_warp_that_is_not_full() -> None:
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


def test_scopes_of_registers() -> None:
    """Braces, as inline assembly has them."""
    code = """mov.u32 %d, 1;
    { .reg .b32 x; mov.u32 x, 5; { .reg .b32 x; mov.u32 x, 9; } add.u32 %d, %d, x; }"""
    np.testing.assert_array_equal(compute(code, 32, np.uint32), np.full(32, 6))


# ---- Shuffles, votes, reductions ----


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


def test_shuffle_idx_reads_each_threads_own_lane() -> None:
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


# ---- Barriers ----

REVERSE = """.shared .align 4 .b8 smem[{bytes}];
mov.u32 %r1, smem; mad.lo.u32 %r2, %tid, 4, %r1;
st.shared.u32 [%r2], %tid;
{barrier}
sub.u32 %r3, {last}, %tid; mad.lo.u32 %r3, %r3, 4, %r1;
ld.shared.u32 %d, [%r3];"""


@every_order
@pytest.mark.parametrize("barrier", ["bar.sync 0;", "barrier.sync 3;", "bar.sync 1, 128;",
                                     "barrier.cta.sync.aligned 15;"])  # fmt: skip
def test_a_barrier_shows_every_warps_stores(barrier: str, schedule: str, lazy: bool) -> None:
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


# ---- Atomics ----

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


# ---- Asynchronous copies ----


def copied(bytes_: int, code: str, source: np.ndarray, **options: object) -> np.ndarray:
    """What each thread finds in its ``bytes_`` of shared memory (%r2) after ``code``."""
    out = result("out", 32 * bytes_, np.uint8)
    words = bytes_ // 4
    values = [f"%r{40 + i}" for i in range(words)]
    value, vector = (f"{{{', '.join(values)}}}", f".v{words}") if words > 1 else (values[0], "")
    body = f""".shared .align 16 .b8 smem[{32 * bytes_}];
    mov.u32 %r1, smem; mad.lo.u32 %r2, %tid, {bytes_}, %r1;
    {address("%rd1", "x", "%tid", bytes_)} {address("%rd2", "out", "%tid", bytes_)}
    {code}
    ld.shared{vector}.u32 {value}, [%r2];
    st.global{vector}.u32 [%rd2], {value};"""
    run(body, read("x", source), out, **options)
    return out.array


NOISE = np.random.default_rng(0).integers(1, 256, 512, np.uint8)


@every_order
@pytest.mark.parametrize("bytes_", [4, 8, 16])
@pytest.mark.parametrize("wait", ["group", "all"])
def test_copy(bytes_: int, wait: str, schedule: str, lazy: bool) -> None:
    cache = "cg" if bytes_ == 16 else "ca"
    code = f"cp.async.{cache}.shared.global [%r2], [%rd1], {bytes_};"
    code += (
        "cp.async.commit_group; cp.async.wait_group 0;" if wait == "group" else "cp.async.wait_all;"
    )
    x = NOISE[: 32 * bytes_]
    got = copied(bytes_, code, x, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got, x)


@every_order
@pytest.mark.parametrize("bytes_", [4, 8, 16])
def test_copy_fills_up_with_zeros(bytes_: int, schedule: str, lazy: bool) -> None:
    """Source sizes 0, 1, ... up to the whole; nothing beyond them is read."""
    cache = "cg" if bytes_ == 16 else "ca"
    code = f"""rem.u32 %r9, %tid, {bytes_ + 1};
    cp.async.{cache}.shared.global [%r2], [%rd1], {bytes_}, %r9;
    cp.async.wait_all;"""
    x = NOISE[: 32 * bytes_]
    kept = np.arange(bytes_) < (LANE % (bytes_ + 1))[:, None]
    got = copied(bytes_, code, x, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got.reshape(32, -1), np.where(kept, x.reshape(32, -1), 0))


def test_copy_of_nothing_may_have_any_address() -> None:
    code = """mov.u32 %r9, 0; sub.s64 %rd1, %rd1, 1600;
    cp.async.cg.shared.global.L2::128B [%r2], [%rd1], 16, %r9;
    cp.async.wait_all;"""
    np.testing.assert_array_equal(copied(16, code, NOISE), np.zeros(512))


def test_copy_may_be_ignored() -> None:
    """A predicate in the place of the source size: true copies nothing, and writes zeros."""
    code = """and.b32 %r9, %tid, 1; setp.eq.u32 %p1, %r9, 1;
    cp.async.cg.shared.global [%r2], [%rd1], 16, %p1;
    cp.async.wait_all;"""
    expected = np.where(LANE[:, None] % 2 == 1, 0, NOISE.reshape(32, 16))
    np.testing.assert_array_equal(copied(16, code, NOISE).reshape(32, 16), expected)


@every_order
@pytest.mark.parametrize("pending", [0, 1, 2])
def test_wait_for_all_groups_but_the_newest(pending: int, schedule: str, lazy: bool) -> None:
    """Three groups and an empty one; the oldest 4 - pending have arrived and may be read."""
    x = NOISE[:384]
    out = result("out", 4 - max(pending, 1), np.uint32)
    code = (
        """.shared .align 16 .b8 smem[48];
    setp.ne.u32 %p1, %tid, 0; @%p1 bra END;
    mov.u32 %r1, smem;
    cp.async.ca.shared.global [%r1], [%x], 4; cp.async.commit_group;
    cp.async.ca.shared.global [%r1+4], [%x+4], 4; cp.async.commit_group;
    cp.async.ca.shared.global [%r1+8], [%x+8], 4; cp.async.commit_group;
    cp.async.commit_group;
    """
        + f"cp.async.wait_group {pending};"
    )
    for i in range(len(out.array)):
        code += f"ld.shared.u32 %r2, [%r1+{4 * i}]; st.global.u32 [%out+{4 * i}], %r2;"
    run(code + "cp.async.wait_all;\nEND:", read("x", x), out, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(out.array, x.view(np.uint32)[: len(out.array)])


@every_order
def test_copies_for_other_warps(schedule: str, lazy: bool) -> None:
    """Each waits for its own copies; after the barrier, all may read all."""
    code = (
        """.shared .align 16 .b8 smem[1024];
    mov.u32 %r1, smem; mad.lo.u32 %r2, %tid, 16, %r1;
    """
        + address("%rd1", "x", "%tid", 16)
        + """
    cp.async.cg.shared.global [%r2], [%rd1], 16;
    cp.async.commit_group;
    cp.async.wait_group 0;
    bar.sync 0;
    xor.b32 %r3, %r2, 512; ld.shared.u32 %d, [%r3];"""
    )
    x = np.arange(256, dtype=np.uint32)
    got = compute(code, 64, np.uint32, read("x", x), schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got, 4 * (np.arange(64) ^ 32))


@pytest.mark.parametrize("options", [{"schedule": "sideways"}, {"schedule": ""}], ids=str)
def test_unknown_options(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="schedule: expected one of forward, random, reverse"):
        _C.Emulator(**options)


def test_poison() -> None:
    """What a kernel has not written is NaN, not what was there."""
    out = aligned(np.zeros(4, np.float32))
    emulator = _C.Emulator()
    text = ".version 7.8\n.target sm_80\n.entry nothing() { ret; }\n"
    with pytest.raises(_C.EmulatorError, match="16 of the 16 bytes of y were never written"):
        emulator.launch(text, "nothing", grid=(1, 1, 1), block=(32, 1, 1), params=b"",
                        buffers=[("y", out, "write_once")])  # fmt: skip
    assert np.isnan(out).all()
