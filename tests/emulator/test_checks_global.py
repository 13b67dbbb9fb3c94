"""Faults in global memory, local memory and parameters, each beside the right program.

Each fault must be found in every order, with a message that names the kernel, the line and the
threads on both sides. The right program beside it must raise no alarm in any order.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.ptx_pairs import (
    Pair,
    assert_fails_in_every_order,
    assert_runs_in_every_order,
    source,
)
from support.ptx_programs import (
    Buffer,
    address,
    aligned,
    read,
    result,
    run,
    scratch,
)

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

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


PAIRS = [*GLOBAL_MEMORY, *BLOCKS, *PRIVATE]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_fault_is_found(pair: Pair) -> None:
    assert_fails_in_every_order(pair)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_right_program_raises_no_alarm(pair: Pair) -> None:
    assert_runs_in_every_order(pair)


def test_error_names_the_lowest_block() -> None:
    body = "setp.lt.u32 %p1, %block, 3; @%p1 ret;\nst.global.u32 [%x], %block;"
    for workers in (1, 2):
        with pytest.raises(_C.EmulatorError, match=r"block \(3,0,0\), warp 0 lane 0"):
            run(body, read("x", WORDS), grid=50, workers=workers)


def test_local_memory_is_private() -> None:
    """Spills and arrays that are indexed at run time."""
    out = result("out", 32)
    body = (
        LOCAL + "st.local.u32 [%rd2], %tid; ld.local.u32 %r2, [%rd2]; cvta.local.u64 %rd3, %rd2;\n"
    )
    body += "ld.u32 %r3, [%rd3]; add.u32 %r2, %r2, %r3;\n" + address("%rd4", "out", "%tid", 4)
    run(body + "st.global.u32 [%rd4], %r2;", out)
    np.testing.assert_array_equal(out.array, 2 * WORDS)
