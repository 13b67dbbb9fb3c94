"""What the emulator is to catch: each fault beside the same program done right.

Every pair runs under every schedule, with copies as late and as early as is legal: the wrong one
must always fail, with a message that names the kernel, the place and the threads on both sides; the
right one never.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from support.ptx_pairs import Pair, assert_fails, every_order
from support.ptx_programs import (
    SOURCE,
    Buffer,
    address,
    aligned,
    entry,
    read,
    result,
    run,
    scratch,
)

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

# ---- Global memory ----

WORDS = np.arange(32, dtype=np.uint32)


def x_and_out() -> list[Buffer]:
    return [read("x", WORDS), result("out", 32)]


def x_gap_y() -> list[Buffer]:
    """64 bytes of nobody between two buffers."""
    memory = aligned(np.zeros(80, np.uint32))
    return [Buffer("x", memory[:32]), Buffer("y", memory[48:])]


LOAD = address("%rd1", "x", "%tid", 4) + "\nFAULT // HERE\n"
LOAD += address("%rd2", "out", "%tid", 4) + "st.global.u32 [%rd2], %r1;"
STORE = address("%rd2", "out", "%tid", 4) + "\nFAULT // HERE\n"

GLOBAL_MEMORY = [
    Pair(
        "read-past",
        LOAD,
        "ld.global.u32 %r1, [%rd1+4];",
        "ld.global.u32 %r1, [%rd1];",
        ("@ 0 31 reads x[128:132] past its 128 bytes",),
        x_and_out,
    ),
    Pair(
        "read-before",
        LOAD,
        "ld.global.nc.u32 %r1, [%rd1+-4];",
        "ld.global.nc.u32 %r1, [%rd1];",
        ("@ 0 0 reads x[-4:0] before its 128 bytes",),
        x_and_out,
    ),
    Pair(
        "read-between",
        "ld.global.u32 %r1, [%y]; FAULT // HERE",
        "ld.global.u32 %r1, [%x+156];",
        "ld.global.u32 %r1, [%x+124];",
        ("@ 0 0 reads x[156:160] past its 128 bytes",),
        x_gap_y,
    ),
    Pair(
        "read-null",
        LOAD,
        "ld.global.u32 %r1, [0];",
        "ld.global.u32 %r1, [%x];",
        ("@ 0 0 reads 4 bytes at 0x0, which is in no buffer",),
        x_and_out,
    ),
    Pair(
        "read-misaligned",
        LOAD,
        "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%x+4];",
        "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%x+16];",
        ("@ 0 0 reads x[4:20], which is misaligned: the address must be a multiple of 16",),
        x_and_out,
    ),
    Pair(
        "write-past",
        STORE,
        "st.global.u32 [%rd2+4], %tid;",
        "st.global.u32 [%rd2], %tid;",
        ("@ 0 31 writes out[128:132] past its 128 bytes",),
        lambda: [result("out", 32)],
    ),
    Pair(
        "write-before",
        STORE,
        "st.global.u32 [%rd2+-8], %tid;",
        "st.global.u32 [%rd2], %tid;",
        ("@ 0 0 writes out[-8:-4] before its 128 bytes",),
        lambda: [result("out", 32)],
    ),
    Pair(
        "write-misaligned",
        STORE,
        "st.global.v2.u32 [%rd2], {%tid, %r1};",
        "st.global.u32 [%rd2], %tid;",
        ("@ 0 1 writes out[4:12], which is misaligned: the address must be a multiple of 8",),
        lambda: [result("out", 32)],
    ),
    Pair(
        "write-read-only",
        "FAULT // HERE",
        "st.global.u32 [%x], 1;",
        "ld.global.u32 %r1, [%x];",
        ("@ 0 0 writes x[0:4], but the buffer is read-only",),
        lambda: [read("x", WORDS)],
    ),
    Pair(
        "not-written",
        STORE,
        "setp.ge.u32 %p1, %tid, 2; @%p1 st.global.u32 [%rd2], %tid;",
        "st.global.u32 [%rd2], %tid;",
        ("8 of the 128 bytes of out were never written, the first at offset 0",),
        lambda: [result("out", 32)],
    ),
    Pair(
        "written-twice",
        STORE + "st.global.u32 [%out+80], 0; // THERE",
        "st.global.u32 [%rd2], %tid;",
        "st.global.u32 [%rd2], %tid; ret;",
        (
            "block (0,0,0), warp 0 lane 0 (thread 0), {THERE}: writes out[80:84], which was "
            "already written",
        ),
        lambda: [result("out", 32)],
    ),
    Pair(
        "updated-twice",
        STORE + "st.global.u32 [%out+80], 0; // THERE",
        "ld.global.u32 %r1, [%rd2]; st.global.u32 [%rd2], %r1;",
        "ld.global.u32 %r1, [%rd2]; st.global.u32 [%rd2], %r1; ret;",
        (
            "block (0,0,0), warp 0 lane 0 (thread 0), {THERE}: writes out[80:84], which was "
            "already written",
        ),
        lambda: [Buffer("out", aligned(WORDS), "update")],
    ),
    Pair(
        "read-before-written",
        STORE + "st.global.u32 [%rd2], %tid;",
        "ld.global.u32 %r1, [%rd2];",
        "",
        ("@ 0 0 reads out[0:4] before it has been written",),
        lambda: [result("out", 32)],
    ),
    Pair(
        "atomic-on-an-output",
        STORE,
        "red.global.add.u32 [%rd2], 1;",
        "st.global.u32 [%rd2], 1;",
        ("@ 0 0 updates out[0:4] atomically: expected a buffer with Access::any",),
        lambda: [result("out", 32)],
    ),
]

BLOCKS = [
    Pair(
        "written-by-two-blocks",
        """
        FAULT
        mul.wide.u32 %rd2, %r1, 4; add.s64 %rd2, %rd2, %out;
        st.global.u32 [%rd2], %r1; // HERE""",
        "mov.u32 %r1, %tid;",
        "mov.u32 %r1, %thread;",
        (
            "block (*,0,0), warp 0 lane 0 (thread 0), {HERE}: writes out[0:4], which was already "
            "written",
        ),
        lambda: [result("out", 64)],
        {"grid": 2},
    ),
    Pair(
        "race-of-two-blocks-writing",
        """
        FAULT
        mul.wide.u32 %rd2, %r1, 4; add.s64 %rd2, %rd2, %out;
        st.global.u32 [%rd2], %r1; // HERE""",
        "mov.u32 %r1, %tid;",
        "mov.u32 %r1, %thread;",
        (
            "block (1,0,0), warp 0 lane 0 (thread 0), {HERE}: race: writes out[0:4], which block "
            "number 0 wrote too",
            "block (0,0,0), warp 0 lane 0 (thread 0), {HERE}: race: writes out[0:4], which block "
            "number 1 wrote too",  # the last block first
        ),
        lambda: [scratch("out", np.zeros(64, np.uint32))],
        {"grid": 2},
    ),
    Pair(
        "race-of-two-blocks-reading",
        """
        mul.wide.u32 %rd2, %thread, 4; add.s64 %rd2, %rd2, %out; st.global.u32 [%rd2], %thread;
        bar.sync 0;
        FAULT
        mul.wide.u32 %rd2, %r1, 4; add.s64 %rd2, %rd2, %out;
        ld.global.u32 %r2, [%rd2]; // HERE""",
        "mov.u32 %r1, %tid;",
        "xor.b32 %r1, %thread, 1;",
        (
            "block (1,0,0), warp 0 lane 0 (thread 0), {HERE}: race: reads out[0:4], which block "
            "number 0 of the same launch wrote",
            "block (1,0,0), warp 0 lane 0 (thread 0), {HERE}: reads out[0:4] before it has been "
            "written",  # the last block first
        ),
        lambda: [result("out", 64)],
        {"grid": 2},
    ),
]

