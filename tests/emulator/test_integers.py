"""Integer arithmetic of the emulator, compared with Python's integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from support.ptx_numbers import (
    INTEGERS,
    combinations,
    integers,
    unsigned,
    wrapped,
)
from support.ptx_programs import elementwise

pytestmark = pytest.mark.emulator


def quotient(a: int, b: int) -> int:
    """Divide and round towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def bfi(a: int, b: int, position: int, length: int) -> int:
    # PTX ISA, 9.7.1.21
    position, length = position & 255, length & 255
    for i in range(length):
        if position + i < 32:
            b = (b & ~(1 << position + i)) | (a >> i & 1) << position + i
    return b


def bfe(a: int, position: int, length: int, bits: int, is_signed: bool) -> int:
    # PTX ISA, 9.7.1.20
    position, length = position & 255, length & 255
    a = unsigned(a, bits)
    sign_bit = 0
    if is_signed and length > 0:
        sign_bit = a >> min(position + length - 1, bits - 1) & 1
    result = 0
    for i in range(bits):
        inside = i < length and position + i < bits
        result |= (a >> position + i & 1 if inside else sign_bit) << i
    return result


def prmt(a: int, b: int, selector: int) -> int:
    table = a.to_bytes(4, "little") + b.to_bytes(4, "little")
    result = 0
    for i in range(4):
        select = selector >> 4 * i & 15
        byte = table[select & 7]
        if select & 8:
            byte = 0xFF if byte & 0x80 else 0
        result |= byte << 8 * i
    return result


def lop3(a: int, b: int, c: int, table: int) -> int:
    return sum(
        (table >> (4 * (a >> i & 1) + 2 * (b >> i & 1) + (c >> i & 1)) & 1) << i for i in range(32)
    )


def funnel(low: int, high: int, by: int, left: bool, clamp: bool) -> int:
    by = min(by, 32) if clamp else by & 31
    whole = high << 32 | low
    return whole << by >> 32 if left else whole >> by


def highest_bit(a: int) -> int:
    return (~a if a < 0 else a).bit_length() - 1


@dataclass(frozen=True)
class Operation:
    """An instruction: ``code`` computes %d from %a, %b, %c; ``types`` lists operands, then %d."""

    code: str
    types: str
    expected: Callable[..., int]

    @property
    def id(self) -> str:
        opcode, *operands = self.code.rstrip(";").replace(",", "").split()
        return "-".join([opcode, *(word for word in operands if word[0] != "%")])


