"""wgmma and stmatrix on the emulator: every layout against CuTe's."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.ptx_programs import address, every_order, read, result, run
from support.ptx_wgmma import (
    K,
    M,
    Product,
    k_major,
    mn_major,
)

pytestmark = pytest.mark.emulator


@pytest.mark.parametrize("n", range(8, 257, 8))
def test_wgmma_of_every_width(n: int) -> None:
    counters = Product(n, k_major(n, 3, 8192), k_major(M, 3)).check()
    assert (counters["wgmma"], counters["wgmma_macs"]) == (1, M * n * K)
    assert counters["wgmma_shared_bytes"] == (M + n) * K * 2


@pytest.mark.parametrize("bits", range(4))
@pytest.mark.parametrize("major", ["k-k", "k-mn", "mn-k", "mn-mn"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["f16", "bf16"])
def test_wgmma_reads_every_layout(bits: int, major: str, dtype: Any) -> None:
    of_a, of_b = ({"k": k_major, "mn": mn_major}[name] for name in major.split("-"))
    Product(128, of_b(128, bits, 16384), of_a(M, bits), dtype).check()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["f16", "bf16"])
@pytest.mark.parametrize("of_b", [k_major, mn_major])
def test_wgmma_takes_a_from_registers(of_b: Any, dtype: Any) -> None:
    Product(64, of_b(64, 3), None, dtype).check()


@pytest.mark.parametrize("in_registers", [False, True])
@pytest.mark.parametrize("signs", [(1, -1), (-1, 1), (-1, -1)])
def test_wgmma_scales_signs(signs: tuple[int, int], in_registers: bool) -> None:
    a = None if in_registers else k_major(M, 3)
    Product(24, k_major(24, 3, 8192), a, signs=signs).check()


def test_wgmma_scale_d_zero_ignores_registers() -> None:
    Product(32, k_major(32, 3, 8192), k_major(M, 3), keep=False).check()


@every_order
@pytest.mark.parametrize("keep", [True, False])
def test_wgmma_reads_k_slices(keep: bool, schedule: str, lazy: bool) -> None:
    """Four products in flight on the same accumulators, 32 bytes apart."""
    options = {"schedule": schedule, "lazy": lazy}
    product = Product(40, k_major(40, 3, 8192), k_major(M, 3), times=4, options=options)
    assert product.check()["wgmma"] == 4


@pytest.mark.parametrize("base", range(8))
def test_wgmma_patterns_start_anywhere(base: int) -> None:
    """The base offset says in which line of 128 bytes the swizzle's pattern starts."""
    Product(16, k_major(16, 3, 16384), k_major(M, 3, 128 * base, base)).check()


def test_product_of_random_numbers() -> None:
    rng = np.random.default_rng(1)
    product = Product(96, k_major(96, 3, 8192), k_major(M, 3), times=4)
    a, b, c = (rng.standard_normal(shape).astype(np.float16).astype(float)
               for shape in ((M, 64), (96, 64), (M, 96)))  # fmt: skip
    got, _ = product.run(a, b, c)
    bound = 65 * 2.0**-24 * (np.abs(a) @ np.abs(b.T) + np.abs(c))
    assert (np.abs(got - (a @ b.T + c)) <= bound).all()


@pytest.mark.parametrize("transposed", ["", ".trans"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_stmatrix_inverts_ldmatrix(count: int, transposed: str) -> None:
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
