"""Faults of mbarriers, bulk copies and setmaxnreg: each is found in every order."""

from __future__ import annotations

import pytest
from support.ptx_mbarriers import (
    RING_PARTS,
    ROUND_TRIP,
    WORDS,
    ring,
    setup,
    wait,
)
from support.ptx_pairs import (
    Pair,
    assert_fails_in_every_order,
    assert_runs_in_every_order,
)
from support.ptx_programs import Buffer, read, result, run

from vgg_cuda import _C

pytestmark = pytest.mark.emulator


def out32() -> list[Buffer]:
    return [result("out", 160)]


def x_out() -> list[Buffer]:
    return [read("x", WORDS), result("out", 256)]


def in_ring(name: str, part: str, fault: str, *messages: str) -> Pair:
    program = ring(**{part: "FAULT // HERE\n"})
    return Pair(name, program, fault, RING_PARTS[part], messages, out32, {"block": 64})


def in_round_trip(name: str, right: str, fault: str, *messages: str) -> Pair:
    assert right in ROUND_TRIP
    program = ROUND_TRIP.replace(right, "FAULT // HERE\n", 1)
    return Pair(name, program, fault, right, messages, x_out, {"block": 64})


ALONE = {"block": 64}
FAULTS = [
    Pair(
        "not-initialised",
        ".shared .align 8 .b8 bar[16]; FAULT\nmbarrier.arrive.shared.b64 _, [bar]; // HERE",
        "",
        "setp.eq.u32 %p1, %tid, 0; @%p1 mbarrier.init.shared.b64 [bar], 32; bar.warp.sync -1;",
        ("@ 0 0 uses an mbarrier at byte 0 that is not initialised",),
    ),
    Pair(
        "initialised-without-a-barrier",
        """.shared .align 8 .b8 bar[16]; setp.eq.u32 %p1, %tid, 0;
        @%p1 mbarrier.init.shared.b64 [bar], 64; // THERE
        FAULT
        mbarrier.arrive.shared.b64 _, [bar]; // HERE""",
        "bar.warp.sync -1;",
        "bar.sync 0;",
        (
            "@ 1 0 uses the mbarrier at byte 0 that warp 0 lane 0 (thread 0) initialised "
            "({THERE}) without a barrier in between",
            "@ 1 0 uses an mbarrier at byte 0 that is not initialised",
        ),
        launch=ALONE,
    ),
    Pair(
        "initialised-twice",
        """.shared .align 8 .b8 bar[16]; mbarrier.init.shared.b64 [bar], 1; // THERE
        FAULT
        mbarrier.init.shared.b64 [bar], 2; // HERE""",
        "",
        "mbarrier.inval.shared.b64 [bar];",
        ("@ 0 0 initialises the mbarrier at byte 0 again without mbarrier.inval ({THERE})",),
        launch={"block": 1},
    ),
    Pair(
        "too-many-arrivals",
        setup(32) + "mbarrier.arrive.shared.b64 _, [%r2], FAULT; // HERE",
        "33",
        "1",
        (
            "@ 0 0 arrives 33 times at the mbarrier at byte 2048, which expects 32 more of 32 "
            "arrivals in this phase",
        ),
    ),
    Pair(
        "no-such-count",
        ".shared .align 8 .b8 bar[16]; mbarrier.init.shared.b64 [bar], FAULT; // HERE",
        "0",
        "1048575",
        ("@ 0 0 initialises the mbarrier at byte 0: expected 1 to 1048575 arrivals, got 0",),
        launch={"block": 1},
    ),
    Pair(
        "bytes-of-an-mbarrier",
        setup(32) + "FAULT // HERE",
        "st.shared.u32 [%r2+4], 1;",
        "st.shared.u32 [%r1+4], %r1;\n@%p10 ret;",
        ("@ * * writes shared memory byte 2052 of an mbarrier (*)",),
        launch={"block": 1},
    ),
    in_ring(
        "nobody-arrives",
        "ARRIVE_FULL",
        "",
        "block (0,0,0): deadlock: warp 0 * at the mbarrier at byte 2064 (phase 0: 0 of 32 "
        "arrivals), kernels/example.cuh:*; warp 1 (threads 32-63) at the mbarrier at byte 2048 "
        "(phase 0: 0 of 32 arrivals), kernels/example.cuh:*",
    ),
    in_ring(
        "one-arrival-is-missing",
        "ARRIVE_FULL",
        "setp.ne.u32 %p5, %lane, 7; @%p5 mbarrier.arrive.shared::cta.b64 _, [%r2];",
        "block (0,0,0): deadlock: * (phase 0: 31 of 32 arrivals)*",
    ),
    in_ring(
        "consumer-does-not-wait",
        "WAIT_FULL",
        "",
        "block (0,0,0), warp 1 * reads shared memory byte *, which was never written",
        "block (0,0,0), warp 1 * race: reads shared memory byte * without a barrier in between",
        "block (0,0,0), warp 0 * race: writes shared memory byte * without a barrier in between",
    ),
    in_ring(
        "consumer-gives-up-waiting",
        "WAIT_FULL",
        "mbarrier.try_wait.parity.shared::cta.b64 %p9, [%r2], %r11;",
        "block (0,0,0), warp 1 * reads shared memory byte *, which was never written",
        "block (0,0,0), warp 1 * race: reads shared memory byte * without a barrier in between",
        "block (0,0,0), warp 0 * race: writes shared memory byte * without a barrier in between",
        "block (0,0,0): deadlock: *",
    ),
    in_ring(
        "producer-does-not-wait",
        "WAIT_EMPTY",
        "",
        "block (0,0,0), warp * race: * shared memory byte * without a barrier in between",
        "block (0,0,0), warp 0 * arrives 1 times at the mbarrier at byte 2048*",
        "block (0,0,0): deadlock: *",
    ),
    in_ring(
        "arrival-that-releases-nothing",
        "ARRIVE_FULL",
        "mbarrier.arrive.relaxed.cta.shared::cta.b64 _, [%r2];",
        "block (0,0,0), warp 1 * race: reads shared memory byte * that warp 0 * wrote "
        "(kernels/example.cuh:*) without a barrier in between",
    ),
    in_ring(
        "only-one-thread-waits",
        "WAIT_FULL",
        "setp.ne.u32 %p8, %lane, 0; @%p8 bra W3;" + RING_PARTS["WAIT_FULL"] + "W3:",
        "block (0,0,0), warp 1 * reads shared memory byte *, which was never written",
        "block (0,0,0), warp 1 * race: reads shared memory byte * without a barrier in between",
        "block (0,0,0), warp 0 * race: writes shared memory byte * without a barrier in between",
    ),
    in_round_trip(
        "load-not-waited-for",
        wait("W", "%r2", "%r11"),
        "",
        "block (0,0,0), warp * race: reads shared memory byte * that warp 0 lane 0 (thread 0) * "
        "(kernels/example.cuh:*) asynchronously, and which has not been waited for",
        "block (0,0,0), warp * reads shared memory byte *, which was never written",
    ),
    in_round_trip(
        "generic-write-before-a-store",
        "fence.proxy.async.shared::cta;",
        "",
        "block (0,0,0), warp 0 lane 0 (thread 0), * reads shared memory byte * through the async "
        "proxy, which warp * wrote (kernels/example.cuh:*) without a fence.proxy.async in between",
    ),
    in_round_trip(
        "source-overwritten",
        "cp.async.bulk.wait_group.read 0;",
        "",
        "block (0,0,0), warp * race: writes shared memory byte * that warp 0 lane 0 (thread 0) is "
        "reading (kernels/example.cuh:*) asynchronously, and which has not been waited for",
    ),
    in_round_trip(
        "refilled-while-it-is-read",
        "STORED: bar.sync 0;",
        "STORED:",
        "block (0,0,0), warp 0 lane 0 (thread 0), * race: writes shared memory byte * that warp * "
        "without a barrier in between",
        "block (0,0,0), warp 1 * race: * shared memory byte *",
        "block (0,0,0): deadlock: *",
        "block (0,0,0), warp * race: writes shared memory byte *",
    ),
    in_round_trip(
        "more-bytes-expected",
        "[%r2], 256;\n",
        "[%r2], 512;\n",
        "block (0,0,0): deadlock: * at the mbarrier at byte 2048 (phase 0: 1 of 1 arrivals, 256 "
        "bytes missing), kernels/example.cuh:*",
    ),
    in_round_trip(
        "fewer-bytes-expected",
        "[%r2], 256;\n",
        "[%r2], 128;\n",
        "block (0,0,0): deadlock: * at the mbarrier at byte 2048 (phase 0: 1 of 1 arrivals, 128 "
        "bytes more than expected), kernels/example.cuh:*",
    ),
    in_round_trip(
        "mbarrier-not-shown-to-the-async-proxy",
        "fence.mbarrier_init.release.cluster;",
        "",
        "block (0,0,0), warp 0 lane 0 (thread 0), *: starts a copy that the mbarrier at byte 2048 "
        "counts, that warp 0 lane 0 (thread 0) initialised (*) without a fence.mbarrier_init or "
        "fence.proxy.async in between",
    ),
    in_round_trip(
        "size",
        "[%r1], [%rd2], 256, [%r2];",
        "[%r1], [%rd2], 248, [%r2];",
        "@ 0 0 copies 248 bytes: expected a multiple of 16",
    ),
    in_round_trip(
        "shared-address",
        "[%r1], [%rd2], 256, [%r2];",
        "[%r1+8], [%rd2], 256, [%r2];",
        "@ 0 0 copies to shared memory bytes 8 to 264, which is misaligned: the address must be a "
        "multiple of 16",
    ),
    in_round_trip(
        "global-address",
        "[%r1], [%rd2], 256, [%r2];",
        "[%r1], [%rd2+8], 256, [%r2];",
        "@ 0 0 copies at a global address that is not a multiple of 16",
    ),
    in_round_trip(
        "out-of-bounds",
        "[%r1], [%rd2], 256, [%r2];",
        "[%r1], [%rd2+992], 256, [%r2];",
        "@ 0 0 reads x[1024:1040] past its 1024 bytes",
    ),
    in_round_trip(
        "store-out-of-bounds",
        "[%rd3], [%r1+1024], 256;",
        "[%rd3+-16], [%r1+1024], 256;",
        "@ 0 0 writes out[-16:0] before its 1024 bytes",
    ),
]