def integer_operations() -> list[Operation]:
    operations = []

    def add(opcode: str, types: str, expected: Callable[..., int]) -> None:
        count = len(types.split())
        operands = ", ".join(["%d", *("%" + name for name in "abc"[: count - 1])])
        operations.append(Operation(f"{opcode} {operands};", types, expected))

    for t in ("u16", "s16", "u32", "s32", "u64", "s64"):
        bits, sign = int(t[1:]), t[0]
        add(f"add.{t}", f"{t} {t} {t}", lambda a, b: a + b)
        add(f"sub.{t}", f"{t} {t} {t}", lambda a, b: a - b)
        add(f"mul.lo.{t}", f"{t} {t} {t}", lambda a, b: a * b)
        add(f"mul.hi.{t}", f"{t} {t} {t}", lambda a, b, n=bits: a * b >> n)
        add(f"mad.lo.{t}", f"{t} {t} {t} {t}", lambda a, b, c: a * b + c)
        add(f"mad.hi.{t}", f"{t} {t} {t} {t}", lambda a, b, c, n=bits: (a * b >> n) + c)
        if bits < 64:
            wide = f"{sign}{2 * bits}"
            add(f"mul.wide.{t}", f"{t} {t} {wide}", lambda a, b: a * b)
            add(f"mad.wide.{t}", f"{t} {t} {wide} {wide}", lambda a, b, c: a * b + c)
        # Division by zero is undefined and not tested.
        add(f"div.{t}", f"{t} {t} {t}", lambda a, b: quotient(a, b) if b else None)
        add(f"rem.{t}", f"{t} {t} {t}", lambda a, b: a - b * quotient(a, b) if b else None)
        add(f"min.{t}", f"{t} {t} {t}", min)
        add(f"max.{t}", f"{t} {t} {t}", max)
        add(f"shr.{t}", f"{t} u32 {t}", lambda a, b: a >> min(b, 64))
        if sign == "s":
            add(f"neg.{t}", f"{t} {t}", lambda a: -a)
            add(f"abs.{t}", f"{t} {t}", abs)
    for t in ("b16", "b32", "b64"):
        add(f"and.{t}", f"{t} {t} {t}", lambda a, b: a & b)
        add(f"or.{t}", f"{t} {t} {t}", lambda a, b: a | b)
        add(f"xor.{t}", f"{t} {t} {t}", lambda a, b: a ^ b)
        add(f"not.{t}", f"{t} {t}", lambda a: ~a)
        add(f"shl.{t}", f"{t} u32 {t}", lambda a, b: a << min(b, 64))
        add(f"shr.{t}", f"{t} u32 {t}", lambda a, b: a >> min(b, 64))
    for left, clamp in product((True, False), repeat=2):
        add(
            f"shf.{'l' if left else 'r'}.{'clamp' if clamp else 'wrap'}.b32",
            "b32 b32 u32 b32",
            lambda a, b, c, left=left, clamp=clamp: funnel(a, b, c, left, clamp),
        )
    for t in ("u32", "s32", "u64", "s64"):
        bits, sign = int(t[1:]), t[0] == "s"
        add(f"bfe.{t}", f"{t} u32 u32 {t}", lambda a, b, c, n=bits, s=sign: bfe(a, b, c, n, s))
    add("prmt.b32", "b32 b32 b32 b32", prmt)
    add("popc.b32", "b32 u32", int.bit_count)
    add("popc.b64", "b64 u32", int.bit_count)
    add("clz.b32", "b32 u32", lambda a: 32 - a.bit_length())
    add("clz.b64", "b64 u32", lambda a: 64 - a.bit_length())
    add("brev.b32", "b32 b32", lambda a: int(f"{a:032b}"[::-1], 2))
    add("bfind.u32", "u32 u32", highest_bit)
    add("bfind.s32", "s32 u32", highest_bit)
    add("bfind.shiftamt.u32", "u32 u32", lambda a: 32 - a.bit_length() if a else 2**32 - 1)
    add("add.sat.s32", "s32 s32 s32", lambda a, b: min(max(a + b, -(2**31)), 2**31 - 1))
    operations += [
        Operation(
            f"lop3.b32 %d, %a, %b, %c, {table};",
            "b32 b32 b32 b32",
            lambda a, b, c, table=table: lop3(a, b, c, table),
        )
        for table in (0x00, 0x80, 0xFE, 0x96, 0xE8, 0xCA, 0x1B, 0xFF)
    ]
    places = ((0, 0), (0, 32), (4, 8), (28, 8), (31, 1), (32, 4), (0, 200), (255, 1))
    operations += [
        Operation(
            f"bfi.b32 %d, %a, %b, {position}, {length};",
            "b32 b32 b32",
            lambda a, b, p=position, n=length: bfi(a, b, p, n),
        )
        for position, length in places
    ]
    return operations


@pytest.mark.parametrize("operation", integer_operations(), ids=lambda operation: operation.id)
def test_integers(operation: Operation) -> None:
    *types, to = operation.types.split()
    operands = combinations(*(integers(t, {1: 400, 2: 40, 3: 20}[len(types)]) for t in types))
    got = elementwise(operation.code, INTEGERS[to], *operands)
    for row in zip(*(column.tolist() for column in (*operands, got)), strict=True):
        expected = operation.expected(*row[:-1])
        if expected is not None:
            assert row[-1] == wrapped(expected, INTEGERS[to]), row[:-1]


def test_guard_keeps_registers_of_other_threads() -> None:
    a = np.arange(100, dtype=np.uint32)
    code = (
        "mov.u32 %d, 7; setp.gt.u32 %p1, %a, 50; @%p1 add.u32 %d, %a, 1; @!%p1 add.u32 %d, %d, 2;"
    )
    np.testing.assert_array_equal(elementwise(code, np.uint32, a), np.where(a > 50, a + 1, 9))


@pytest.mark.parametrize(
    ("a", "b"), list(product((1, 2, 4, 8), repeat=2)), ids=lambda size: f"{8 * size}"
)
@pytest.mark.parametrize("signs", ["uu", "us", "su", "ss"])
def test_integer_conversions(a: int, b: int, signs: str) -> None:
    """Convert between 8, 16, 32 and 64 bits; wider registers hold 8-bit values."""
    source = integers("u64", 200) if a == 8 else integers(f"u{max(16, 8 * a)}", 200)
    to, frm = f"{signs[1]}{8 * b}", f"{signs[0]}{8 * a}"
    dtype = np.dtype(f"u{max(b, 2)}")
    got = elementwise(f"cvt.{to}.{frm} %d, %a;", dtype, source)
    kinds = {"u": "u", "s": "i"}
    for value, result in zip(source.tolist(), got.tolist(), strict=True):
        narrow = wrapped(value, np.dtype(f"{kinds[signs[0]]}{a}"))
        # In a wider register the value is extended by the type's sign.
        expected = wrapped(narrow, np.dtype(f"{kinds[signs[1]]}{b}"))
        assert result == unsigned(expected, 8 * dtype.itemsize), (value, to, frm)
