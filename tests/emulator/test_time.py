"""Time on the emulator: %globaltimer, nanosleep, and waits that a clock limits."""

from __future__ import annotations

import numpy as np
import pytest
from support.ptx_mbarriers import setup, wait
from support.ptx_programs import address, every_order, result, run

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

SECOND = 10**9
LIMITED = """mov.u64 %rd1, %globaltimer;
POLL: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 0; @%p1 bra DONE;
mov.u64 %rd2, %globaltimer; sub.u64 %rd3, %rd2, %rd1;
setp.lt.u64 %p2, %rd3, 2000000000; @%p2 bra POLL;
DONE: selp.u32 %r20, 1, 0, %p1;
mov.u64 %rd2, %globaltimer; sub.u64 %rd3, %rd2, %rd1;"""
"""%r20: whether the phase ended within 2 s; %rd3: nanoseconds until then."""


@every_order
def test_limited_wait_ends_after_its_time(schedule: str, lazy: bool) -> None:
    """An mbarrier whose second arrival never comes."""
    body = setup(2) + LIMITED + address("%rd4", "out", "%thread", 8) + "st.global.u64 [%rd4], %rd3;"
    ended = "setp.eq.u32 %p3, %r20, 1; @%p3 trap;"
    out = result("out", 64, np.uint64)
    run(body + ended, out, block=64, schedule=schedule, lazy=lazy)
    assert (out.array >= 2 * SECOND).all()
    assert (out.array < 2.1 * SECOND).all()


@every_order
def test_limited_wait_does_not_end_early(schedule: str, lazy: bool) -> None:
    """While a warp works for long, the warp that polls neither delays it nor gives up."""
    work = """setp.eq.u32 %p4, %warp, 0; @%p4 bra WAIT; mov.u32 %r10, 0;
    WORK: add.u32 %r10, %r10, 1; setp.lt.u32 %p5, %r10, 100000; @%p5 bra WORK;
    mbarrier.arrive.shared::cta.b64 _, [%r2]; bra END;
    WAIT:"""
    then = address("%rd4", "out", "%thread", 8) + "st.global.u64 [%rd4], %rd3;"
    out = result("out", 32, np.uint64)
    body = setup(32) + work + LIMITED + "setp.eq.u32 %p3, %r20, 0; @%p3 trap;" + then + "END:"
    run(body, out, block=64, schedule=schedule, lazy=lazy)
    assert (out.array < SECOND // 1000).all()


def test_unlimited_wait_is_a_deadlock_despite_a_clock() -> None:
    body = "mov.u64 %rd1, %globaltimer;" + setup(2) + wait("W", "%r2", "0")
    with pytest.raises(_C.EmulatorError, match=r"deadlock: warp 0 .*at the mbarrier at byte"):
        run(body)


@every_order
def test_sleeping_threads_let_others_run(schedule: str, lazy: bool) -> None:
    """The first warp sleeps until the second has set a flag."""
    body = """.shared .align 4 .b8 flag[4]; mov.u32 %r2, flag;
    setp.eq.u32 %p1, %tid, 0; @%p1 st.shared.u32 [%r2], 0; bar.sync 0;
    setp.eq.u32 %p2, %warp, 1; @%p2 bra SET;
    POLL: atom.shared.or.b32 %r1, [%r2], 0; setp.ne.u32 %p1, %r1, 0; @%p1 bra END;
    nanosleep.u32 1000; bra POLL;
    SET: atom.shared.exch.b32 %r1, [%r2], 1;
    END:"""
    run(body, block=64, schedule=schedule, lazy=lazy, instruction_limit=1000)


def test_sleep_takes_time() -> None:
    body = """mov.u64 %rd1, %globaltimer; nanosleep.u32 1000; mov.u64 %rd2, %globaltimer;
    sub.u64 %rd3, %rd2, %rd1;""" + address("%rd4", "out", "%thread", 8)
    out = result("out", 32, np.uint64)
    run(body + "st.global.u64 [%rd4], %rd3;", out)
    assert (out.array >= 1000).all()


def test_endless_sleep_reaches_the_instruction_limit() -> None:
    with pytest.raises(_C.EmulatorError, match="still running after 5000 instructions"):
        run("AGAIN: nanosleep.u32 100; bra AGAIN;", instruction_limit=5000)


def test_half_of_the_clock_is_refused() -> None:
    with pytest.raises(_C.EmulatorError, match="expected 64 bits of %globaltimer"):
        run("mov.u32 %r1, %globaltimer;")
