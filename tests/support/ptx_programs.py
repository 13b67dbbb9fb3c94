"""Small kernels written in PTX, and how tests run them on the emulator.

A program is the body of a kernel. Its lines are numbered from 1, as if they came from a source
file kernels/example.cuh, so that tests can check the place in a message: ``line_of(body, "HERE")``
is the line that contains that text. The parameters are the addresses of the program's buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest

from vgg_cuda import _C

SOURCE = "kernels/example.cuh"
KERNEL = "example"
SCHEDULES = ("forward", "reverse", "round_robin", "random")
ORDERS = {
    f"{schedule}-{'lazy' if lazy else 'eager'}": (schedule, lazy)
    for schedule, lazy in product(SCHEDULES, (True, False))
}
"""All orders of execution that the emulator offers: schedule and lazy, by name."""

FAST_ORDERS = ["forward-eager", "random-lazy"]
"""The only two orders that between them find every mutant without the race detector.

In "forward" the warps run one after the other and copies arrive as early as is legal; in "random"
they alternate and copies arrive as late as is legal. The race detector finds every mutant in any
order.
"""

every_order = pytest.mark.parametrize(("schedule", "lazy"), ORDERS.values(), ids=ORDERS)
OTHER_ORDERS = [order for order in ORDERS if order not in FAST_ORDERS]
fast_and_other_orders = pytest.mark.parametrize(
    "orders",
    [FAST_ORDERS, pytest.param(OTHER_ORDERS, marks=pytest.mark.slow)],
    ids=["fast", "others"],
)

MAX_THREADS = 1024
ALIGNMENT = 256

REGISTERS = """\
.reg .pred %p<64>; .reg .b16 %h<64>; .reg .b32 %r<256>; .reg .b64 %rd<64>;
.reg .f32 %f<256>; .reg .f64 %fd<32>;
.reg .b32 %tid, %lane, %warp, %thread, %block;"""
PROLOGUE = """\
mov.u32 %tid, %tid.x;
and.b32 %lane, %tid, 31;
shr.u32 %warp, %tid, 5;
mov.u32 %block, %ctaid.x;
mov.u32 %r0, %ntid.x;
mad.lo.u32 %thread, %block, %r0, %tid;"""


@dataclass(frozen=True)
class Buffer:
    """Memory that a kernel may access; ``access`` is that of ``_C.Emulator.launch``."""

    name: str
    array: np.ndarray
    access: str = "read"


def aligned(array: Any) -> np.ndarray:
    """Copy an array to an address that is a multiple of 256 bytes, like GPU memory."""
    array = np.asarray(array)
    memory = np.zeros(array.nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def read(name: str, array: Any) -> Buffer:
    return Buffer(name, aligned(array), "read")


def constant(name: str, array: Any) -> Buffer:
    """Return a buffer that may be read before griddepcontrol.wait."""
    return Buffer(name, aligned(array), "constant")


def result(name: str, count: int, dtype: Any = np.uint32) -> Buffer:
    """Return a buffer whose bytes must each be written exactly once."""
    return Buffer(name, aligned(np.zeros(count, dtype)), "write_once")


def scratch(name: str, array: Any) -> Buffer:
    return Buffer(name, aligned(array), "any")


def entry(
    body: str, pointers: Sequence[str] = (), extra_params: str = "", directives: str = ""
) -> str:
    """Return a module of one kernel, with a register ``%NAME`` for each pointer.

    Predefined: %tid, %lane, %warp, %block, %thread (over all blocks), and numbered registers %p
    (.pred), %h (.b16), %r, %f (32 bits), %rd, %fd (64 bits). ``directives``: ".maxntid 128".
    """
    params = [f".param .u64 param_{name}" for name in pointers]
    params += [extra_params] if extra_params else []
    lines = [
        ".version 7.8",
        ".target sm_80",
        ".address_size 64",
        f'.file 1 "/somewhere/csrc/{SOURCE}"',
        ".extern .shared .align 16 .b8 dynamic_smem[];",
        f".visible .entry {KERNEL}({', '.join(params)}) {directives}",
        "{",
        REGISTERS,
        *(f".reg .b64 %{name};" for name in pointers),
        PROLOGUE,
        *(f"ld.param.u64 %{name}, [param_{name}];" for name in pointers),
    ]
    for number, line in enumerate(body.splitlines(), 1):
        lines += [f".loc 1 {number} 1", line]
    return "\n".join([*lines, "ret;", "}"]) + "\n"


def line_of(body: str, marker: str) -> int:
    """Return the number of the only line that contains ``marker``."""
    lines = [i for i, line in enumerate(body.splitlines(), 1) if marker in line]
    assert len(lines) == 1, f"{marker!r} is in lines {lines}"
    return lines[0]


def run(
    body: str,
    *buffers: Buffer,
    grid: int | tuple[int, int, int] = 1,
    block: int | tuple[int, int, int] = 32,
    smem: int = 0,
    extra_params: str = "",
    extra_bytes: bytes = b"",
    directives: str = "",
    cluster: tuple[int, int, int] = (1, 1, 1),
    early: bool = False,
    **options: Any,
) -> dict[str, int]:
    """Run a program and return its counters; ``options`` are those of ``_C.Emulator``."""
    emulator = _C.Emulator(**{"workers": 1, **options})
    addresses = [buffer.array.ctypes.data for buffer in buffers]
    emulator.launch(
        entry(body, [buffer.name for buffer in buffers], extra_params, directives),
        KERNEL,
        grid=(grid, 1, 1) if isinstance(grid, int) else grid,
        block=(block, 1, 1) if isinstance(block, int) else block,
        params=struct.pack(f"<{len(addresses)}Q", *addresses) + extra_bytes,
        buffers=[(buffer.name, buffer.array, buffer.access) for buffer in buffers],
        smem_bytes=smem,
        cluster=cluster,
        early=early,
    )
    return emulator.counters()


def address(register: str, base: str, index: str, scale: int, offset: int = 0) -> str:
    """Return code for ``register = base + index * scale + offset``, with a 32-bit ``index``."""
    wide = f"mul.wide.u32 {register}, {index}, {scale}; add.s64 {register}, {register}, %{base};"
    return wide + (f" add.s64 {register}, {register}, {offset};" if offset else "")


def compute(code: str, count: int, dtype: Any, *inputs: Buffer, **launch: Any) -> np.ndarray:
    """Return the value of %d (of ``dtype``'s size) after ``code``, by thread of whole warps.

    ``code`` may read the inputs through %NAME, their addresses.
    """
    out = result("out", count, dtype)
    bits = 8 * out.array.dtype.itemsize
    body = "\n".join(
        [
            f".reg .b{bits} %d;",
            code,
            address("%rd63", "out", "%thread", bits // 8),
            f"st.global.b{bits} [%rd63], %d;",
        ]
    )
    block = launch.pop("block", min(count, MAX_THREADS))
    run(body, *inputs, out, grid=count // block, block=block, **launch)
    return out.array


def elementwise(code: str, dtype: Any, *operands: np.ndarray) -> np.ndarray:
    """Return %d = code(%a, %b, ...) for each element of the operands, one thread each."""
    count = len(operands[0])
    inputs, body, names = [], [], "abcefg"
    out = result("out", count, dtype)
    bits = 8 * out.array.dtype.itemsize
    body += [f"setp.ge.u32 %p63, %thread, {count};", "@%p63 ret;", f".reg .b{bits} %d;"]
    for name, operand in zip(names, operands, strict=False):
        assert len(operand) == count
        size = operand.dtype.itemsize
        inputs.append(read(f"in_{name}", operand))
        body += [
            f".reg .b{8 * size} %{name};",
            address("%rd63", f"in_{name}", "%thread", size),
            f"ld.global.b{8 * size} %{name}, [%rd63];",
        ]
    body += [code, address("%rd63", "out", "%thread", bits // 8)]
    body += [f"st.global.b{bits} [%rd63], %d;"]
    block = 256
    run("\n".join(body), *inputs, out, grid=-(-count // block), block=block)
    return out.array
