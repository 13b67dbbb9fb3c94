"""Comparisons, predicates and moves of the emulator; instructions that it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from support.ptx_numbers import (
    INTEGERS,
    combinations,
    floats,
    integers,
)
from support.ptx_programs import elementwise, run

from vgg_cuda import _C

pytestmark = pytest.mark.emulator

COMPARE: dict[str, Callable[[float, float], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
AS_NUMBER = "setp.{0} %p1, %a, %b; selp.u32 %d, 1, 0, %p1;"


@pytest.mark.parametrize("t", ["u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("name", COMPARE)
def test_compare_integers(name: str, t: str) -> None:
    a, b = combinations(integers(t, 40), integers(t, 40))
    got = elementwise(AS_NUMBER.format(f"{name}.{t}"), np.uint32, a, b)
    np.testing.assert_array_equal(got, COMPARE[name](a, b))


@pytest.mark.parametrize("t", ["f16", "bf16", "f32", "f64"])
@pytest.mark.parametrize("unordered", ["", "u"], ids=["ordered", "unordered"])
@pytest.mark.parametrize("name", COMPARE)
def test_compare_floats(name: str, unordered: str, t: str) -> None:
    a, b = combinations(floats(t, 60), floats(t, 60))
    got = elementwise(AS_NUMBER.format(f"{name}{unordered}.{t}"), np.uint32, a, b)
    nan = np.isnan(a) | np.isnan(b)
    expected = COMPARE[name](a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_array_equal(got, np.where(nan, bool(unordered), expected))


@pytest.mark.parametrize("name", ["num", "nan"])
def test_compare_for_nan(name: str) -> None:
    a, b = combinations(floats("f32", 60), floats("f32", 60))
    got = elementwise(AS_NUMBER.format(f"{name}.f32"), np.uint32, a, b)
    np.testing.assert_array_equal(got, (np.isnan(a) | np.isnan(b)) == (name == "nan"))


@pytest.mark.parametrize("combine", ["and", "or", "xor"])
def test_compare_with_a_predicate(combine: str) -> None:
    """p = (a < b) op c, q = !(a < b) op c."""
    a, b, c = combinations(*[np.arange(4, dtype=np.int32)] * 3)
    code = f"""setp.ne.s32 %p0, %c, 0;
    setp.lt.{combine}.s32 %p1|%p2, %a, %b, %p0;
    selp.u32 %d, 1, 0, %p1;
    @%p2 add.u32 %d, %d, 2;
    setp.lt.{combine}.s32 %p3, %a, %b, !%p0;
    @%p3 add.u32 %d, %d, 4;"""
    got = elementwise(code, np.uint32, a, b, c)
    op = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[combine]
    first, second, negated = op(a < b, c != 0), op(a >= b, c != 0), op(a < b, c == 0)
    np.testing.assert_array_equal(got, 1 * first + 2 * second + 4 * negated)


@pytest.mark.parametrize("op", ["and", "or", "xor"])
def test_logic_of_predicates(op: str) -> None:
    a, b = combinations(*[np.arange(2, dtype=np.uint32)] * 2)
    code = f"""setp.ne.u32 %p1, %a, 0; setp.ne.u32 %p2, %b, 0;
    {op}.pred %p3, %p1, %p2; not.pred %p4, %p3; mov.pred %p5, %p4;
    selp.u32 %d, 1, 0, %p3; @%p5 add.u32 %d, %d, 2;"""
    expected = {"and": a & b, "or": a | b, "xor": a ^ b}[op]
    np.testing.assert_array_equal(elementwise(code, np.uint32, a, b), np.where(expected, 1, 2))


@pytest.mark.parametrize("t", ["b16", "b32", "b64"])
def test_selp(t: str) -> None:
    a, b = integers(t, 60), integers(t, 60)[::-1].copy()
    c = np.arange(60, dtype=np.uint32)
    code = f"and.b32 %r1, %c, 1; setp.eq.u32 %p1, %r1, 1; selp.{t} %d, %a, %b, %p1;"
    got = elementwise(code, INTEGERS[t], a, b, c)
    np.testing.assert_array_equal(got, np.where(c % 2 == 1, a, b))


def test_mov_packs_and_unpacks_registers() -> None:
    a = integers("u64", 100)
    swapped = elementwise("mov.b64 {%r1, %r2}, %a; mov.b64 %d, {%r2, %r1};", np.uint64, a)
    np.testing.assert_array_equal(swapped, (a << np.uint64(32)) | (a >> np.uint64(32)))
    b = integers("u32", 100)
    swapped = elementwise("mov.b32 {%h1, %h2}, %a; mov.b32 %d, {%h2, %h1};", np.uint32, b)
    np.testing.assert_array_equal(swapped, (b << np.uint32(16)) | (b >> np.uint32(16)))
    got = elementwise(
        "mov.b64 {%h1, %h2, %h3, %h4}, %a; mov.b64 %d, {%h4, %h1, %h2, %h3};", np.uint64, a
    )
    np.testing.assert_array_equal(got.view(np.uint16).reshape(-1, 4),
                                  np.roll(a.view(np.uint16).reshape(-1, 4), 1, axis=1))  # fmt: skip


def test_constants_are_read() -> None:
    """Decimal, hexadecimal, binary, negative, and floats by their bits."""
    one = np.ones(1, np.uint32)
    assert elementwise("mov.u32 %d, 0xffffffff;", np.uint32, one)[0] == 2**32 - 1
    assert elementwise("mov.u32 %d, 0b101;", np.uint32, one)[0] == 5
    assert elementwise("mov.s32 %d, -7;", np.int32, one)[0] == -7
    assert elementwise("mov.f32 %d, 0f40490FDB;", np.float32, one)[0] == np.float32(math.pi)
    assert elementwise("mov.f64 %d, 0d400921FB54442D18;", np.float64, one)[0] == math.pi
    assert elementwise("mov.u64 %d, 0x123456789ABCDEF0;", np.uint64, one)[0] == 0x123456789ABCDEF0


@pytest.mark.parametrize(
    "instruction",
    [
        "frobnicate.u32 %r1, %r2;",
        "add.cc.u32 %r1, %r2, %r3;",
        "add.rn.sat.rz.f32 %f1, %f2, %f3;",
        "cvt.rn.e4m3x2.f32 %h1, %f1, %f2;",
        "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2}, {%r3}, "
        "{%f1,%f2,%f3,%f4};",
        "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.f16.f16 {%f1,%f2,%f3,%f4}, %rd1, %rd2, %r1;",
        "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%rd1], [%r2], 16;",
        "shfl.down.b32 %r1, %r2, 1, 31;",
        "ldmatrix.sync.aligned.m16n16.x1.shared.b8 {%r1}, [%r2];",
        "ld.global.v8.f32 {%f1,%f2,%f3,%f4,%f5,%f6,%f7,%f8}, [%rd1];",
        "atom.global.add.noftz.f16x2 %r1, [%rd1], %r2;",
        "txq.width.b32 %r1, [%rd1];",
    ],
    ids=lambda instruction: instruction.split()[0],
)
def test_unknown_instruction_is_named(instruction: str) -> None:
    opcode = instruction.split()[0].rstrip(";")
    body = f"mov.u32 %r2, 0;\n@!%p1 bra SKIP;\n{instruction}\nSKIP:"
    with pytest.raises(_C.EmulatorError) as error:
        run(body)
    message = str(error.value)
    assert "kernel example" in message
    assert f"`{opcode}`" in message
    assert "kernels/example.cuh:3" in message


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("add.u32 %r1, %r2;", "operands"),
        ("add.u32 %r1, %r2, %nowhere;", "%nowhere"),
        ("add.u32 %r1, %rd2, %r3;", "expected an operand of type w"),
        ("bra NOWHERE;", "NOWHERE"),
    ],
    ids=["operands", "register", "type", "label"],
)
def test_malformed_instruction_is_refused(instruction: str, reason: str) -> None:
    with pytest.raises(_C.EmulatorError, match=reason):
        run(instruction)


def test_text_without_ptx_is_refused() -> None:
    emulator = _C.Emulator()
    launch = {"grid": (1, 1, 1), "block": (32, 1, 1), "params": b"", "buffers": []}
    with pytest.raises(_C.EmulatorError, match="PTX"):
        emulator.launch("int main() {}", "main", **launch)
    with pytest.raises(_C.EmulatorError, match="unknown kernel other"):
        emulator.launch(".version 7.8\n.target sm_80\n", "other", **launch)
