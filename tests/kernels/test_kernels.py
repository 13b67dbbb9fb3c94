"""Every compiled kernel, executed on the CPU by the emulator, against float64."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from support.kernel_cases import (
    BlockCase,
    Case,
    ConvCase,
    LinearCase,
    SimpleCase,
    all_cases,
    dtypes,
    few_sms_cases,
    precisions,
    vgg_cases,
)
from support.kernel_reference import (
    accumulate,
    assert_same_bits,
    assert_within,
    draw,
    factors,
    im2col,
    numpy_dtype,
    rounded,
    softmax32,
)
from support.ptx_programs import ORDERS, fast_and_other_orders

from vgg_cuda import _C, ops, reference
from vgg_cuda.backends import get_backend
from vgg_cuda.backends.emulator import EmulatorBackend
from vgg_cuda.backends.operations import Planner
from vgg_cuda.backends.options import SCHEDULES

pytestmark = pytest.mark.emulator

CASES = all_cases()
# No kernel is special to VGG's widths, so that make test runs them in float16 only. The dense layer
# of float32 stays: no other case runs its kernel.
SLOW = {
    case
    for case in vgg_cases()
    if case.dtype != "float16" and (case.op == "conv3x3" or case.dtype == "bfloat16")
}
CASES_BY_SPEED = [
    pytest.param(case, marks=[pytest.mark.slow] if case in SLOW else []) for case in CASES
]
ON = {"device": "emulator"}


def on_host(x: np.ndarray) -> np.ndarray:
    return x


@pytest.mark.parametrize("case", CASES_BY_SPEED, ids=lambda case: f"{case.op}-{case.id}")
def test_against_float64(case: Case) -> None:
    y, stats = case.run(on_host, **ON, arch=case.arch, return_stats=True)
    assert y.dtype == numpy_dtype(case.dtype)
    plan = case.plan().as_dict()
    assert stats["plan"] == plan
    assert stats["kernel"] == plan["launches"][0]["kernel"]
    same = case.same(plan["tiling"])
    assert_within(y, case.expected(), same, case.id)
    if case.op not in ("softmax", "avgpool"):
        assert_same_bits(y, same, case.id)
    counters = stats["counters"]
    assert counters["bank_conflicts"] == 0
    if counters["mma"] or counters["wgmma"]:
        assert counters["mma_macs"] + counters["wgmma_macs"] >= counters["useful_macs"] > 0
    if "_halo_" in stats["kernel"] or "_swap_ab_" in stats["kernel"]:  # as planned
        assert counters["wgmma_macs"] == plan["issued_macs"] >= counters["useful_macs"] > 0
        loaded = counters["bulk_load_bytes"] + counters["bulk_zero_bytes"]
        assert loaded == plan["load_bytes"] - plan["workspace_bytes"]
        assert counters["bulk_store_bytes"] + counters["store_bytes"] == plan["store_bytes"]


ROUNDED = [
    ("sm80/gemm_f16", ConvCase(1, 4, 4, 16, 16, "float16")),
    ("sm80/gemm_f16", LinearCase(2, 64, 64, "float16")),
    ("sm80/gemm_tf32", ConvCase(1, 4, 4, 16, 16, "tf32")),
    ("sm80/gemm_tf32", LinearCase(2, 64, 64, "tf32")),
    ("smxx/convert", SimpleCase("convert", (3, 5, 7), "float16", "float32")),
    ("smxx/convert", SimpleCase("convert", (3, 5, 7), "bfloat16", "float32")),
]


@pytest.mark.parametrize(("module", "case"), ROUNDED, ids=str)
def test_truncation_instead_of_rounding_is_caught(
    module: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.dtype not in precisions():
        pytest.skip(f"no kernels of {case.dtype}")
    rounding = {"float16": "rn.f16", "bfloat16": "rn.bf16", "tf32": "rna.tf32"}[case.dtype]
    kept = {"bfloat16": "0xffff0000"}.get(case.dtype, "0xffffe000")
    text, changed = re.subn(
        rf"cvt\.{re.escape(rounding)}\.f32\s+(%\w+),\s*(%\w+);",
        rf"and.b32 \2, \2, {kept}; cvt.{rounding}.f32 \1, \2;",
        _C.emulator_modules()[module],
    )
    assert changed
    monkeypatch.setattr(
        EmulatorBackend, "executor", lambda self, early: _C.Emulator(modules={module: text})
    )
    y = case.run(on_host, **ON)
    with pytest.raises(AssertionError, match="are off"):
        assert_same_bits(y, case.same(case.plan().as_dict()["tiling"]), case.id)


def test_cases_run_every_kernel() -> None:
    """Compare the build's kernels with those that the fast cases launch."""
    plans = [case.plan() for case in CASES if case not in SLOW]
    plans += [case.plan(_C.device_arch(9, 0, sms)) for case, sms in few_sms_cases()]
    run = {launch["kernel"] for plan in plans for launch in plan.as_dict()["launches"]}
    assert sorted(set(_C.kernels()) - run) == [], "never executed"
    assert sorted(run - set(_C.kernels())) == [], "not in the build"