# ---- Shared memory ----

SHARED = """.shared .align 16 .b8 smem[{bytes}];
mov.u32 %r1, smem; mad.lo.u32 %r2, %tid, 4, %r1;
"""
TWO_WARPS = SHARED.format(bytes=256) + "setp.eq.u32 %p1, %warp, 0; mad.lo.u32 %r3, %lane, 4, %r1;\n"
OWN = "st.shared.u32 [%r2], %tid;\n"

SHARED_MEMORY = [
    Pair(
        "uninitialised",
        SHARED.format(bytes=256)
        + """
        st.shared.u32 [%r2], %tid;
        FAULT // HERE""",
        "ld.shared.u32 %r4, [%r2+128];",
        "ld.shared.u32 %r4, [%r2];",
        ("@ 0 0 reads shared memory byte 128, which was never written",),
    ),
    Pair(
        "uninitialised-atomic",
        SHARED.format(bytes=128)
        + """
        FAULT
        red.shared.add.u32 [%r2], 1; // HERE""",
        "",
        OWN,
        ("@ 0 0 reads shared memory byte 0, which was never written",),
    ),
    Pair(
        "uninitialised-ldmatrix",
        SHARED.format(bytes=512)
        + """
        mad.lo.u32 %r3, %tid, 16, %r1;
        FAULT
        bar.sync 0;
        ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r5, %r6, %r7, %r8}, [%r3]; // HERE""",
        "setp.ne.u32 %p1, %tid, 5; @%p1 st.shared.v4.u32 [%r3], {%r1, %r1, %r1, %r1};",
        "st.shared.v4.u32 [%r3], {%r1, %r1, %r1, %r1};",
        (
            "block (0,0,0), warp 0 (threads 0-31), {HERE}: reads shared memory byte 80, "
            "which was never written",
        ),
    ),
    Pair(
        "outside",
        SHARED.format(bytes=128) + "FAULT // HERE",
        "st.shared.u32 [%r2+4], %tid;",
        "st.shared.u32 [%r2], %tid;",
        ("@ 0 31 writes shared memory bytes 128 to 132, outside the block's 128",),
    ),
    Pair(
        "before",
        SHARED.format(bytes=128)
        + """
        st.shared.u32 [%r2], %tid;
        FAULT // HERE""",
        "ld.shared.u32 %r4, [%r2+-4];",
        "ld.shared.u32 %r4, [%r2];",
        ("@ 0 0 reads shared memory bytes -4 to 0, outside the block's 128",),
    ),
    Pair(
        "dynamic-outside",
        """
        mov.u32 %r1, dynamic_smem; mad.lo.u32 %r2, %tid, 4, %r1;
        st.shared.u32 [%r2], %tid; // HERE""",
        "",
        "",
        ("@ 0 30 writes shared memory bytes 120 to 124, outside the block's 120",),
        launch={"smem": 120},
        right_launch={"smem": 128},
    ),
    Pair(
        "misaligned",
        SHARED.format(bytes=256) + "FAULT // HERE",
        "st.shared.v2.u32 [%r2], {%r1, %r1};",
        "st.shared.u32 [%r2], %r1;",
        (
            "@ 0 1 writes shared memory bytes 4 to 12, which is misaligned: the address must be a "
            "multiple of 8",
        ),
    ),
    Pair(
        "misaligned-ldmatrix",
        SHARED.format(bytes=1024)
        + """
        mad.lo.u32 %r3, %tid, 16, %r1;
        st.shared.v4.u32 [%r3], {%r1, %r1, %r1, %r1};
        bar.warp.sync -1;
        FAULT
        ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r5}, [%r3]; // HERE""",
        "add.u32 %r3, %r3, 8;",
        "",
        (
            "@ 0 0 reads shared memory bytes 8 to 24, which is misaligned: the address must be a "
            "multiple of 16",
        ),
    ),
]

