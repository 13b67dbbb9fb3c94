"""mbarriers, bulk copies and what belongs to them: phases, proxies, registers, faults.

Correct programs give the same result in every order, without an alarm; each fault is found in
every order.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.ptx_pairs import Pair, assert_fails, every_order
from support.ptx_programs import Buffer, address, compute, read, result, run

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

LANE = np.arange(32)
WORDS = np.arange(256, dtype=np.uint32)

INIT = """.shared .align 128 .b8 smem[2048]; .shared .align 8 .b8 full[16];
    .shared .align 8 .b8 empty[16];
    mov.u32 %r1, smem; mov.u32 %r2, full; mov.u32 %r3, empty;
    setp.ne.u32 %p10, %tid, 0;
    @%p10 bra READY;
    mbarrier.init.shared::cta.b64 [%r2], FULL; mbarrier.init.shared.b64 [%r3], EMPTY;
    fence.mbarrier_init.release.cluster;
    READY: bar.sync 0;
"""


def setup(full: int, empty: int = 1) -> str:
    return INIT.replace("FULL", str(full)).replace("EMPTY", str(empty))


def wait(label: str, barrier: str, parity: str, kind: str = "try_wait.parity") -> str:
    return (
        f"{label}: mbarrier.{kind}.shared::cta.b64 %p9, [{barrier}], {parity}; @!%p9 bra {label};"
    )


# ---- Phases ----

RING = (
    setup(32, 32)
    + """
    mov.u32 %r10, 0;
    setp.eq.u32 %p1, %warp, 1; @%p1 bra CONSUMER;
    PRODUCE: and.b32 %r11, %r10, 1; xor.b32 %r12, %r11, 1;
    WAIT_EMPTY
    mad.lo.u32 %r13, %lane, 4, %r1; mad.lo.u32 %r14, %r10, 100, %lane; st.shared.u32 [%r13], %r14;
    ARRIVE_FULL
    add.u32 %r10, %r10, 1; setp.lt.u32 %p2, %r10, 5; @%p2 bra PRODUCE;
    bra END;
    CONSUMER: and.b32 %r11, %r10, 1;
    WAIT_FULL
    xor.b32 %r13, %lane, 1; mad.lo.u32 %r13, %r13, 4, %r1; ld.shared.u32 %r14, [%r13];
    ARRIVE_EMPTY
    mad.lo.u32 %r15, %r10, 32, %lane;"""
    + address("%rd1", "out", "%r15", 4)
    + """st.global.u32 [%rd1], %r14;
    add.u32 %r10, %r10, 1; setp.lt.u32 %p2, %r10, 5; @%p2 bra CONSUMER;
    END:"""
)
RING_PARTS = {
    "WAIT_EMPTY": wait("W1", "%r3", "%r12"),
    "WAIT_FULL": wait("W2", "%r2", "%r11"),
    "ARRIVE_FULL": "mbarrier.arrive.shared::cta.b64 _, [%r2];",
    "ARRIVE_EMPTY": "mbarrier.arrive.release.cta.shared::cta.b64 %rd9, [%r3];",
}


def ring(**parts: str) -> str:
    body = RING
    for name, text in {**RING_PARTS, **parts}.items():
        body = body.replace(name, text)
    return body


@every_order
@pytest.mark.parametrize(
    "kind", ["try_wait.parity", "test_wait.parity", "try_wait.parity.acquire.cta"]
)
def test_producer_and_consumer(kind: str, schedule: str, lazy: bool) -> None:
    out = result("out", 160)
    body = ring(
        WAIT_EMPTY=wait("W1", "%r3", "%r12", kind), WAIT_FULL=wait("W2", "%r2", "%r11", kind)
    )
    run(body, out, block=64, schedule=schedule, lazy=lazy)
    expected = 100 * np.arange(5)[:, None] + (LANE ^ 1)
    np.testing.assert_array_equal(out.array.reshape(5, 32), expected)


@every_order
def test_states_and_counts(schedule: str, lazy: bool) -> None:
    """Warp 0 arrives for 60, twice 30; the state that arrive returns names the phase."""
    code = (
        setup(62)
        + """
    setp.eq.u32 %p1, %tid, 0; setp.eq.u32 %p2, %tid, 33; mov.u32 %r20, 0;
    @%p1 mbarrier.arrive.shared.b64 %rd1, [%r2], 30;
    @%p1 mbarrier.arrive.shared.b64 %rd2, [%r2], 30;
    @%p1 mbarrier.pending_count.b64 %r20, %rd2;
    bar.sync 0;
    @%p2 mbarrier.arrive.shared.b64 %rd2, [%r2], 1;
    bar.sync 0;
    mov.u32 %r21, 2000; @!%p1 bra REST;
    mbarrier.test_wait.shared.b64 %p3, [%r2], %rd2; selp.u32 %r21, 1, 0, %p3;
    mbarrier.arrive.shared.b64 %rd3, [%r2];
    W: mbarrier.try_wait.shared.b64 %p3, [%r2], %rd3, 1000; @!%p3 bra W;
    mbarrier.inval.shared.b64 [%r2];
    REST: mad.lo.u32 %d, %r20, 100, %r21;"""
    )
    got = compute(code, 64, np.uint32, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(got, [3200, *[2000] * 63])


def test_one_is_elected() -> None:
    code = "mov.u32 %d, 9; elect.sync %r1|%p1, -1; @%p1 mov.u32 %d, %r1; @!%p1 add.u32 %d, %r1, 50;"
    np.testing.assert_array_equal(compute(code, 64, np.uint32), [0, *[50] * 31] * 2)


def test_grids_that_depend_on_each_other() -> None:
    code = "griddepcontrol.wait; mov.u32 %d, %tid; griddepcontrol.launch_dependents;"
    np.testing.assert_array_equal(compute(code, 32, np.uint32), LANE)


# ---- Bulk copies ----

ROUND_TRIP = (
    setup(1)
    + """
    mov.u32 %r10, 0; setp.ne.u32 %p1, %tid, 0;
    LOOP: @%p1 bra LOADED;
    mul.wide.u32 %rd1, %r10, 256; add.s64 %rd2, %rd1, %x;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 256;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd2], 256, [%r2];
    LOADED: and.b32 %r11, %r10, 1;
    WAIT
    mad.lo.u32 %r12, %tid, 4, %r1;
    ld.shared.u32 %r13, [%r12]; add.u32 %r13, %r13, 7; st.shared.u32 [%r12+1024], %r13;
    fence.proxy.async.shared::cta;
    bar.sync 0;
    @%p1 bra STORED;
    add.s64 %rd3, %rd1, %out;
    cp.async.bulk.global.shared::cta.bulk_group [%rd3], [%r1+1024], 256;
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group.read 0;
    STORED: bar.sync 0;
    add.u32 %r10, %r10, 1; setp.lt.u32 %p2, %r10, 4; @%p2 bra LOOP;"""
).replace("WAIT", wait("W", "%r2", "%r11"))


@every_order
def test_there_and_back(schedule: str, lazy: bool) -> None:
    out = result("out", 256)
    counters = run(ROUND_TRIP, read("x", WORDS), out, block=64, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(out.array, WORDS + 7)
    assert counters["bulk_copies"] == 8
    assert counters["bulk_load_bytes"] == counters["bulk_shared_bytes"] == 1024
    assert counters["bulk_store_bytes"] == 1024


@every_order
def test_groups_of_stores(schedule: str, lazy: bool) -> None:
    """With one group pending the source of the older one may be written again."""
    out = result("out", 96)
    body = (
        setup(1)
        + """
    mad.lo.u32 %r12, %tid, 4, %r1; st.shared.u32 [%r12], %tid; st.shared.u32 [%r12+128], 5;
    fence.proxy.async; bar.warp.sync -1;
    setp.eq.u32 %p1, %tid, 0; @!%p1 bra AGAIN;
    cp.async.bulk.global.shared::cta.bulk_group [%out], [%r1], 128; cp.async.bulk.commit_group;
    cp.async.bulk.global.shared::cta.bulk_group [%out+128], [%r1+128], 128;
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group.read 1;
    AGAIN: bar.warp.sync -1;
    st.shared.u32 [%r12], 9; fence.proxy.async; bar.warp.sync -1;
    @!%p1 bra END;
    cp.async.bulk.global.shared::cta.bulk_group [%out+256], [%r1], 128; cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;
    END:"""
    )
    run(body, out, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(out.array.reshape(3, 32), [LANE, [5] * 32, [9] * 32])


# ---- Registers ----

SPECIALISED = """setp.lt.u32 %p1, %warp, 4; @%p1 bra PRODUCER;
setmaxnreg.inc.sync.aligned.u32 RAISED; // HERE
bra END;
PRODUCER: setmaxnreg.dec.sync.aligned.u32 40;
END:"""
DIRECTIVES = ".maxntid 384, 1, 1 .minnctapersm 1"


@every_order
def test_registers_change_hands(schedule: str, lazy: bool) -> None:
    body = SPECIALISED.replace("RAISED", "232")
    run(body, block=384, directives=DIRECTIVES, schedule=schedule, lazy=lazy)


@every_order
def test_more_registers_than_there_are(schedule: str, lazy: bool) -> None:
    body = SPECIALISED.replace("RAISED", "240")
    with pytest.raises(_C.EmulatorError, match=r"deadlock:.*waiting for registers \(\d+ are free"):
        run(body, block=384, directives=DIRECTIVES, schedule=schedule, lazy=lazy)


@every_order
def test_registers_of_a_part_of_a_warpgroup(schedule: str, lazy: bool) -> None:
    body = "setp.lt.u32 %p1, %warp, 3; @%p1 bra END; setmaxnreg.dec.sync.aligned.u32 40; END:"
    with pytest.raises(_C.EmulatorError, match=r"all warps of a warpgroup must execute setmaxnreg"):
        run(body, block=128, directives=DIRECTIVES, schedule=schedule, lazy=lazy)


@pytest.mark.parametrize(
    ("body", "directives", "message"),
    [
        ("setmaxnreg.inc.sync.aligned.u32 240;", "", "expected .maxnreg, or .maxntid"),
        (
            "setmaxnreg.dec.sync.aligned.u32 44;",
            DIRECTIVES,
            "a multiple of 8 registers from 24 to 256",
        ),
        (
            "setmaxnreg.dec.sync.aligned.u32 240;",
            ".maxnreg 128",
            "decreases its registers from 128",
        ),
        ("setmaxnreg.inc.sync.aligned.u32 24;", ".maxnreg 128", "increases its registers from 128"),
    ],
    ids=["unknown", "44", "dec", "inc"],
)
def test_registers_that_cannot_be(body: str, directives: str, message: str) -> None:
    with pytest.raises(_C.EmulatorError, match=message):
        run(body, directives=directives, block=128)


# ---- Faults ----


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


@every_order
@pytest.mark.parametrize("pair", FAULTS, ids=lambda pair: pair.name)
def test_the_fault_is_found(pair: Pair, schedule: str, lazy: bool) -> None:
    assert_fails(pair, schedule=schedule, lazy=lazy)


@every_order
@pytest.mark.parametrize("pair", FAULTS, ids=lambda pair: pair.name)
def test_no_alarm_where_it_is_done_right(pair: Pair, schedule: str, lazy: bool) -> None:
    pair.run(fault=False, schedule=schedule, lazy=lazy)


def test_a_store_outlives_nobody() -> None:
    body = ROUND_TRIP.replace("cp.async.bulk.wait_group.read 0;", "").replace(
        "%r10, 4;", "%r10, 1;"
    )
    with pytest.raises(
        _C.EmulatorError, match="exits with a bulk store that it has not waited for"
    ):
        run(body, read("x", WORDS), result("out", 64), block=64)


def test_a_load_outlives_nobody() -> None:
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
def test_what_is_not_modelled(instruction: str) -> None:
    with pytest.raises(_C.EmulatorError, match=r"example.cuh:1"):
        run(instruction)
