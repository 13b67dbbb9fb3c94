"""mbarriers, bulk copies and setmaxnreg: right programs give the same result in every order."""

from __future__ import annotations

import numpy as np
import pytest
from support.ptx_mbarriers import (
    DIRECTIVES,
    LANE,
    ROUND_TRIP,
    SPECIALISED,
    WORDS,
    ring,
    setup,
    wait,
)
from support.ptx_programs import compute, every_order, read, result, run

from vgg_cuda import _C

pytestmark = pytest.mark.emulator


@every_order
@pytest.mark.parametrize(
    "kind", ["try_wait.parity", "test_wait.parity", "try_wait.parity.acquire.cta"]
)
def test_mbarrier_producer_and_consumer(kind: str, schedule: str, lazy: bool) -> None:
    out = result("out", 160)
    body = ring(
        WAIT_EMPTY=wait("W1", "%r3", "%r12", kind), WAIT_FULL=wait("W2", "%r2", "%r11", kind)
    )
    run(body, out, block=64, schedule=schedule, lazy=lazy)
    expected = 100 * np.arange(5)[:, None] + (LANE ^ 1)
    np.testing.assert_array_equal(out.array.reshape(5, 32), expected)


@every_order
def test_mbarrier_states_and_counts(schedule: str, lazy: bool) -> None:
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


def test_elect_sync_elects_one_lane() -> None:
    code = "mov.u32 %d, 9; elect.sync %r1|%p1, -1; @%p1 mov.u32 %d, %r1; @!%p1 add.u32 %d, %r1, 50;"
    np.testing.assert_array_equal(compute(code, 64, np.uint32), [0, *[50] * 31] * 2)


def test_dependent_grids() -> None:
    code = "griddepcontrol.wait; mov.u32 %d, %tid; griddepcontrol.launch_dependents;"
    np.testing.assert_array_equal(compute(code, 32, np.uint32), LANE)


@every_order
def test_bulk_copies_there_and_back(schedule: str, lazy: bool) -> None:
    out = result("out", 256)
    counters = run(ROUND_TRIP, read("x", WORDS), out, block=64, schedule=schedule, lazy=lazy)
    np.testing.assert_array_equal(out.array, WORDS + 7)
    assert counters["bulk_copies"] == 8
    assert counters["bulk_load_bytes"] == counters["bulk_shared_bytes"] == 1024
    assert counters["bulk_store_bytes"] == 1024


@every_order
def test_bulk_store_groups(schedule: str, lazy: bool) -> None:
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


@every_order
def test_setmaxnreg_moves_registers(schedule: str, lazy: bool) -> None:
    body = SPECIALISED.replace("RAISED", "232")
    run(body, block=384, directives=DIRECTIVES, schedule=schedule, lazy=lazy)


@every_order
def test_setmaxnreg_blocks_without_free_registers(schedule: str, lazy: bool) -> None:
    body = SPECIALISED.replace("RAISED", "240")
    with pytest.raises(_C.EmulatorError, match=r"deadlock:.*waiting for registers \(\d+ are free"):
        run(body, block=384, directives=DIRECTIVES, schedule=schedule, lazy=lazy)


@every_order
def test_setmaxnreg_of_part_of_a_warpgroup(schedule: str, lazy: bool) -> None:
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
def test_setmaxnreg_counts_are_checked(body: str, directives: str, message: str) -> None:
    with pytest.raises(_C.EmulatorError, match=message):
        run(body, directives=directives, block=128)