# ---- Races in shared memory. Which side comes first depends on the schedule. ----

NO_BARRIER = "without a barrier in between"
NO_SYNCWARP = "without a __syncwarp or a barrier in between"


def race(verb: str, done: str, why: str, warps: tuple[str, str] = ("*", "*")) -> tuple[str, ...]:
    """The message of a race between the lines HERE and THERE, whichever is the later one."""
    text = (
        "block (0,0,0), warp {} lane * (thread *), {}: race: {} shared memory byte * that "
        "warp {} lane * (thread *) {} ({}) {}"
    )
    late = {"wrote": "writes", "read": "reads", "writes": "wrote", "reads": "read"}
    return (
        text.format(warps[0], "{HERE}", verb, warps[1], done, "{THERE}", why),
        text.format(warps[1], "{THERE}", late[done], warps[0], late[verb], "{HERE}", why),
    )


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

# ---- Asynchronous copies ----

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


def source() -> list[Buffer]:
    return [read("x", np.arange(256, dtype=np.uint32))]


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

# ---- Barriers and divergence ----

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

# ---- Local memory and parameters ----

LOCAL = """.local .align 4 .b8 stack[16];
mov.u64 %rd1, stack;
and.b32 %r1, %tid, 3; mul.wide.u32 %rd2, %r1, 4; add.s64 %rd2, %rd2, %rd1;
"""
PRIVATE = [
    Pair(
        "local-outside",
        LOCAL + "FAULT // HERE",
        "st.local.u32 [%rd2+4], %tid;",
        "st.local.u32 [%rd2], %tid;",
        ("@ 0 * writes 4 bytes at offset 16 of its 16 bytes of local memory",),
    ),
    Pair(
        "parameter-outside",
        "mov.u64 %rd1, param_x; FAULT // HERE",
        "ld.param.u64 %rd2, [%rd1+8];",
        "ld.param.u64 %rd2, [%rd1];",
        ("@ 0 0 reads 8 bytes at offset 8 of its 8 bytes of parameters",),
        source,
    ),
]

