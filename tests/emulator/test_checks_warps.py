"""Faults of barriers and divergent warps, each beside the right program.

See test_checks_global.py.
"""

from __future__ import annotations

import pytest
from support.ptx_pairs import (
    SHARED,
    Pair,
    assert_fails_in_every_order,
    assert_runs_in_every_order,
)

pytestmark = pytest.mark.emulator

HALF = "setp.lt.u32 %p1, %tid, 16;\n"
MMA = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, " \
      "{%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};"  # fmt: skip
LDMATRIX = "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r5}, [%r2];"
FILLED = SHARED.format(bytes=512) + "st.shared.u32 [%r2], 1; bar.warp.sync -1; mov.u32 %r2, %r1;\n"


def divergent(name: str, setup: str, collective: str) -> list[Pair]:
    """Half of a warp goes to it and the others do not, or to another one."""
    return [
        Pair(
            f"half-exits-before-{name}",
            setup + HALF + f"FAULT // THERE\n{collective} // HERE",
            "@%p1 ret;",
            "",
            (
                "block (0,0,0), warp 0 (threads 0-31), {HERE}: needs all threads of the "
                "warp, but lanes 0-15 "
                "exited ({THERE})",
            ),
        ),
        Pair(
            f"half-goes-to-another-{name}",
            setup
            + HALF
            + f"FAULT\n{collective} // HERE\nbra END;\nOTHER: {collective} // THERE\nEND:",
            "@%p1 bra OTHER;",
            "",
            (
                "block (0,0,0), warp 0 (threads 0-31), *: divergent warp: its threads never "
                "meet: lanes 16-31 "
                "wait at {HERE}; lanes 0-15 wait at {THERE}",
            ),
        ),
    ]