def deterministic_cases() -> Iterator[Case]:
    for dtype in precisions():
        for pool in (False, True):
            yield ConvCase(1, 6, 7, 16, 72, dtype, pool)
            yield ConvCase(2, 5, 6, 5, 8, dtype, pool)
        yield ConvCase(1, 4, 4, 256, 8, dtype, True)
        if dtype in ("float16", "bfloat16"):
            yield ConvCase(1, 9, 10, 64, 64, dtype, arch="sm_90a")
            yield ConvCase(2, 9, 10, 64, 128, dtype, True, arch="sm_90a")
            yield LinearCase(9, 256, 68, dtype, arch="sm_90a")
            yield BlockCase(1, 15, 18, dtype, "uint8", "torchvision")
        yield ConvCase(1, 6, 6, 3, 64, dtype, False, True, "uint8", "torchvision")
        yield LinearCase(3, 1024, 40, dtype)
        yield LinearCase(2, 33, 5, dtype)
    for dtype in dtypes():
        for op, shape in (("maxpool2x2", (1, 6, 4, 16)), ("relu", (2, 40)), ("softmax", (2, 300))):
            yield SimpleCase(op, shape, dtype)
        yield SimpleCase("avgpool", (1, 9, 9, 16), dtype, argument=7)
        yield SimpleCase("adaptive_maxpool", (1, 9, 9, 16), dtype, argument=7)
        yield SimpleCase("convert", (1, 9, 9, 40), dtype, "uint8", "NHWC")


@pytest.mark.parametrize(
    "case", list(deterministic_cases()), ids=lambda case: f"{case.op}-{case.id}"
)
def test_kernels_give_same_bits_in_every_order(case: Case) -> None:
    on = {**ON, "arch": case.arch}
    first = case.run(on_host, **on).tobytes()
    assert case.run(on_host, **on).tobytes() == first
    for schedule, lazy in product(SCHEDULES, (True, False)):
        with ops.emulator_options(schedule=schedule, lazy=lazy, seed=7):
            assert case.run(on_host, **on).tobytes() == first, (schedule, lazy)
    for workers in (1, 2, 3):
        with ops.emulator_options(workers=workers, races=False):
            assert case.run(on_host, **on).tobytes() == first, workers


