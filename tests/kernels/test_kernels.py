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
    assert_same_bits,
    assert_within,
    numpy_dtype,
)
from support.ptx_programs import ORDERS, fast_and_other_orders

from vgg_cuda import _C, ops
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
        yield SimpleCase("affine", (1, 9, 9, 16), dtype)
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


@pytest.fixture(params=precisions())
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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