BARRIERS = [
    Pair(
        "one-warp-exits",
        """
        setp.eq.u32 %p1, %warp, 1;
        FAULT // THERE
        bar.sync 0; // HERE""",
        "@%p1 ret;",
        "",
        (
            "block (0,0,0), warp 1 (threads 32-63), {THERE}: exits while other warps wait for it "
            "at barrier 0 ({HERE})",
            "block (0,0,0), warp 0 (threads 0-31), {HERE}: waits at barrier 0, but warp 1 "
            "has exited ({THERE})",
        ),
        launch={"block": 64},
    ),
    Pair(
        "one-warp-goes-to-another-barrier",
        """
        setp.eq.u32 %p1, %warp, 1;
        FAULT
        bar.sync 1; // HERE
        bra END;
        OTHER: bar.sync 2; // THERE
        END:""",
        "@%p1 bra OTHER;",
        "",
        (
            "block (0,0,0): deadlock: warp 0 (threads 0-31) at barrier 1 (32 of 64 threads), "
            "{HERE}; warp 1 (threads 32-63) at barrier 2 (32 of 64 threads), {THERE}",
        ),
        launch={"block": 64},
    ),
    Pair(
        "too-few-warps",
        "FAULT // HERE",
        "bar.sync 3, 128;",
        "bar.sync 3, 96;",
        ("block (0,0,0): deadlock: warps 0-2 at barrier 3 (96 of 128 threads), {HERE}",),
        launch={"block": 96},
    ),
    Pair(
        "counts-differ",
        """
        FAULT
        bar.sync 1, %r9; // HERE""",
        "mad.lo.u32 %r9, %warp, 32, 64;",
        "mov.u32 %r9, 64;",
        (
            "block (0,0,0), warp 1 (threads 32-63), {HERE}: waits at barrier 1 for 96 "
            "threads; other warps wait there "
            "for 64 ({HERE})",
            "block (0,0,0), warp 0 (threads 0-31), {HERE}: waits at barrier 1 for 64 "
            "threads; other warps wait there for 96 ({HERE})",
        ),
        launch={"block": 64},
    ),
    Pair(
        "count-no-multiple-of-32",
        "FAULT // HERE",
        "bar.sync 1, 48;",
        "bar.sync 1, 32;",
        (
            "block (0,0,0), warp 0 (threads 0-31), {HERE}: "
            "expected a multiple of 32 threads, got 48",
        ),
    ),
    Pair(
        "no-such-barrier",
        """
        FAULT
        bar.sync %r9, 32; // HERE""",
        "mov.u32 %r9, 16;",
        "mov.u32 %r9, 15;",
        ("block (0,0,0), warp 0 (threads 0-31), {HERE}: expected a barrier from 0 to 15, got 16",),
    ),
    Pair(
        "barrier-number-differs-between-lanes",
        """
        FAULT
        bar.sync %r9, 32; // HERE""",
        "and.b32 %r9, %tid, 1;",
        "mov.u32 %r9, 1;",
        ("@ 0 1 the operands differ between threads of the warp",),
    ),
    *divergent("barrier", "", "bar.sync 0;"),
    *divergent("mma", "", MMA),
    *divergent("ldmatrix", FILLED, LDMATRIX),
    Pair(
        "half-skips-mma",
        f"{HALF}FAULT {MMA} // HERE\nadd.u32 %r1, %r1, 1;",
        "@%p1",
        "",
        (
            "block (0,0,0), warp 0 (threads 0-31), {HERE}: needs all threads of the warp, "
            "but lanes 16-31 "
            "exited (*)",
        ),
    ),
    Pair(
        "mma-in-part-of-a-warp",
        MMA + " // HERE",
        "",
        "",
        ("block (0,0,0), warp 0 (threads 0-23), {HERE}: needs 32 threads in the warp",),
        launch={"block": 24},
        right_launch={"block": 32},
    ),
    Pair(
        "shuffle-without-all-members",
        HALF
        + """
        FAULT
        shfl.sync.bfly.b32 %r1, %tid, 1, 31, -1; // HERE
        bra END;
        OTHER: bar.warp.sync -1; // THERE
        END:""",
        "@%p1 bra OTHER;",
        "",
        (
            "block (0,0,0), warp 0 (threads 0-31), *: divergent warp: its threads never "
            "meet: lanes 16-31 wait at "
            "{HERE}; lanes 0-15 wait at {THERE}",
        ),
    ),
    Pair(
        "shuffle-from-a-lane-that-exited",
        HALF
        + """
        FAULT
        shfl.sync.bfly.b32 %r1, %tid, 16, 31, -1; // HERE""",
        "@%p1 ret;",
        "",
        ("@ 0 16 reads from lane 0, which is not active",),
    ),
    Pair(
        "shuffle-from-a-lane-that-is-no-member",
        HALF
        + """
        @!%p1 bra END;
        FAULT // HERE
        END:""",
        "shfl.sync.bfly.b32 %r1, %tid, 16, 31, 0xffff;",
        "shfl.sync.bfly.b32 %r1, %tid, 8, 31, 0xffff;",
        ("@ 0 0 reads from lane 16, which is not active",),
    ),
    Pair(
        "members-without-oneself",
        "FAULT // HERE",
        "shfl.sync.bfly.b32 %r1, %tid, 1, 31, 0xffff;",
        "shfl.sync.bfly.b32 %r1, %tid, 1, 31, -1;",
        ("@ 0 16 the member mask does not contain the thread itself",),
    ),
    Pair("trap", HALF + "FAULT // HERE", "@!%p1 trap;", "", ("@ 0 16 executes trap",)),
]


@pytest.mark.parametrize("pair", BARRIERS, ids=lambda pair: pair.name)
def test_fault_is_found(pair: Pair) -> None:
    assert_fails_in_every_order(pair)


@pytest.mark.parametrize("pair", BARRIERS, ids=lambda pair: pair.name)
def test_right_program_raises_no_alarm(pair: Pair) -> None:
    assert_runs_in_every_order(pair)
