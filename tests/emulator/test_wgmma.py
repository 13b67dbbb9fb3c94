"""wgmma and stmatrix of the emulator: every layout against CuTe's, and every rule broken once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.cute_layouts import filled, load, swizzled, table
from support.ptx_pairs import Pair, assert_fails, every_order
from support.ptx_programs import Buffer, address, compute, read, result, run

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

TABLES = load("cute_sm90.json")
MODES = {0: 0, 1: 3, 2: 2, 3: 1}  # bits of the swizzle -> the descriptor's
BASE = 1024  # the address at which shared memory starts
SHARED = 64 * 1024
M, K, THREADS = 64, 16, 128


@dataclass(frozen=True)
class Tile:
    """[rows, 16] elements in shared memory, behind a descriptor."""

    rows: int
    bits: int = 3  # of the swizzle
    mn_major: bool = False
    start: int = 0  # bytes, as are the offsets
    leading: int = 0
    stride: int = 0
    base: int = 0

    def addresses(self) -> np.ndarray:
        """[rows, 16] -> byte in shared memory."""
        layout = TABLES["mn_major" if self.mn_major else "k_major"][str(self.bits)]
        chunk = int(np.prod([n for n in layout["shape"][0] if isinstance(n, int)]))
        names = {"m": self.rows // chunk, "k": 2, "L": self.leading // 2, "S": self.stride // 2}
        at = BASE + self.start + 2 * table(filled(layout, names))
        return swizzled(at, self.bits, self.base) - BASE

    def descriptor(self) -> int:
        start = (BASE + self.start) >> 4
        return (start | self.leading >> 4 << 16 | self.stride >> 4 << 32 | self.base << 49
                | MODES[self.bits] << 62)  # fmt: skip


def k_major(rows: int, bits: int, start: int = 0, base: int = 0) -> Tile:
    if bits == 0:
        return Tile(rows, 0, start=start, leading=128, stride=272)
    return Tile(rows, bits, start=start, stride=8 * (16 << bits), base=base)


def mn_major(rows: int, bits: int, start: int = 0) -> Tile:
    span = 16 << bits
    if bits == 0:
        return Tile(rows, 0, True, start, leading=rows * 16 + 128, stride=128)
    return Tile(rows, bits, True, start, leading=16 * span, stride=8 * span)


FILL = f"""
.shared .align 1024 .b8 smem[{SHARED}];
mov.u32 %r1, smem; mad.lo.u32 %r2, %tid, 16, %r1; mad.wide.u32 %rd1, %tid, 16, %image;
mov.u32 %r3, 0;
FILL: ld.global.v4.u32 {{%r4, %r5, %r6, %r7}}, [%rd1];
st.shared.v4.u32 [%r2], {{%r4, %r5, %r6, %r7}};
add.u32 %r2, %r2, 2048; add.s64 %rd1, %rd1, 2048; add.u32 %r3, %r3, 1;
setp.lt.u32 %p1, %r3, {SHARED // 2048}; @%p1 bra FILL;
fence.proxy.async.shared::cta;
bar.sync 0;
"""


@dataclass(frozen=True)
class Product:
    n: int
    b: Tile
    a: Tile | None = None  # None: in registers
    dtype: Any = np.float16
    keep: bool = True
    signs: tuple[int, int] = (1, 1)
    times: int = 1  # K / 16, for tiles whose K slices follow one another
    options: dict[str, Any] = field(default_factory=dict)

    def instruction(self, step: int = 0) -> str:
        name = "bf16" if self.dtype == ml_dtypes.bfloat16 else "f16"
        c = ", ".join(f"%f{i}" for i in range(self.n // 2))
        a = "{%r20, %r21, %r22, %r23}" if self.a is None else f"%rd{20 + 2 * step}"
        trans = f"{int(self.a.mn_major)}, " if self.a is not None else ""
        return (
            f"wgmma.mma_async.sync.aligned.m64n{self.n}k16.f32.{name}.{name} {{{c}}}, {a}, "
            f"%rd{21 + 2 * step}, %p2, {self.signs[0]}, {self.signs[1]}, {trans}"
            f"{int(self.b.mn_major)};"
        )

    def run(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
        """a [64, K], b [N, K], c [64, N]."""
        image = np.full(SHARED, 0xFF, np.uint8)  # NaN
        descriptors = []
        for step in range(self.times):
            part = slice(K * step, K * step + K)
            for tile, matrix in ((self.a, a), (self.b, b)):
                if tile is None:
                    descriptors.append(0)
                    continue
                shifted = Tile(**{**tile.__dict__, "start": tile.start + 32 * step})
                at = shifted.addresses()
                elements = matrix[:, part].astype(self.dtype).view(np.uint16)
                image.view(np.uint16)[at // 2] = elements
                descriptors.append(shifted.descriptor())
        registers = self.n // 2
        layout = table(filled(TABLES["C"], {"N/8": self.n // 8}))
        held = np.ascontiguousarray(c.T.ravel()[layout].astype(np.float32))
        body = [FILL, address("%rd2", "c", "%tid", 4 * registers)]
        body += [f"ld.global.f32 %f{i}, [%rd2+{4 * i}];" for i in range(registers)]
        body += [f"ld.global.u64 %rd{20 + i}, [%d+{8 * i}];" for i in range(len(descriptors))]
        if self.a is None:
            fragment = a.T.ravel()[table(TABLES["A"])].astype(self.dtype).view(np.uint32)
            body.append(address("%rd3", "fragments", "%tid", 16))
            body += [f"ld.global.u32 %r{20 + i}, [%rd3+{4 * i}];" for i in range(4)]
        else:
            fragment = np.zeros(4, np.uint32)
        body += [f"mov.u32 %r8, {int(self.keep)}; setp.ne.u32 %p2, %r8, 0;"]
        body += ["wgmma.fence.sync.aligned;", *map(self.instruction, range(self.times))]
        body += ["wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;"]
        body += [address("%rd2", "out", "%tid", 4 * registers)]
        body += [f"st.global.f32 [%rd2+{4 * i}], %f{i};" for i in range(registers)]
        out = result("out", THREADS * registers, np.float32)
        buffers = [read("image", image), read("d", np.array(descriptors, np.uint64)),
                   read("c", held), read("fragments", fragment), out]  # fmt: skip
        counters = run("\n".join(body), *buffers, block=THREADS, **self.options)
        got = np.empty(M * self.n, np.float32)
        got[layout] = out.array.reshape(THREADS, registers)
        return got.reshape(self.n, M).T, counters

    def check(self) -> dict[str, int]:
        """With small integers, of which everything is exact."""
        rng = np.random.default_rng(0)
        k = K * self.times
        a, b, c = (
            rng.integers(-8, 9, shape).astype(float) for shape in ((M, k), (self.n, k), (M, self.n))
        )
        got, counters = self.run(a, b, c)
        sign = self.signs[0] * self.signs[1]
        np.testing.assert_array_equal(got, sign * a @ b.T + (c if self.keep else 0))
        return counters


@pytest.mark.parametrize("n", range(8, 257, 8))
def test_every_width(n: int) -> None:
    counters = Product(n, k_major(n, 3, 8192), k_major(M, 3)).check()
    assert (counters["wgmma"], counters["wgmma_macs"]) == (1, M * n * K)
    assert counters["wgmma_shared_bytes"] == (M + n) * K * 2


@pytest.mark.parametrize("bits", range(4))
@pytest.mark.parametrize("major", ["k-k", "k-mn", "mn-k", "mn-mn"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["f16", "bf16"])
def test_layouts_of_tiles(bits: int, major: str, dtype: Any) -> None:
    of_a, of_b = ({"k": k_major, "mn": mn_major}[name] for name in major.split("-"))
    Product(128, of_b(128, bits, 16384), of_a(M, bits), dtype).check()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["f16", "bf16"])
@pytest.mark.parametrize("of_b", [k_major, mn_major])
def test_a_in_registers(of_b: Any, dtype: Any) -> None:
    Product(64, of_b(64, 3), None, dtype).check()


@pytest.mark.parametrize("in_registers", [False, True])
@pytest.mark.parametrize("signs", [(1, -1), (-1, 1), (-1, -1)])
def test_signs(signs: tuple[int, int], in_registers: bool) -> None:
    a = None if in_registers else k_major(M, 3)
    Product(24, k_major(24, 3, 8192), a, signs=signs).check()


def test_scale_d_of_zero_ignores_what_was_there() -> None:
    Product(32, k_major(32, 3, 8192), k_major(M, 3), keep=False).check()


@every_order
@pytest.mark.parametrize("keep", [True, False])
def test_k_slices_of_a_swizzled_tile(keep: bool, schedule: str, lazy: bool) -> None:
    """Four products in flight on the same accumulators, 32 bytes apart."""
    options = {"schedule": schedule, "lazy": lazy}
    product = Product(40, k_major(40, 3, 8192), k_major(M, 3), times=4, options=options)
    assert product.check()["wgmma"] == 4


@pytest.mark.parametrize("base", range(8))
def test_patterns_that_start_anywhere(base: int) -> None:
    """The base offset says in which line of 128 bytes the swizzle's pattern starts."""
    Product(16, k_major(16, 3, 16384), k_major(M, 3, 128 * base, base)).check()


def test_products_of_random_numbers() -> None:
    rng = np.random.default_rng(1)
    product = Product(96, k_major(96, 3, 8192), k_major(M, 3), times=4)
    a, b, c = (rng.standard_normal(shape).astype(np.float16).astype(float)
               for shape in ((M, 64), (96, 64), (M, 96)))  # fmt: skip
    got, _ = product.run(a, b, c)
    bound = 65 * 2.0**-24 * (np.abs(a) @ np.abs(b.T) + np.abs(c))
    assert (np.abs(got - (a @ b.T + c)) <= bound).all()


# ---- stmatrix ----


@pytest.mark.parametrize("transposed", ["", ".trans"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_stmatrix_is_the_inverse_of_ldmatrix(count: int, transposed: str) -> None:
    rows = np.random.default_rng(0).permutation(40)[:32].astype(np.uint32) * 48
    x = np.random.default_rng(1).integers(0, 2**32, 32 * count, np.uint32)
    names = [f"%r{10 + i}" for i in range(count)]
    loaded = [f"%r{20 + i}" for i in range(count)]
    body = [
        ".shared .align 16 .b8 smem[2048]; mov.u32 %r1, smem;",
        address("%rd1", "rows", "%tid", 4) + "ld.global.u32 %r2, [%rd1]; add.u32 %r2, %r2, %r1;",
        address("%rd1", "x", "%tid", 4 * count),
        *(f"ld.global.u32 {name}, [%rd1+{4 * i}];" for i, name in enumerate(names)),
        f"stmatrix.sync.aligned.m8n8.x{count}{transposed}.shared.b16 [%r2], "
        f"{{{', '.join(names)}}};",
        "bar.warp.sync -1;",
        f"ldmatrix.sync.aligned.m8n8.x{count}{transposed}.shared.b16 "
        f"{{{', '.join(loaded)}}}, [%r2];",
        address("%rd1", "out", "%tid", 4 * count),
        *(f"st.global.u32 [%rd1+{4 * i}], {name};" for i, name in enumerate(loaded)),
    ]
    out = result("out", 32 * count)
    counters = run("\n".join(body), read("rows", rows), read("x", x), out)
    np.testing.assert_array_equal(out.array, x)
    assert counters["stmatrix"] == 1


# ---- Groups and faults ----

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
def test_an_older_group_may_be_read_while_a_newer_one_runs(schedule: str, lazy: bool) -> None:
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


@every_order
@pytest.mark.parametrize("pair", FAULTS, ids=lambda pair: pair.name)
def test_the_fault_is_found(pair: Pair, schedule: str, lazy: bool) -> None:
    assert_fails(pair, schedule=schedule, lazy=lazy)


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
def test_what_is_not_modelled(instruction: str) -> None:
    with pytest.raises(_C.EmulatorError, match=r"example.cuh:1"):
        run(instruction)


def test_registers_of_other_values_are_left_alone() -> None:
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
