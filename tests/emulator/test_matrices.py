"""mma and ldmatrix of the emulator, entry by entry, against CuTe's layouts.

The definitions are in layouts/cute_sm80.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.cute_layouts import load, table
from support.ptx_programs import address, compute, read, result, run

pytestmark = pytest.mark.emulator

TABLES = load("cute_sm80.json")
MMA: dict[str, dict[str, Any]] = TABLES["mma"]
LDMATRIX: dict[str, dict[str, Any]] = TABLES["ldmatrix"]


def test_layout_evaluator_follows_cute() -> None:
    """The examples of CuTe's own documentation (01_layout.md): (4,(2,2)):(2,(1,8))."""
    got = table({"shape": [4, [2, 2]], "stride": [2, [1, 8]]})
    np.testing.assert_array_equal(
        got, [[0, 1, 8, 9], [2, 3, 10, 11], [4, 5, 12, 13], [6, 7, 14, 15]]
    )


@pytest.mark.parametrize("name", MMA)
def test_tables_hold_every_element_once(name: str) -> None:
    m, n, k = MMA[name]["mnk"]
    for operand, size in (("A", m * k), ("B", n * k), ("C", m * n)):
        found = np.sort(table(MMA[name][operand]).ravel())
        np.testing.assert_array_equal(found, np.arange(size), err_msg=operand)


# ---- mma ----


def fragments(atom: dict[str, Any], operand: str, matrices: np.ndarray) -> np.ndarray:
    """Matrices [count, rows, columns] as registers [count, 32, registers]."""
    flat = matrices.transpose(0, 2, 1).reshape(len(matrices), -1)  # index = row + rows * column
    held = flat[:, table(atom[operand])]
    dtype = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "tf32": np.float32}[
        atom["type"]
    ]
    if operand == "C":
        dtype = np.float32
    return np.ascontiguousarray(held.astype(dtype)).view(np.uint32)


