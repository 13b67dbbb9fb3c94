"""Faults in shared memory, each beside the right program; see test_checks_global.py."""

from __future__ import annotations

import pytest
from support.ptx_pairs import (
    SHARED,
    Pair,
    assert_fails_in_every_order,
    assert_runs_in_every_order,
)

pytestmark = pytest.mark.emulator

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


@pytest.mark.parametrize("pair", SHARED_MEMORY, ids=lambda pair: pair.name)
def test_fault_is_found(pair: Pair) -> None:
    assert_fails_in_every_order(pair)


@pytest.mark.parametrize("pair", SHARED_MEMORY, ids=lambda pair: pair.name)
def test_right_program_raises_no_alarm(pair: Pair) -> None:
    assert_runs_in_every_order(pair)
