"""Memory accesses and their counters on the emulator."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from support.ptx_programs import (
    address,
    compute,
    read,
    result,
    run,
)

pytestmark = pytest.mark.emulator

LANE = np.arange(32)


def test_indices_in_three_dimensions() -> None:
    grid, block = (2, 3, 2), (4, 5, 3)
    threads, blocks = 60, 12
    out = result("out", (blocks * threads, 12))
    special = [f"%{name}.{axis}" for name in ("tid", "ctaid", "ntid", "nctaid") for axis in "xyz"]
    body = """mad.lo.u32 %r1, %tid.z, 5, %tid.y; mad.lo.u32 %r1, %r1, 4, %tid.x;
    mad.lo.u32 %r2, %ctaid.z, 3, %ctaid.y; mad.lo.u32 %r2, %r2, 2, %ctaid.x;
    mad.lo.u32 %r1, %r2, 60, %r1;
    """ + address("%rd1", "out", "%r1", 48)
    body += "".join(f"\nst.global.u32 [%rd1+{4 * i}], {name};" for i, name in enumerate(special))
    run(body, out, grid=grid, block=block)
    expected = [
        [x, y, z, bx, by, bz, *block, *grid]
        for bz in range(2) for by in range(3) for bx in range(2)
        for z in range(3) for y in range(5) for x in range(4)
    ]  # fmt: skip
    np.testing.assert_array_equal(out.array, expected)


def test_lane_registers() -> None:
    bit = 1 << LANE.astype(np.uint64)
    expected = {"laneid": LANE, "lanemask_eq": bit, "lanemask_lt": bit - 1,
                "lanemask_le": 2 * bit - 1, "lanemask_gt": 2**32 - 2 * bit,
                "lanemask_ge": 2**32 - bit}  # fmt: skip
    for name, values in expected.items():
        got = compute(f"mov.u32 %d, %{name};", 64, np.uint32)
        np.testing.assert_array_equal(got, np.tile(values, 2), err_msg=name)


WIDTHS = [(t, count) for t in ("u8", "u16", "u32", "u64") for count in (1, 2, 4)
          if int(t[1:]) * count <= 128]  # fmt: skip


@pytest.mark.parametrize(("t", "count"), WIDTHS, ids=lambda value: str(value))
@pytest.mark.parametrize("through", ["registers", "shared"])
def test_load_and_store_widths(t: str, count: int, through: str) -> None:
    bits = int(t[1:])
    size = bits // 8 * count
    x = np.random.default_rng(0).integers(0, 256, 64 * size, np.uint8)
    out = result("out", 64 * size, np.uint8)
    register = {8: "h", 16: "h", 32: "r", 64: "rd"}[bits]
    values = ", ".join(f"%{register}{20 + i}" for i in range(count))
    value, vector = (f"{{{values}}}", f".v{count}") if count > 1 else (values, "")
    body = address("%rd1", "x", "%thread", size) + address("%rd2", "out", "%thread", size)
    body += f"\nld.global{vector}.{t} {value}, [%rd1];"
    if through == "shared":
        body += f""".shared .align 16 .b8 smem[{64 * size}];
        mov.u32 %r1, smem; mad.lo.u32 %r1, %tid, {size}, %r1;
        st.shared{vector}.{t} [%r1], {value};
        ld.shared{vector}.{t} {value}, [%r1];"""
    body += f"\nst.global{vector}.{t} [%rd2], {value};"
    counters = run(body, read("x", x), out, block=64)
    np.testing.assert_array_equal(out.array, x)
    assert counters["load_bytes"] == counters["store_bytes"] == 64 * size


@pytest.mark.parametrize(("t", "to"), [("s8", "s16"), ("s8", "s32"), ("s8", "s64"), ("s16", "s32"),
                                       ("s16", "s64"), ("s32", "s64")])  # fmt: skip
def test_signed_loads_extend_the_sign(t: str, to: str) -> None:
    dtype = np.dtype(f"i{int(t[1:]) // 8}")
    x = np.arange(-32, 32, dtype=dtype) * 3
    got = compute(
        address("%rd1", "x", "%thread", dtype.itemsize) + f"ld.global.{t} %d, [%rd1];",
        64, f"i{int(to[1:]) // 8}", read("x", x),
    )  # fmt: skip
    np.testing.assert_array_equal(got, x)


def test_offset_may_be_negative() -> None:
    x = np.arange(40, dtype=np.uint32)
    code = address("%rd1", "x", "%thread", 4, 16) + "ld.global.nc.u32 %d, [%rd1+-12];"
    np.testing.assert_array_equal(compute(code, 32, np.uint32, read("x", x)), np.arange(1, 33))


def test_generic_addresses_of_shared_memory() -> None:
    code = """.shared .align 4 .b8 smem[128];
    mov.u32 %r1, smem; mad.lo.u32 %r1, %tid, 4, %r1;
    cvt.u64.u32 %rd1, %r1; cvta.shared.u64 %rd2, %rd1;
    st.u32 [%rd2], %tid;
    cvta.to.shared.u64 %rd3, %rd2; cvt.u32.u64 %r2, %rd3;
    ld.shared.u32 %d, [%r2];"""
    np.testing.assert_array_equal(compute(code, 32, np.uint32), LANE)


def test_generic_addresses_of_global_memory() -> None:
    x = read("x", np.arange(32, dtype=np.uint32))
    code = "cvta.global.u64 %rd5, %x; cvta.to.global.u64 %rd5, %rd5;"
    code += "mul.wide.u32 %rd1, %tid, 4; add.s64 %rd1, %rd1, %rd5; ld.u32 %d, [%rd1];"
    np.testing.assert_array_equal(compute(code, 32, np.uint32, x), LANE)


def test_dynamic_shared_memory_lies_behind_the_static() -> None:
    code = """.shared .align 4 .b8 static_smem[20];
    mov.u32 %r1, dynamic_smem; mov.u32 %r2, static_smem; mad.lo.u32 %r3, %tid, 4, %r1;
    sub.u32 %r4, %r1, %r2;
    st.shared.u32 [%r3], %r4;
    ld.shared.u32 %d, [%r3];"""
    np.testing.assert_array_equal(compute(code, 32, np.uint32, smem=128), np.full(32, 32))


def test_struct_parameters() -> None:
    """A struct by value, read in parts and through a register."""
    values = struct.pack("<iihhBxxxd", -5, 7, -3, 9, 200, 2.5)
    out = result("out", 6, np.float64)
    body = """ld.param.s32 %r1, [params]; ld.param.v2.u32 {%r2, %r3}, [params];
    ld.param.s16 %r4, [params+8]; ld.param.u8 %r5, [params+12]; ld.param.f64 %fd5, [params+16];
    mov.u64 %rd1, params; ld.param.u32 %r6, [%rd1+4];
    setp.ne.u32 %p1, %tid, 0; @%p1 ret;
    cvt.rn.f64.s32 %fd1, %r1; st.global.f64 [%out], %fd1;
    cvt.rn.f64.s32 %fd1, %r3; st.global.f64 [%out+8], %fd1;
    cvt.rn.f64.s32 %fd1, %r4; st.global.f64 [%out+16], %fd1;
    cvt.rn.f64.s32 %fd1, %r5; st.global.f64 [%out+24], %fd1;
    st.global.f64 [%out+32], %fd5;
    cvt.rn.f64.s32 %fd1, %r6; st.global.f64 [%out+40], %fd1;"""
    run(body, out, extra_params=".param .align 8 .b8 params[24]", extra_bytes=values)
    np.testing.assert_array_equal(out.array, [-5, 7, -3, 200, 2.5, 7])


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 32, 33])
def test_counter_of_bank_conflicts(stride: int) -> None:
    """Words 32 apart share a bank; threads that read the same word share the access."""
    code = f""".shared .align 16 .b8 smem[{4 * 32 * 33 + 4}];
    mov.u32 %r1, smem; mad.lo.u32 %r1, %tid, {4 * stride}, %r1;
    st.shared.u32 [%r1], %tid;
    ld.shared.u32 %d, [%r1];"""
    out = result("out", 32)
    body = (
        f".reg .b32 %d;\n{code}\n" + address("%rd1", "out", "%tid", 4) + "st.global.u32 [%rd1], %d;"
    )
    counters = run(body, out)
    banks = np.bincount(LANE * stride % 32)
    assert counters["shared_ideal"] == 2
    assert counters["shared_wavefronts"] == 2 * banks.max()


@pytest.mark.parametrize(("size", "sectors"), [(4, 4), (8, 8), (16, 16), (64, 32)])
def test_counter_of_sectors(size: int, sectors: int) -> None:
    x = np.zeros(32 * size, np.uint8)
    body = address("%rd1", "x", "%tid", size) + "ld.global.u32 %r1, [%rd1];"
    counters = run(body, read("x", x))
    assert (counters["load_bytes"], counters["load_sectors"]) == (128, sectors)


def test_counters_of_products_and_barriers() -> None:
    body = "fma.rn.f32 %f1, %f2, %f3, %f4;\nbar.sync 0;\nbar.sync 0;\n"
    body += "shfl.sync.bfly.b32 %r1, %tid, 1, 31, -1;"
    counters = run(body, grid=3, block=64)
    counted = (counters["fma"], counters["barriers"], counters["shuffles"])
    assert counted == (3 * 64, 6, 6)
