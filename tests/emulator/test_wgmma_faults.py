"""Groups of wgmma in flight; every rule of wgmma is broken once, and found in every order."""

from __future__ import annotations

import numpy as np
import pytest
from support.ptx_pairs import (
    Pair,
    assert_fails_in_every_order,
)
from support.ptx_programs import Buffer, address, compute, every_order, read, result, run
from support.ptx_wgmma import (
    FILL,
    SHARED,
    THREADS,
    M,
    Tile,
)

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

FRAME = (
    FILL
    + """
ld.global.u64 %rd20, [%d]; ld.global.u64 %rd21, [%d+8]; setp.eq.u32 %p2, %r1, %r1;
"""
    + "".join(f"mov.f32 %f{i}, 0f00000000; mov.f32 %f{i + 8}, 0f3F800000;\n" for i in range(4))
    + """mov.u32 %r20, 0; mov.u32 %r21, 0; mov.u32 %r22, 0; mov.u32 %r23, 0;
FENCE
FIRST
wgmma.commit_group.sync.aligned;
BETWEEN
SECOND
wgmma.commit_group.sync.aligned;
WAIT1
AFTER1
wgmma.wait_group.sync.aligned 0;
"""
    + address("%rd2", "out", "%tid", 16)
    + "st.global.v4.f32 [%rd2], {%f0, %f1, %f2, %f3};"
)
MMA = "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 "
PARTS = {
    "FENCE": "wgmma.fence.sync.aligned;",
    "FIRST": MMA + "{%f0, %f1, %f2, %f3}, %rd20, %rd21, %p2, 1, 1, 0, 0;",
    "BETWEEN": "",
    "SECOND": MMA + "{%f8, %f9, %f10, %f11}, {%r20, %r21, %r22, %r23}, %rd21, %p2, 1, 1, 0;",
    "WAIT1": "wgmma.wait_group.sync.aligned 1;",
    "AFTER1": "add.f32 %f0, %f0, %f1;",
}
TILES = (Tile(M, 3, stride=1024), Tile(8, 3, start=8192, stride=1024))


def frame(**parts: str) -> str:
    body = FRAME
    for name, text in {**PARTS, **parts}.items():
        body = body.replace(name, text, 1)
    return body


def tiles() -> list[Buffer]:
    descriptors = np.array([tile.descriptor() for tile in TILES], np.uint64)
    return [read("image", np.zeros(SHARED, np.uint8)), read("d", descriptors),
            result("out", 4 * THREADS, np.float32)]  # fmt: skip


@every_order
def test_older_wgmma_group_may_be_read(schedule: str, lazy: bool) -> None:
    run(frame(), *tiles(), block=THREADS, schedule=schedule, lazy=lazy)


def fault(name: str, part: str, text: str, *messages: str) -> Pair:
    launch = {"block": THREADS}
    program = frame(**{part: "FAULT // HERE"})
    return Pair(name, program, text, PARTS[part], messages, tiles, launch)


