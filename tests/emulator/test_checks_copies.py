"""Faults of cp.async, each beside the right program; see test_checks_global.py."""

from __future__ import annotations

import pytest
from support.ptx_pairs import (
    NO_BARRIER,
    NO_SYNCWARP,
    SHARED,
    Pair,
    assert_fails_in_every_order,
    assert_runs_in_every_order,
    source,
)
from support.ptx_programs import (
    address,
)

pytestmark = pytest.mark.emulator

COPY = (
    SHARED.format(bytes=1024)
    + "mad.lo.u32 %r3, %tid, 16, %r1;\n"
    + address("%rd1", "x", "%tid", 16)
)
COPY += "\ncp.async.cg.shared.global [%r3], [%rd1], 16; // THERE\n"
IN_FLIGHT = "by a cp.async that has not been waited for"
BEFORE_WAIT = (
    "@ 0 0 race: reads shared memory byte 0 that warp 0 lane 0 (thread 0) is writing ({THERE}) "
    + IN_FLIGHT,
)


COPIES = [
    Pair(
        "read-before-the-wait",
        COPY
        + """
        cp.async.commit_group;
        FAULT
        ld.shared.u32 %r4, [%r3]; // HERE
        cp.async.wait_all;""",
        "",
        "cp.async.wait_group 0;",
        BEFORE_WAIT,
        source,
    ),
    Pair(
        "waited-for-too-few",
        COPY
        + """
        cp.async.commit_group;
        FAULT
        ld.shared.u32 %r4, [%r3]; // HERE
        cp.async.wait_all;""",
        "cp.async.wait_group 1;",
        "cp.async.commit_group; cp.async.wait_group 1;",
        BEFORE_WAIT,
        source,
    ),
    Pair(
        "not-committed",
        COPY
        + """
        FAULT
        cp.async.wait_group 0;
        ld.shared.u32 %r4, [%r3]; // HERE
        cp.async.wait_all;""",
        "",
        "cp.async.commit_group;",
        BEFORE_WAIT,
        source,
    ),
    Pair(
        "barrier-instead-of-wait",
        COPY
        + """
        cp.async.commit_group; FAULT
        bar.sync 0;
        ld.shared.u32 %r4, [%r3]; // HERE
        cp.async.wait_all;""",
        "",
        "cp.async.wait_group 0;",
        BEFORE_WAIT,
        source,
    ),
    Pair(
        "read-by-another-warp-before-the-barrier",
        COPY
        + """
        cp.async.wait_all;
        FAULT
        xor.b32 %r5, %r3, 512; ld.shared.u32 %r4, [%r5]; // HERE""",
        "",
        "bar.sync 0;",
        (
            "@ * * race: reads shared memory byte * that "
            "warp * lane * (thread *) wrote ({THERE}) " + NO_BARRIER,
            "@ * * race: reads shared memory byte * that "
            "warp * lane * (thread *) is writing ({THERE}) " + IN_FLIGHT,
            "@ * * reads shared memory byte *, which was never written",
        ),
        source,
        {"block": 64},
    ),
    Pair(
        "barrier-before-the-wait",
        COPY
        + """
        FAULT
        xor.b32 %r5, %r3, 512; ld.shared.u32 %r4, [%r5]; // HERE""",
        "bar.sync 0; cp.async.wait_all;",
        "cp.async.wait_all; bar.sync 0;",
        (
            "@ * * race: reads shared memory byte * that "
            "warp * lane * (thread *) wrote ({THERE}) " + NO_BARRIER,
            "@ * * race: reads shared memory byte * that "
            "warp * lane * (thread *) is writing ({THERE}) " + IN_FLIGHT,
        ),
        source,
        {"block": 64},
    ),
    Pair(
        "read-by-another-lane",
        COPY
        + """
        cp.async.wait_all;
        FAULT
        xor.b32 %r5, %r3, 16; ld.shared.u32 %r4, [%r5]; // HERE""",
        "",
        "bar.warp.sync -1;",
        (
            "@ 0 0 race: reads shared memory byte 16 that warp 0 lane 1 (thread 1) wrote ({THERE}) "
            + NO_SYNCWARP,
        ),
        source,
    ),
    Pair(
        "overwritten-in-flight",
        COPY
        + """
        FAULT
        st.shared.u32 [%r3], 1; // HERE
        cp.async.wait_all;""",
        "",
        "cp.async.wait_all;",
        (
            "@ 0 0 race: writes shared memory byte 0 that warp 0 lane 0 (thread 0) is "
            "writing ({THERE}) " + IN_FLIGHT,
        ),
        source,
    ),
    Pair(
        "copied-over-in-flight",
        COPY
        + """
        FAULT
        cp.async.cg.shared.global [%r3], [%rd1], 16; // HERE
        cp.async.wait_all;""",
        "cp.async.commit_group;",
        "cp.async.wait_all;",
        (
            "@ 0 0 race: writes shared memory byte 0 that warp 0 lane 0 (thread 0) is "
            "writing ({THERE}) " + IN_FLIGHT,
        ),
        source,
    ),
    Pair(
        "copied-over-what-another-warp-reads",
        SHARED.format(bytes=1024)
        + """
        mad.lo.u32 %r3, %tid, 16, %r1; xor.b32 %r5, %r3, 512;
        st.shared.u32 [%r3], 1; bar.sync 0;
        ld.shared.u32 %r4, [%r5]; // THERE
        FAULT
        cp.async.cg.shared.global [%r3], [%x], 16; // HERE
        cp.async.wait_all;""",
        "",
        "bar.sync 0;",
        (
            "@ * * race: writes shared memory byte * that "
            "warp * lane * (thread *) read ({THERE}) " + NO_BARRIER,
            "block (0,0,0), warp * lane * (thread *), {THERE}: race: reads shared memory byte * "
            "that warp * lane * (thread *) * ({HERE}) *",
        ),
        source,
        {"block": 64},
    ),
    Pair(
        "exit-with-copies-pending",
        COPY
        + """
        cp.async.commit_group; FAULT
        ret; // HERE""",
        "",
        "cp.async.wait_group 0;",
        ("@ 0 0 exits with a cp.async that it has not waited for ({THERE})",),
        source,
    ),
    Pair(
        "source-outside",
        COPY
        + """
        FAULT
        cp.async.cg.shared.global [%r3+512], [%rd1], 16; // HERE
        cp.async.wait_all;""",
        "add.s64 %rd1, %rd1, 528;",
        "add.s64 %rd1, %rd1, 512;",
        ("@ 0 31 reads x[1024:1040] past its 1024 bytes",),
        source,
    ),
    Pair(
        "source-misaligned",
        COPY
        + """
        FAULT
        cp.async.cg.shared.global [%r3+512], [%rd1], 16; // HERE
        cp.async.wait_all;""",
        "add.s64 %rd1, %rd1, 8;",
        "",
        ("@ 0 0 reads x[8:24], which is misaligned: the address must be a multiple of 16",),
        source,
    ),
    Pair(
        "destination-outside",
        COPY
        + """
        FAULT
        cp.async.cg.shared.global [%r3+512], [%rd1], 16; // HERE
        cp.async.wait_all;""",
        "add.u32 %r3, %r3, 16;",
        "",
        ("@ 0 31 writes shared memory bytes 1024 to 1040, outside the block's 1024",),
        source,
    ),
    Pair(
        "source-size-too-large",
        COPY
        + """
        FAULT
        cp.async.ca.shared.global [%r3+512], [%rd1], 8, %r9; // HERE
        cp.async.wait_all;""",
        "mov.u32 %r9, 9;",
        "mov.u32 %r9, 7;",
        ("@ 0 0 the source size exceeds the copy size",),
        source,
    ),
]


@pytest.mark.parametrize("pair", COPIES, ids=lambda pair: pair.name)
def test_fault_is_found(pair: Pair) -> None:
    assert_fails_in_every_order(pair)


@pytest.mark.parametrize("pair", COPIES, ids=lambda pair: pair.name)
def test_right_program_raises_no_alarm(pair: Pair) -> None:
    assert_runs_in_every_order(pair)