@pytest.mark.parametrize("pair", FAULTS, ids=lambda pair: pair.name)
def test_fault_is_found(pair: Pair) -> None:
    assert_fails_in_every_order(pair)


@pytest.mark.parametrize("pair", FAULTS, ids=lambda pair: pair.name)
def test_right_program_raises_no_alarm(pair: Pair) -> None:
    assert_runs_in_every_order(pair)


def test_block_waits_for_its_stores() -> None:
    body = ROUND_TRIP.replace("cp.async.bulk.wait_group.read 0;", "").replace(
        "%r10, 4;", "%r10, 1;"
    )
    with pytest.raises(
        _C.EmulatorError, match="exits with a bulk store that it has not waited for"
    ):
        run(body, read("x", WORDS), result("out", 64), block=64)


def test_block_waits_for_its_loads() -> None:
    body = ROUND_TRIP.replace("LOADED:", "ret; LOADED:").replace("@%p1 bra LOADED;", "@%p1 ret;")
    with pytest.raises(
        _C.EmulatorError, match="ends the block while a copy into its shared memory"
    ):
        run(body, read("x", WORDS), result("out", 64), block=64)


@pytest.mark.parametrize(
    "instruction",
    [
        "mbarrier.arrive_drop.shared.b64 %rd1, [%r1];",
        "mbarrier.arrive.noComplete.shared.b64 %rd1, [%r1], 1;",
        "mbarrier.arrive.shared::cluster.b64 %rd1, [%r1];",
        "mbarrier.try_wait.parity.shared::cluster.b64 %p1, [%r1], 0;",
        "cp.async.bulk.shared::cluster.global.bulk_group [%r1], [%rd1], 16;",
        "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%rd1], [%r1], 16;",
        "fence.proxy.tensormap::generic.release.gpu;",
    ],
    ids=lambda text: text.split()[0],
)
def test_unmodelled_instruction_is_refused(instruction: str) -> None:
    with pytest.raises(_C.EmulatorError, match=r"example.cuh:1"):
        run(instruction)
