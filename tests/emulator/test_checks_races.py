"""Races in shared memory, each beside the right program; see test_checks_global.py.

The schedule decides which side of a race comes first.
"""

from __future__ import annotations

import pytest
from support.ptx_pairs import (
    NO_BARRIER,
    NO_SYNCWARP,
    SHARED,
    TWO_WARPS,
    Pair,
    assert_fails_in_every_order,
    assert_runs_in_every_order,
    race,
)

pytestmark = pytest.mark.emulator

RACES = [
    Pair(
        "write-then-read",
        TWO_WARPS
        + """
        @%p1 st.shared.u32 [%r3], 1; // THERE
        FAULT
        @!%p1 ld.shared.u32 %r4, [%r3]; // HERE""",
        "",
        "bar.sync 0;",
        (
            *race("reads", "wrote", NO_BARRIER, ("1", "0")),
            "@ 1 0 reads shared memory byte 0, which was never written",
        ),
        launch={"block": 64},
    ),
    Pair(
        "read-then-write",
        TWO_WARPS
        + """
        @!%p1 st.shared.u32 [%r3], 1;
        bar.sync 0;
        @%p1 ld.shared.u32 %r4, [%r3]; // THERE
        FAULT
        @!%p1 st.shared.u32 [%r3], 2; // HERE""",
        "",
        "bar.sync 0;",
        race("writes", "read", NO_BARRIER, ("1", "0")),
        launch={"block": 64},
    ),
    Pair(
        "write-then-write",
        TWO_WARPS
        + """
        @%p1 st.shared.u32 [%r3], 1; // THERE
        FAULT
        @!%p1 st.shared.u32 [%r3], 2; // HERE""",
        "",
        "bar.sync 0;",
        race("writes", "wrote", NO_BARRIER, ("1", "0")),
        launch={"block": 64},
    ),
    Pair(
        "other-barrier",
        TWO_WARPS
        + """
        @%p1 st.shared.u32 [%r3], 1; // THERE
        add.u32 %r9, %warp, 1;
        FAULT
        @!%p1 ld.shared.u32 %r4, [%r3]; // HERE""",
        "bar.sync %r9, 32;",
        "bar.sync 1, 64;",
        (
            *race("reads", "wrote", NO_BARRIER, ("1", "0")),
            "@ 1 0 reads shared memory byte 0, which was never written",
        ),
        launch={"block": 64},
    ),
    Pair(
        "loop-without-a-second-barrier",
        TWO_WARPS
        + """
        mov.u32 %r8, 0;
        LOOP: st.shared.u32 [%r2], %r8; // HERE
        bar.sync 0;
        xor.b32 %r5, %r2, 128; ld.shared.u32 %r6, [%r5]; // THERE
        FAULT
        add.u32 %r8, %r8, 1; setp.lt.u32 %p2, %r8, 3; @%p2 bra LOOP;""",
        "",
        "bar.sync 0;",
        race("writes", "read", NO_BARRIER),
        launch={"block": 64},
    ),
    Pair(
        "atomic-and-read",
        TWO_WARPS
        + """
        @%p1 st.shared.u32 [%r3], 0;
        bar.sync 0;
        @%p1 red.shared.add.u32 [%r3], 1; // THERE
        FAULT
        @!%p1 ld.shared.u32 %r4, [%r3]; // HERE""",
        "",
        "bar.sync 0;",
        race("reads", "wrote", NO_BARRIER, ("1", "0")),
        launch={"block": 64},
    ),
    Pair(
        "lanes-write-then-read",
        SHARED.format(bytes=128)
        + """
        st.shared.u32 [%r2], %tid; // THERE
        FAULT
        xor.b32 %r3, %r2, 4;
        ld.shared.u32 %r4, [%r3]; // HERE""",
        "",
        "bar.warp.sync -1;",
        race("reads", "wrote", NO_SYNCWARP, ("0", "0")),
    ),
    Pair(
        "lanes-read-then-write",
        SHARED.format(bytes=128)
        + """
        st.shared.u32 [%r2], %tid;
        bar.warp.sync -1;
        xor.b32 %r3, %r2, 4; ld.shared.u32 %r4, [%r3]; // THERE
        FAULT
        st.shared.u32 [%r2], 1; // HERE""",
        "",
        "bar.warp.sync -1;",
        race("writes", "read", NO_SYNCWARP, ("0", "0")),
    ),
    Pair(
        "lanes-write-then-write",
        SHARED.format(bytes=128)
        + """
        st.shared.u32 [%r2], %tid; // THERE
        FAULT
        xor.b32 %r3, %r2, 4;
        st.shared.u32 [%r3], 1; // HERE""",
        "",
        "bar.warp.sync -1;",
        race("writes", "wrote", NO_SYNCWARP, ("0", "0")),
    ),
    Pair(
        "lanes-write-at-once",
        SHARED.format(bytes=128) + "FAULT\nst.shared.u32 [%r2], %tid; // HERE",
        "and.b32 %r2, %r2, -8;",
        "",
        (
            "@ 0 1 race: writes shared memory byte 0 that warp 0 lane 0 (thread 0) wrote ({HERE}) "
            + NO_SYNCWARP,
        ),
    ),
    Pair(
        "lanes-ldmatrix",
        SHARED.format(bytes=512)
        + """
        mad.lo.u32 %r3, %tid, 16, %r1;
        st.shared.v4.u32 [%r3], {%r1, %r1, %r1, %r1}; // THERE
        FAULT
        ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r5, %r6, %r7, %r8}, [%r3]; // HERE""",
        "",
        "bar.warp.sync -1;",
        (
            "block (0,0,0), warp 0 (threads 0-31), {HERE}: race: reads shared memory byte 0 "
            "that warp 0 lane 0 (thread 0) "
            "wrote ({THERE}) " + NO_SYNCWARP,
        ),
    ),
]


@pytest.mark.parametrize("pair", RACES, ids=lambda pair: pair.name)
def test_fault_is_found(pair: Pair) -> None:
    assert_fails_in_every_order(pair)


@pytest.mark.parametrize("pair", RACES, ids=lambda pair: pair.name)
def test_right_program_raises_no_alarm(pair: Pair) -> None:
    assert_runs_in_every_order(pair)


@pytest.mark.parametrize("pair", RACES, ids=lambda pair: pair.name)
def test_races_option_is_off(pair: Pair) -> None:
    """races=False: fewer checks, for speed; this order happens to be harmless."""
    pair.run(fault=True, races=False)