@fast_and_other_orders
@pytest.mark.parametrize("sms", [2, 5])
@pytest.mark.parametrize(
    "case",
    [
        ConvCase(2, 66, 18, 64, 64, "bfloat16", True, arch="sm_90a", variant="halo_m512n64"),
        ConvCase(2, 36, 17, 64, 128, "float16", arch="sm_90a", variant="halo_m256n128_c2"),
        ConvCase(3, 34, 18, 64, 128, "float16", True, arch="sm_90a", variant="halo_m256n128_c2"),
        ConvCase(2, 16, 24, 64, 256, "float16", arch="sm_90a", variant="halo_m128n256_c2"),
        ConvCase(2, 16, 24, 64, 256, "float16", True, arch="sm_90a", variant="halo_m128n256_c2"),
        ConvCase(3, 9, 17, 64, 128, "bfloat16", arch="sm_90a", variant="halo_m128n128"),
        ConvCase(3, 16, 17, 64, 128, "float16", True, arch="sm_90a", variant="halo_m128n128"),
        ConvCase(2, 9, 17, 192, 128, "float16", True, arch="sm_90a", variant="halo_m128n64_split2"),
        ConvCase(2, 5, 15, 64, 128, "float16", arch="sm_90a", variant="swap_ab_rows2_c2"),
        ConvCase(2, 12, 15, 64, 128, "float16", True, arch="sm_90a", variant="swap_ab_rows2"),
        ConvCase(2, 6, 15, 64, 128, "bfloat16", arch="sm_90a", variant="swap_ab_rows1"),
    ],
    ids=lambda case: case.id,
)
def test_block_computes_several_tiles(case: ConvCase, sms: int, orders: list[str]) -> None:
    """Blocks of a GPU with few SMs continue their pipelines from one tile to the next."""
    backend: Any = EmulatorBackend(case.arch)
    backend.plan = Planner(_C.device_arch(9, 0, sms))
    y, stats = case.run(on_host, device=backend, return_stats=True)
    plan = stats["plan"]
    launch, split_k = plan["launches"][0], plan["tiling"]["split_k"]
    assert re.sub("_pool|conv3x3_b?f16_", "", stats["kernel"]) in str(case.variant)
    clusters = sms // launch["cluster"][0] // split_k
    assert launch["grid"] == (clusters * launch["cluster"][0], split_k, 1)
    assert plan["tiles"] // split_k // launch["cluster"][0] > clusters
    assert_same_bits(y, case.same(plan["tiling"]), case.id)
    for schedule, lazy in (ORDERS[order] for order in orders):
        with ops.emulator_options(schedule=schedule, lazy=lazy, seed=sms):
            assert case.run(on_host, device=backend).tobytes() == y.tobytes(), (schedule, lazy)


@pytest.mark.parametrize(
    ("case", "sms"), list(few_sms_cases()), ids=lambda x: x.id if isinstance(x, LinearCase) else x
)
def test_dense_layers_on_few_sms(case: LinearCase, sms: int) -> None:
    backend: Any = EmulatorBackend(case.arch)
    backend.plan = Planner(_C.device_arch(9, 0, sms))
    y, stats = case.run(on_host, device=backend, return_stats=True)
    plan, counters = stats["plan"], stats["counters"]
    assert plan == case.plan(_C.device_arch(9, 0, sms)).as_dict()
    same = case.same(plan["tiling"])
    assert_same_bits(y, same, case.id)
    assert_within(y, case.expected(), same, case.id)
    assert counters["bank_conflicts"] == 0
    assert counters["wgmma_macs"] == plan["issued_macs"] >= counters["useful_macs"]
    assert counters["bulk_load_bytes"] + counters["bulk_zero_bytes"] == plan["load_bytes"]
    assert counters["store_bytes"] == plan["store_bytes"]
    for schedule, lazy in ORDERS.values():
        with ops.emulator_options(schedule=schedule, lazy=lazy, seed=sms):
            assert case.run(on_host, device=backend).tobytes() == y.tobytes(), (schedule, lazy)


def test_few_sms_cases_are_varied() -> None:
    """The cases cover every tile width, reused stages, two splits, and several tiles of images."""
    plans = [case.plan(_C.device_arch(9, 0, sms)).as_dict() for case, sms in few_sms_cases()]
    tilings = [plan["tiling"] for plan in plans]
    assert {t["block_m"] for t in tilings} == {8, 16, 32, 64, 128, 256}
    assert {2 * t["stages"] < t["steps"] for t in tilings} == {True, False}
    assert {t["split_k"] for t in tilings} == {1, 2}
    assert any(t["gemm_m"] > t["block_m"] for t in tilings)