def multiply(atom: dict[str, Any], a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a [count, M, K] times b [count, K, N] plus c by the instruction, one block for each."""
    m, n, _ = atom["mnk"]
    held = {
        "a": fragments(atom, "A", a),
        "b": fragments(atom, "B", b.transpose(0, 2, 1)),
        "c": fragments(atom, "C", c),
    }
    out = result("out", 128 * len(a), np.float32)
    body, names = [], {}
    for base, (name, registers) in zip((10, 20, 30), held.items(), strict=True):
        count = registers.shape[2]
        letter = "f" if name == "c" else "r"
        names[name] = [f"%{letter}{base + i}" for i in range(count)]
        body.append(address("%rd1", name, "%thread", 4 * count))
        body += [
            f"ld.global.b32 {register}, [%rd1+{4 * i}];" for i, register in enumerate(names[name])
        ]
    d = [f"%f{40 + i}" for i in range(4)]
    vectors = (", ".join(operand) for operand in (d, *names.values()))
    body.append(atom["ptx"] + " " + ", ".join(f"{{{vector}}}" for vector in vectors) + ";")
    body.append(address("%rd1", "out", "%thread", 16))
    body.append(f"st.global.v4.f32 [%rd1], {{{', '.join(d)}}};")
    buffers = [read(name, registers) for name, registers in held.items()]
    counters = run("\n".join(body), *buffers, out, grid=len(a))
    k = atom["mnk"][2]
    assert (counters["mma"], counters["mma_macs"]) == (len(a), m * n * k * len(a))
    flat = np.empty((len(a), m * n), np.float32)
    flat[:, table(atom["C"])] = out.array.reshape(len(a), 32, 4)
    return flat.reshape(len(a), n, m).transpose(0, 2, 1)


def one_hots(*shape: int) -> np.ndarray:
    size = int(np.prod(shape))
    return np.eye(size).reshape(size, *shape)


def mma_inputs(atom: dict[str, Any]) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """One-hot A, B and C, the others holding small integers: exact."""
    m, n, k = atom["mnk"]
    rng = np.random.default_rng(0)

    def small(count: int, *shape: int) -> np.ndarray:
        return np.broadcast_to(rng.permutation(np.arange(np.prod(shape)) - 20.0).reshape(shape),
                               (count, *shape))  # fmt: skip

    yield "A", one_hots(m, k), small(m * k, k, n), small(m * k, m, n)
    yield "B", small(k * n, m, k), one_hots(k, n), small(k * n, m, n)
    yield "C", np.zeros((m * n, m, k)), np.zeros((m * n, k, n)), one_hots(m, n)


@pytest.mark.parametrize("name", MMA)
def test_mma_elements_follow_cute_layouts(name: str) -> None:
    atom = MMA[name]
    for operand, a, b, c in mma_inputs(atom):
        np.testing.assert_array_equal(multiply(atom, a, b, c), a @ b + c, err_msg=operand)


@pytest.mark.parametrize("name", MMA)
def test_product_of_random_numbers(name: str) -> None:
    atom = MMA[name]
    m, n, k = atom["mnk"]
    rng = np.random.default_rng(1)
    dtype = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}.get(atom["type"], np.float16)
    a = rng.standard_normal((50, m, k)).astype(dtype).astype(np.float64)
    b = rng.standard_normal((50, k, n)).astype(dtype).astype(np.float64)
    c = rng.standard_normal((50, m, n)).astype(np.float32).astype(np.float64)
    bound = (k + 1) * 2.0**-24 * (np.abs(a) @ np.abs(b) + np.abs(c))
    assert (np.abs(multiply(atom, a, b, c) - (a @ b + c)) <= bound).all()


def test_mma_sums_are_float32() -> None:
    """2048 + 1 is no float16, 65504 * 16 * 2 overflows it."""
    atom = MMA["SM80_16x8x16_F32F16F16F32_TN"]
    a = np.full((1, 16, 16), 65504.0)
    b = np.full((1, 16, 8), 2.0)
    c = np.full((1, 16, 8), 1.0)
    got = multiply(atom, a, b, c)
    np.testing.assert_array_equal(got, np.full((1, 16, 8), 65504 * 32 + 1))


def test_mma_passes_infinity_and_nan() -> None:
    atom = MMA["SM80_16x8x16_F32F16F16F32_TN"]
    a = np.zeros((1, 16, 16))
    a[0, 3, 5], a[0, 4, 5], a[0, 5, 5] = np.inf, np.nan, 1
    b = np.ones((1, 16, 8))
    got = multiply(atom, a, b, np.zeros((1, 16, 8)))[0]
    assert np.isposinf(got[3]).all()
    assert np.isnan(got[4]).all()
    np.testing.assert_array_equal(np.delete(got, [3, 4, 5], axis=0), np.zeros((13, 8)))


def test_mma_tf32_ignores_low_bits() -> None:
    atom = MMA["SM80_16x8x8_F32TF32TF32F32_TN"]
    a = np.full((1, 16, 8), 1 + 2**-10 + 2**-11)
    got = multiply(atom, a, np.ones((1, 8, 8)), np.zeros((1, 16, 8)))
    np.testing.assert_array_equal(got, np.full((1, 16, 8), 8 * (1 + 2**-10)))


# ---- ldmatrix ----

ROWS = 40  # of 16 bytes in shared memory; more than a warp addresses
ROW_BYTES = 48  # from one to the next, so that a wrong stride would show


@pytest.mark.parametrize("name", LDMATRIX)
def test_ldmatrix_elements_follow_cute_layouts(name: str) -> None:
    atom = LDMATRIX[name]
    registers = atom["registers"]
    rows = np.random.default_rng(0).permutation(ROWS)[:32]  # which row each lane addresses
    addresses = (rows * ROW_BYTES).astype(np.uint32)
    addresses[8 * registers :] = 1 << 30  # of lanes that address no row
    memory = np.arange(ROWS * ROW_BYTES // 2, dtype=np.uint16)

    names = [f"%r{10 + i}" for i in range(registers)]
    body = [
        f".shared .align 16 .b8 smem[{ROWS * ROW_BYTES}];",
        "mov.u32 %r1, smem; mov.u32 %r2, %tid;",
        f"FILL: setp.ge.u32 %p1, %r2, {len(memory) // 2}; @%p1 bra FILLED;",
        address("%rd1", "memory", "%r2", 4),
        "ld.global.u32 %r3, [%rd1]; mad.lo.u32 %r4, %r2, 4, %r1; st.shared.u32 [%r4], %r3;",
        "add.u32 %r2, %r2, 32; bra FILL;",
        "FILLED: bar.sync 0;",
        address("%rd1", "addresses", "%tid", 4)
        + "ld.global.u32 %r5, [%rd1]; add.u32 %r5, %r5, %r1;",
        f"{atom['ptx']} {{{', '.join(names)}}}, [%r5];",
        address("%rd1", "out", "%tid", 4 * registers),
        *(f"st.global.u32 [%rd1+{4 * i}], {name};" for i, name in enumerate(names)),
    ]
    out = result("out", (32, registers), np.uint32)
    run("\n".join(body), read("memory", memory), read("addresses", addresses), out)

    # Through the bits that CuTe numbers, 16 at a time, as one row after the other.
    source, destination = table(atom["source"]), table(atom["destination"])[:, ::16]
    place = {}
    for lane in reversed(range(32)):  # several may stand for the same row
        for column in range(8):
            place[source[lane, 16 * column]] = (
                rows[lane % (8 * registers)] * ROW_BYTES // 2 + column
            )
    expected = np.vectorize(lambda bit: memory[place[bit]])(destination)
    np.testing.assert_array_equal(out.array.view(np.uint16).reshape(32, -1), expected)


def test_movmatrix_transposes() -> None:
    x = np.arange(64, dtype=np.uint16)
    code = (
        address("%rd1", "x", "%tid", 4)
        + """ld.global.u32 %r1, [%rd1];
    movmatrix.sync.aligned.m8n8.trans.b16 %d, %r1;"""
    )
    got = compute(code, 32, np.uint32, read("x", x)).view(np.uint16)
    np.testing.assert_array_equal(got.reshape(8, 8), x.reshape(8, 8).T)