PAIRS = [*GLOBAL_MEMORY, *BLOCKS, *SHARED_MEMORY, *RACES, *COPIES, *BARRIERS, *PRIVATE]


@every_order
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_the_fault_is_found(pair: Pair, schedule: str, lazy: bool) -> None:
    assert_fails(pair, schedule=schedule, lazy=lazy)


@every_order
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_no_alarm_where_it_is_done_right(pair: Pair, schedule: str, lazy: bool) -> None:
    pair.run(fault=False, schedule=schedule, lazy=lazy)


@pytest.mark.parametrize("pair", RACES, ids=lambda pair: pair.name)
def test_races_need_not_be_watched(pair: Pair) -> None:
    """races=False: fewer checks, for speed; this order happens to be harmless."""
    pair.run(fault=True, races=False)


def test_the_lowest_block_is_the_one_that_is_named() -> None:
    body = "setp.lt.u32 %p1, %block, 3; @%p1 ret;\nst.global.u32 [%x], %block;"
    for workers in (1, 2):
        with pytest.raises(_C.EmulatorError, match=r"block \(3,0,0\), warp 0 lane 0"):
            run(body, read("x", WORDS), grid=50, workers=workers)


# ---- Messages ----


def test_an_inlined_line_is_named_with_its_callers() -> None:
    text = entry("ld.global.u32 %r1, [0];").replace(
        ".loc 1 1 1\n",
        ".loc 1 12 5\n.loc 2 77 3, function_name $L__info_string0, inlined_at 1 12 5\n",
    )
    text += '.file 2 "csrc/kernels/inner.cuh"\n'
    emulator = _C.Emulator()
    with pytest.raises(_C.EmulatorError) as error:
        emulator.launch(text, "example", grid=(1, 1, 1), block=(32, 1, 1), params=b"", buffers=[])
    assert f"kernels/inner.cuh:77 (inlined at {SOURCE}:12): reads 4 bytes" in str(error.value)