def test_hopper_multiplies_with_wgmma() -> None:
    """wgmma is used if C and K are multiples of 64, in both dtypes; otherwise mma.sync is."""
    for dtype in ("float16", "bfloat16"):
        for h, w, c, k, pool in (
            (7, 7, 64, 64, False),
            (7, 9, 192, 320, True),
            (8, 7, 64, 576, False),
        ):
            case = ConvCase(1, h, w, c, k, dtype, pool, arch="sm_90a")
            y, stats = case.run(on_host, **ON, arch="sm_90a", return_stats=True)
            counters = stats["counters"]
            assert counters["wgmma"] > 0
            assert counters["mma"] == 0
            assert counters["wgmma_macs"] >= counters["useful_macs"] > 0
            assert counters["bank_conflicts"] == 0
            assert_same_bits(y, case.same(stats["plan"]["tiling"]), case.id)
    for case in (
        ConvCase(1, 7, 7, 32, 64, "float16"), ConvCase(1, 7, 7, 64, 72, "float16"),
        ConvCase(1, 7, 7, 64, 64, "tf32"), ConvCase(1, 7, 7, 64, 64, "float16", offset=1),
    ):  # fmt: skip
        _, stats = case.run(on_host, **ON, arch="sm_90a", return_stats=True)
        assert stats["counters"]["wgmma"] == 0
        assert stats["counters"]["mma"] > 0


@pytest.fixture(params=dtypes())
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=precisions())
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def on(precision: str) -> dict[str, str]:
    """Return the options that select the emulator and a precision."""
    return {**ON, "dtype": precision}


@pytest.mark.parametrize(
    ("n", "h", "w", "c", "k"),
    [(1, 8, 8, 64, 64), (2, 7, 5, 3, 64), (1, 15, 6, 12, 5), (2, 4, 4, 256, 72)],
    ids=str,
)
def test_pool_in_the_epilogue_changes_no_bit(
    precision: str, n: int, h: int, w: int, c: int, k: int
) -> None:
    x, weight = draw((n, h, w, c), precision), draw((k, 3, 3, c), precision, 0.1, seed=1)
    bias = draw((k,), "float32", seed=2)
    for relu in (False, True):
        one, whole = ops.conv3x3(
            x, weight, bias, relu=relu, pool=True, return_stats=True, **on(precision)
        )
        y, apart = ops.conv3x3(x, weight, bias, relu=relu, return_stats=True, **on(precision))
        two = ops.maxpool2x2(y, **ON)
        splits = {stats["plan"]["tiling"]["split_k"] for stats in (whole, apart)}
        if len(splits) == 1:  # otherwise the order of additions differs
            assert one.tobytes() == two.tobytes()


def test_relu_follows_the_bias(precision: str) -> None:
    x = -np.ones((1, 3, 3, 8), numpy_dtype(precision))
    w = np.ones((2, 3, 3, 8), np.float32)
    y = ops.conv3x3(x, w, np.array([100, 10], np.float32), relu=True, **on(precision)).astype(
        np.float32
    )
    assert y[0, 1, 1].tolist() == [28, 0]  # -72 + bias
    assert y[0, 0, 0].tolist() == [68, 0]
    y = ops.linear(
        x.reshape(9, 8)[:1], w[:, 0, 0], np.array([100, 5.0]), relu=True, **on(precision)
    )
    assert y.astype(np.float32).tolist() == [[92, 0]]


def test_bias_in_dtype_of_x(precision: str) -> None:
    x, w = draw((2, 40), precision), draw((9, 40), precision, seed=1)
    bias = draw((9,), precision, seed=2)
    expected = ops.linear(x, w, bias.astype(np.float32), **on(precision))
    assert ops.linear(x, w, bias, **on(precision)).tobytes() == expected.tobytes()


@pytest.mark.parametrize("c", [3, 5, 16])
def test_nan_and_infinity_spread_by_the_filter(precision: str, c: int) -> None:
    x, w = draw((1, 8, 8, c), precision), draw((9, 3, 3, c), precision, seed=1)
    x[0, 2, 2, 0], x[0, 6, 6, c - 1] = np.nan, np.inf
    for relu in (False, True):
        y = ops.conv3x3(x, w, relu=relu, **on(precision)).astype(np.float32)
        assert np.isnan(y[0, 1:4, 1:4]).all()
        assert np.isinf(y[0, 5:8, 5:8]).any()
        assert not np.isfinite(y[0, 5:8, 5:8]).all() or relu
        y[0, 1:4, 1:4] = y[0, 5:8, 5:8] = 0
        assert np.isfinite(y).all()
    y = ops.conv3x3(x, w, relu=True, pool=True, **on(precision)).astype(np.float32)
    assert np.isnan(y[0, :2, :2]).all()
    for op in (ops.maxpool2x2, ops.adaptive_maxpool, ops.relu):
        assert np.isnan(op(x, **ON).astype(np.float32)).sum() == 1