WARPGROUP = "block (0,0,0), warp * (threads *), "
RACE = (
    "block (0,0,0), warp * race: writes shared memory byte * that warp 0 (threads 0-31) is reading"
)
FAULTS = [
    fault(
        "no-fence",
        "FENCE",
        "",
        WARPGROUP + "*: accumulates in registers without a wgmma.fence after their last access",
    ),
    fault(
        "register-written-after-the-fence",
        "FENCE",
        PARTS["FENCE"] + "mov.f32 %f3, 0f00000000;",
        WARPGROUP + "*: accumulates in registers without a wgmma.fence after their last access",
    ),
    fault(
        "fragment-written-after-the-fence",
        "BETWEEN",
        "mov.u32 %r21, 5;",
        WARPGROUP + "*: multiplies registers without a wgmma.fence after their last access",
    ),
    fault(
        "accumulator-read-in-flight",
        "BETWEEN",
        "add.f32 %f20, %f1, %f1;",
        WARPGROUP + "{HERE}: reads a register that a wgmma.mma_async in flight uses (*)",
    ),
    fault(
        "accumulator-written-in-flight",
        "BETWEEN",
        "mov.f32 %f2, 0f00000000;",
        WARPGROUP + "{HERE}: writes a register that a wgmma.mma_async in flight uses (*)",
    ),
    fault(
        "wait-too-short",
        "WAIT1",
        "wgmma.wait_group.sync.aligned 2;",
        WARPGROUP + "*: * a register that a wgmma.mma_async in flight uses (*)",
    ),
    fault(
        "fragment-written-in-flight",
        "WAIT1",
        "mov.u32 %r22, 1;" + PARTS["WAIT1"],
        WARPGROUP + "{HERE}: writes a register that a wgmma.mma_async in flight uses (*)",
    ),
    fault(
        "accumulators-of-another-shape",
        "SECOND",
        MMA.replace("n8", "n16")
        + "{%f0, %f1, %f2, %f3, %f8, %f9, %f10, %f11}, %rd20, %rd21, %p2, 1, 1, 0, 0;",
        WARPGROUP + "{HERE}: accumulates in a register of another tile that "
        "a wgmma.mma_async in flight uses (*)",
    ),
    fault(
        "tile-written-in-flight",
        "BETWEEN",
        "st.shared.u32 [%r1+8192], 0;",
        RACE + " (*) asynchronously, and which has not been waited for",
    ),
    fault(
        "tile-written-before",
        "FENCE",
        PARTS["FENCE"] + "bar.sync 0; st.shared.u32 [%r1+8192], %r20; bar.sync 0;",
        WARPGROUP + "*: reads shared memory byte 8192 through the async proxy, which warp * wrote "
        "(*) without a fence.proxy.async in between",
        "block (0,0,0), warp * race: writes shared memory byte 8192 *",
    ),
    fault(
        "one-warp-elsewhere",
        "SECOND",
        f"setp.eq.u32 %p3, %warp, 2; @%p3 bra OTHER; {PARTS['SECOND']} bra MET;\n"
        f"OTHER: {PARTS['SECOND']}\nMET:",
        WARPGROUP + "kernels/example.cuh:*: divergent warpgroup: its other warps are at "
        "kernels/example.cuh:*",
    ),
    fault(
        "one-warp-missing",
        "SECOND",
        f"setp.eq.u32 %p3, %warp, 2; @%p3 bra OTHER; {PARTS['SECOND']}\nOTHER:",
        "block (0,0,0): deadlock: * waiting for the other warps of its warpgroup, "
        "kernels/example.cuh:*; *",
    ),
    fault(
        "descriptors-differ",
        "FIRST",
        "cvt.u64.u32 %rd30, %warp; shl.b64 %rd30, %rd30, 6; add.s64 %rd20, %rd20, %rd30;"
        + PARTS["FIRST"],
        "block (0,0,0), warp 1 lane 0 (thread 32), {HERE}: the descriptors differ between threads "
        "of the warpgroup",
    ),
    fault(
        "inside-the-pattern",
        "FIRST",
        "add.s64 %rd20, %rd20, 8;" + PARTS["FIRST"],
        WARPGROUP + "{HERE}: the descriptor starts at byte 128, inside the pattern of its swizzle: "
        "set its base offset",
    ),
    fault(
        "reserved-bits",
        "FIRST",
        "or.b64 %rd20, %rd20, 0x4000;" + PARTS["FIRST"],
        WARPGROUP + "{HERE}: the descriptor has reserved bits set",
    ),
    fault(
        "tile-out-of-bounds",
        "FIRST",
        f"add.s64 %rd20, %rd20, {(SHARED - 4096) // 16};" + PARTS["FIRST"],
        WARPGROUP + "{HERE}: reads shared memory bytes 65536 to 65552, outside the block's 65536",
    ),
    fault(
        "not-waited-for",
        "AFTER1",
        "ret;",
        WARPGROUP + "{HERE}: exits without waiting for a wgmma.mma_async (*)",
    ),
]


@pytest.mark.parametrize("pair", FAULTS, ids=lambda pair: pair.name)
def test_fault_is_found(pair: Pair) -> None:
    assert_fails_in_every_order(pair)


@pytest.mark.parametrize(
    "instruction",
    [
        "wgmma.mma_async.sync.aligned.m64n12k16.f32.f16.f16 {%f0}, %rd1, %rd2, %p1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k16.f16.f16.f16 {%r0}, %rd1, %rd2, %p1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 {%f0}, %rd1, %rd2, %p1, 1, 1;",
        MMA + "{%f0, %f1, %f2, %f3}, %rd1, %rd2, %p1, 2, 1, 0, 0;",
        "stmatrix.sync.aligned.m16n8.x1.shared.b8 [%r1], {%r2};",
    ],
    ids=["n12", "f16-sums", "fp8", "scale", "stmatrix-b8"],
)
def test_unmodelled_instruction_is_refused(instruction: str) -> None:
    with pytest.raises(_C.EmulatorError, match=r"example.cuh:1"):
        run(instruction)


def test_wgmma_keeps_other_registers() -> None:
    """What is never read again must not be written over what took its place."""
    body = frame(SECOND="", WAIT1="", AFTER1="mov.f32 %f40, 0f40000000;")
    body = body.replace("wgmma.wait_group.sync.aligned 0;", "bar.sync 0;", 1)
    body = body.split(address("%rd2", "out", "%tid", 16))[0]
    tail = address("%rd2", "out", "%tid", 16)
    tail += "wgmma.wait_group.sync.aligned 0;\n"
    tail += "st.global.v4.f32 [%rd2], {%f40, %f40, %f40, %f40};"
    buffers = tiles()
    run(body + tail, *buffers, block=THREADS)
    np.testing.assert_array_equal(buffers[2].array, np.full(4 * THREADS, 2, np.float32))
    assert compute("mov.u32 %d, 1;", 32, np.uint32).all()