def test_without_lines_that_is_said() -> None:
    text = re.sub(r"\.loc.*\n", "", entry("ld.global.u32 %r1, [0];"))
    emulator = _C.Emulator()
    with pytest.raises(_C.EmulatorError, match=r"unknown line \(PTX without \.loc\)"):
        emulator.launch(text, "example", grid=(1, 1, 1), block=(32, 1, 1), params=b"", buffers=[])


def test_a_thread_in_three_dimensions_is_named_by_its_number() -> None:
    body = "setp.eq.u32 %p1, %tid.z, 1; @%p1 ld.global.u32 %r1, [0];"
    with pytest.raises(_C.EmulatorError, match=r"block \(0,0,0\), warp 1 lane 0 \(thread 32\)"):
        run(body, block=(4, 8, 2))
    body = "setp.eq.u32 %p1, %ctaid.y, 1; @%p1 ld.global.u32 %r1, [0];"
    with pytest.raises(_C.EmulatorError, match=r"block \(0,1,0\), warp 0"):
        run(body, grid=(3, 2, 2))


# ---- Launches ----


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        ({"grid": 0}, "kernel example: launch with an empty grid"),
        ({"grid": (1, 0, 1)}, "kernel example: launch with an empty grid"),
        ({"block": 0}, "kernel example: launch with 0 threads in a block"),
        ({"block": 1025}, "kernel example: launch with 1025 threads in a block"),
        (
            {"extra_bytes": b"1234"},
            "kernel example: launch with 12 bytes of parameters, but it has 8",
        ),
        ({"smem": 64}, "launch with dynamic shared memory, which the kernel does not declare"),
        ({"smem": -1}, "kernel example: launch with negative dynamic shared memory"),
    ],
    ids=["grid", "grid-y", "no-threads", "threads", "parameters", "shared", "negative-shared"],
)
def test_launches(launch: dict[str, Any], message: str) -> None:
    with pytest.raises(_C.EmulatorError, match=re.escape(message)):
        run("mov.u32 %r1, 0;", read("x", WORDS), **launch)


def test_buffers_that_overlap() -> None:
    memory = aligned(WORDS)
    with pytest.raises(_C.EmulatorError, match="buffers x and y overlap"):
        run("", Buffer("x", memory[:20]), Buffer("y", memory[10:], "write_once"))


def test_an_output_that_is_an_input_is_written_once() -> None:
    memory = aligned(WORDS)
    body = address("%rd1", "x", "%tid", 4) + "ld.global.u32 %r1, [%rd1]; add.u32 %r1, %r1, 1;\n"
    store = "st.global.u32 [%rd1], %r1;"
    in_place = (Buffer("x", memory), Buffer("y", memory, "write_once"))
    run(body + store, *in_place)
    np.testing.assert_array_equal(memory, WORDS + 1)
    with pytest.raises(_C.EmulatorError, match=r"writes x/y\[0:4\], which was already written"):
        run(body + store + store, *in_place)


def test_unknown_access() -> None:
    expected = "access: expected one of any, constant, read, update, write_once"
    with pytest.raises(ValueError, match=expected):
        run("", Buffer("x", WORDS, "append"))


def test_local_memory_is_each_threads_own() -> None:
    """Spills and arrays that are indexed at run time."""
    out = result("out", 32)
    body = (
        LOCAL + "st.local.u32 [%rd2], %tid; ld.local.u32 %r2, [%rd2]; cvta.local.u64 %rd3, %rd2;\n"
    )
    body += "ld.u32 %r3, [%rd3]; add.u32 %r2, %r2, %r3;\n" + address("%rd4", "out", "%tid", 4)
    run(body + "st.global.u32 [%rd4], %r2;", out)
    np.testing.assert_array_equal(out.array, 2 * WORDS)


def test_calls_are_refused() -> None:
    """As nvcc writes one that it did not inline."""
    body = """{ .param .b64 param0; st.param.b64 [param0], %rd1;
    .param .b32 retval0;
    call.uni (retval0), helper, (param0);
    ld.param.b32 %r1, [retval0]; }"""
    with pytest.raises(_C.EmulatorError, match=r"PTX line \d+.*calls are not modelled"):
        run(body)