@pytest.mark.parametrize("c", [3, 16])
def test_maxima_of_infinities(dtype: str, c: int) -> None:
    x = draw((1, 6, 6, c), dtype)
    x[0, :3, :3], x[0, 4, 4, 1], x[0, 5, 1, 2] = -np.inf, np.inf, np.nan
    y = ops.adaptive_maxpool(x, 2, **ON).astype(np.float32)
    np.testing.assert_array_equal(y, reference.adaptive_maxpool(x, 2))
    assert np.isneginf(y[0, 0, 0]).all()
    assert np.isposinf(y[0, 1, 1, 1])
    assert np.isnan(y).sum() == 1


def test_nan_through_linear_split(precision: str) -> None:
    x, w = draw((2, 2048), precision), draw((8, 2048), precision, seed=1)
    x[0, 2047] = np.nan
    y = ops.linear(x, w, relu=True, **on(precision)).astype(np.float32)
    assert np.isnan(y[0]).all()
    assert np.isfinite(y[1]).all()


def test_softmax_of_infinities(dtype: str) -> None:
    x = draw((4, 40), dtype)
    x[0], x[1, 3], x[2, 5], x[3, :7] = -np.inf, np.nan, np.inf, -np.inf
    y = ops.softmax(x, **ON).astype(np.float64)
    assert np.isnan(y[:3]).all()
    assert (y[3, :7] == 0).all()
    last = x[3:]
    assert_within(
        ops.softmax(last, **ON), reference.softmax(last), rounded(softmax32(last), dtype), dtype
    )


UNIT = 2.0**-10  # of the numbers from 1 to 2 in tf32
LARGEST = (2 - UNIT) * 2.0**127
TF32 = {
    1 + UNIT / 2: 1 + UNIT,  # ties round away from zero
    1 + 1.5 * UNIT: 1 + 2 * UNIT,
    1 + UNIT / 2 - 2.0**-23: 1,
    2 - UNIT / 2: 2,
    2 - UNIT / 2 - 2.0**-23: 2 - UNIT,
    LARGEST: LARGEST,
    LARGEST + UNIT / 2 * 2.0**127 - 2.0**104: LARGEST,
    LARGEST + UNIT / 2 * 2.0**127: np.inf,
    float(np.finfo(np.float32).max): np.inf,
    np.inf: np.inf,
    2.0**-126: 2.0**-126,
    2.0**-126 - 2.0**-149: 2.0**-126,
    2.0**-137: 2.0**-136,
    2.0**-137 - 2.0**-149: 0,
    0: 0,
}


@pytest.mark.skipif("tf32" not in precisions(), reason="no kernels of tf32")
@pytest.mark.parametrize("c", [1, 4])
def test_tf32_factors_are_rounded(c: int) -> None:
    """Multiply by one: the kernel rounds x, and packing rounds w."""
    given = np.array([*TF32, *(-x for x in TF32), np.nan], np.float32)
    expected = np.array([*TF32.values(), *(-y for y in TF32.values()), np.nan], np.float32)
    np.testing.assert_array_equal(factors(given, "tf32"), expected)
    one, many = np.eye(1, c, dtype=np.float32), np.zeros((given.size, c), np.float32)
    many[:, 0] = given
    np.testing.assert_array_equal(ops.linear(many, one, **on("tf32"))[:, 0], expected)
    np.testing.assert_array_equal(ops.linear(one, many, **on("tf32"))[0], expected)
    many[-1, 0] = np.uint32(0x7F800001).view(np.float32)  # a NaN by its last bit alone
    w = ops.pack_linear(get_backend("emulator"), many, None, dtype="tf32").w
    assert w.dtype == np.float32
    np.testing.assert_array_equal(w[:, 0], expected)
    images = np.zeros((given.size, 1, 1, 3), np.float32)
    images[:, 0, 0, 1] = given
    centre = np.zeros((1, 3, 3, 3), np.float32)
    centre[0, 1, 1, 1] = 1
    y = ops.conv3x3(images, centre, **on("tf32"))
    np.testing.assert_array_equal(y[:, 0, 0, 0], expected)


