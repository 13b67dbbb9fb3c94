"""Tiles in shared memory, their descriptors, and one wgmma product as a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from support.cute_layouts import filled, load, swizzled, table
from support.ptx_programs import address, read, result, run

TABLES = load("cute_sm90.json")
MODES = {0: 0, 1: 3, 2: 2, 3: 1}  # swizzle bits -> descriptor's mode
BASE = 1024  # start address of shared memory
SHARED = 64 * 1024
M, K, THREADS = 64, 16, 128


@dataclass(frozen=True)
class Tile:
    """[rows, 16] elements in shared memory, described by a descriptor."""

    rows: int
    bits: int = 3  # swizzle bits
    mn_major: bool = False
    start: int = 0  # in bytes, like the offsets
    leading: int = 0
    stride: int = 0
    base: int = 0

    def addresses(self) -> np.ndarray:
        """Return the byte in shared memory of each of the [rows, 16] elements."""
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
    a: Tile | None = None  # None: registers
    dtype: Any = np.float16
    keep: bool = True
    signs: tuple[int, int] = (1, 1)
    times: int = 1  # K / 16, for tiles with consecutive K slices
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
        """Run the product of a [64, K] and b [N, K], added to c [64, N]."""
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
        """Compare with small integers, whose products and sums are exact."""
        rng = np.random.default_rng(0)
        k = K * self.times
        a, b, c = (
            rng.integers(-8, 9, shape).astype(float) for shape in ((M, k), (self.n, k), (M, self.n))
        )
        got, counters = self.run(a, b, c)
        sign = self.signs[0] * self.signs[1]
        np.testing.assert_array_equal(got, sign * a @ b.T + (c if self.keep else 0))
        return counters