def test_tf32_sums_are_float32() -> None:
    """Only factors are rounded to tf32; sums and y are float32."""
    x, w = np.array([[1, UNIT]], np.float32), np.array([[1, UNIT]], np.float32)
    assert ops.linear(x, w, **on("tf32")).tolist() == [[1 + UNIT**2]]
    assert ops.linear(x, w, np.array([2.0**-23], np.float32), **on("tf32")).tolist() == [
        [1 + UNIT**2 + 2.0**-23]
    ]


def test_float16_overflows_to_infinity() -> None:
    x = np.full((1, 64), 100, np.float16)
    w = np.full((2, 64), 100, np.float16)
    w[1] *= -1
    assert ops.linear(x, w, **ON).tolist() == [[np.inf, -np.inf]]
    assert ops.linear(x, w, relu=True, **ON).tolist() == [[np.inf, 0]]
    y = ops.conv3x3(x.reshape(1, 1, 1, 64), np.broadcast_to(w[:, None, None], (2, 3, 3, 64)), **ON)
    assert y.tolist() == [[[[np.inf, -np.inf]]]]
    big = np.array([[65504, 65519.0, 65520, -1e9]], np.float32)
    assert ops.convert(big, "float16", **ON).tolist() == [[65504, 65504, np.inf, -np.inf]]


def test_padding_is_zero_after_normalization(precision: str) -> None:
    """Padding is zero after normalization, while black pixels become large numbers."""
    black, w = np.zeros((1, 4, 4, 3), np.uint8), np.ones((8, 3, 3, 3), np.float32)
    y, stats = ops.conv3x3(black, w, preset="torchvision", return_stats=True, **on(precision))
    channels = -np.array([0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = np.broadcast_to(channels, black.shape)
    expected = reference.conv3x3(x, w, np.zeros(8))
    inside = 9 * channels.sum()
    assert expected[0, :2, :2, 0].tolist() == [
        [pytest.approx(inside * 4 / 9), pytest.approx(inside * 6 / 9)],
        [pytest.approx(inside * 6 / 9), pytest.approx(inside)],
    ]
    low = factors(x.astype(np.float32), precision)
    same = accumulate(im2col(low), w.reshape(8, -1), stats["plan"]["tiling"])
    assert_within(y, expected, rounded(same.reshape(expected.shape), precision), precision)


def test_unaligned_addresses_give_same_bits(precision: str) -> None:
    x, w = draw((1, 6, 6, 16), precision), draw((8, 3, 3, 16), precision, seed=1)
    expected = ops.conv3x3(x, w, relu=True, pool=True, **on(precision))
    for offset in range(1, 8):
        moved = np.empty(x.size + 8, x.dtype)[offset : offset + x.size].reshape(x.shape)
        moved[...] = x
        out = np.empty(expected.size + 8, x.dtype)[offset:][: expected.size]
        out = out.reshape(expected.shape)
        y = ops.conv3x3(moved, w, relu=True, pool=True, out=out, **on(precision))
        assert y is out
        assert y.tobytes() == expected.tobytes(), offset


@pytest.mark.parametrize("arch", _C.arch_names())
def test_kernels_on_every_architecture(precision: str, arch: str) -> None:
    for case in (ConvCase(1, 6, 6, 64, 64, precision, True), LinearCase(2, 1024, 72, precision)):
        y, stats = case.run(on_host, **ON, arch=arch, return_stats=True)
        plan = case.plan(arch).as_dict()
        assert stats["plan"] == plan
        assert plan["arch"] == arch
        assert_same_bits(y, case.same(plan["tiling"]), f"{arch}-{case.id}")


def test_counters_start_at_zero_for_each_call() -> None:
    case = ConvCase(1, 8, 8, 64, 64, "float16")
    counted = [case.run(on_host, **ON, return_stats=True)[1]["counters"] for _ in range(2)]
    assert counted[0] == counted[1]
    assert counted[0]["mma"] > 0
    assert counted[0]["wgmma"] == 0
    _, stats = ConvCase(1, 8, 8, 64, 64, "float32").run(on_host, **ON, return_stats=True)
    assert stats["counters"]["mma"] == 0  # true float32
    assert stats["counters"]["useful_macs"] == 8 * 8 * 64 * 9 * 64
    assert stats["counters"]["fma"] >= 8 * 8 * 64 * 9 * 64
