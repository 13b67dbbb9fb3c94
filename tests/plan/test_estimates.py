"""Estimates, by which plans are chosen, and the rates that they use; no GPU needed."""

from __future__ import annotations

from typing import Any

import pytest

from vgg_cuda import _C

if not _C.built_with_cuda():
    pytest.skip("built without CUDA", allow_module_level=True)

from support.kernel_cases import vgg_layers
from support.mutants.cases import Case
from support.plans import conv

HOPPER = _C.arch("sm_90a")


def linear(n: int, c: int, k: int, arch: _C.Arch) -> _C.Plan:
    return _C.plan_linear(n, c, k, dtype="float16", relu=True, aligned=True, arch=arch)


@pytest.mark.parametrize("name", ["sm_80", "sm_90a"])
def test_matrix_products_have_estimates(name: str) -> None:
    arch = _C.arch(name)
    options: dict[str, Any] = {"dtype": "float16", "x_dtype": "uint8", "aligned": True}
    for n in (1, 64):
        plans = [conv(n, h, c, k, arch, pool=pool) for h, c, k, pool in vgg_layers()]
        plans += [linear(n, 25088, 4096, arch), linear(n, 4096, 1000, arch)]
        block = _C.plan_fused_conv1_block(n, 224, 224, 64, 64, arch=arch, **options)
        for plan in plans + [block] * (block is not None):
            found = plan.estimate
            parts = [found[f"{part}_cycles"] for part in ("math", "port", "l2")]
            assert 0 <= min(parts) <= max(parts) <= found["main_cycles"] <= found["cycles"]
            assert found["math_cycles"] > 0
            assert found == plan.as_dict()["estimate"]
            assert (found["port_cycles"] > 0) == (plan.family != "portable")
    relu = _C.plan_relu(8, dtype="float16", aligned=True, arch=arch)
    assert relu.estimate == relu.as_dict()["estimate"] == {}


def test_default_has_the_least_estimate() -> None:
    for n in (1, 64):
        for h, c, k, pool in vgg_layers():
            default = conv(n, h, c, k, HOPPER, pool=pool)
            options: dict[str, Any] = {"dtype": "float16", "x_dtype": "float16", "relu": True}
            options |= {"pool": pool, "aligned": True, "arch": HOPPER}
            names = _C.conv3x3_variants(n, h, h, c, k, **options) if c > 3 else []
            plans = [conv(n, h, c, k, HOPPER, pool=pool, variant=name) for name in names]
            others = [plan.estimate["cycles"] for plan in plans if plan.family != "portable"]
            assert default.estimate["cycles"] == min(others, default=default.estimate["cycles"])
            assert not names or default.variant in names


def test_rates_change_estimates_and_choices() -> None:
    """With expensive second launches, one image is not split; with a slow L2 cache, all is slow."""
    assert conv(1, 14, 512, 512, HOPPER).as_dict()["tiling"]["split_k"] > 1
    slow = HOPPER.with_rates(launch_cycles=1e9)
    assert slow.rates == {**HOPPER.rates, "launch_cycles": 1e9}
    assert slow.families == HOPPER.families
    assert conv(1, 14, 512, 512, slow).as_dict()["tiling"]["split_k"] == 1
    variant = conv(64, 56, 256, 256, HOPPER).variant
    usual, slow_l2 = (
        conv(64, 56, 256, 256, arch, variant=variant).estimate
        for arch in (HOPPER, HOPPER.with_rates(l2_bytes=2.6))
    )
    assert slow_l2["l2_cycles"] == pytest.approx(10 * usual["l2_cycles"])
    assert slow_l2["cycles"] > 5 * usual["cycles"]


def test_unknown_rates_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rates: expected one of .*l2_bytes.*, got 'speed'"):
        HOPPER.with_rates(speed=1.0)
    for wrong in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="rates: l2_bytes: expected a positive number, got"):
            HOPPER.with_rates(l2_bytes=wrong)
    with pytest.raises(TypeError):
        HOPPER.with_rates(l2_bytes="26")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variant", "use"),
    [("halo_m256n128_c2", 0.969), ("halo_m128n256_c2", 0.927), ("swap_ab_rows1_c2", 0.875)],
)
def test_use_of_the_port_costs_time(variant: str, use: float) -> None:
    """Computed by hand: for 0.3 of the use beyond 80 % of the time, the main loop waits."""
    found = conv(64, 56, 256, 256, HOPPER, variant=variant).estimate
    assert found["port_cycles"] / found["math_cycles"] == pytest.approx(use, abs=1e-3)
    waits = 0.3 * (use - 0.8)
    assert found["main_cycles"] / found["math_cycles"] == pytest.approx(1 + waits, abs=1e-3)
    free = HOPPER.with_rates(port_free=1.0)
    found = conv(64, 56, 256, 256, free, variant=variant).estimate
    assert found["main_cycles"] == pytest.approx(found["math_cycles"])


def test_equal_products_use_the_port_less() -> None:
    """Three images of 56x56 take as many waves, and cycles for products, with either tile."""
    free = HOPPER.with_rates(port_free=1.0)
    assert conv(3, 56, 128, 256, free).variant == "halo_m256n128_c2"
    assert conv(3, 56, 128, 256, HOPPER).variant == "halo_m128n256_c2"
    found = [
        conv(3, 56, 128, 256, HOPPER, variant=f"halo_{tile}_c2").estimate
        for tile in ("m256n128", "m128n256")
    ]
    assert found[0]["math_cycles"] == found[1]["math_cycles"]
    assert found[0]["port_cycles"] > found[1]["port_cycles"]


@pytest.mark.emulator
@pytest.mark.parametrize(
    "case",
    [
        Case("conv3x3", (1, 32, 16, 128, 128), variant="halo_m256n128_c2"),
        Case("conv3x3", (1, 32, 8, 64, 256), pool=True, variant="halo_m128n256_c2"),
        Case("conv3x3", (8, 1, 56, 64, 128), variant="swap_ab_rows1_c2"),
        Case("conv3x3", (8, 2, 28, 64, 128), variant="swap_ab_rows2_c2"),
        Case("linear", (64, 256, 256)),
    ],
    ids=lambda case: case.variant or case.op,
)
def test_estimates_count_what_kernels_move(case: Case) -> None:
    """Two SMs with equal work use the port and the L2 cache as their kernels do."""
    case = Case(case.op, case.shape, pool=case.pool, sm_count=2, variant=case.variant)
    executor = _C.Emulator(races=False)
    case.run(executor)
    counters, arch = executor.counters(), _C.device_arch(9, 0, 2)
    port = counters["wgmma_shared_bytes"] + counters["bulk_shared_bytes"]
    assert case.plan.estimate["port_cycles"] == pytest.approx(port / 2 / arch.rates["port_bytes"])
    assert case.plan.estimate["math_cycles"] == pytest.approx(counters["wgmma_macs"] / 2 / 2048)
    if case.op == "conv3x3":  # dense layers take their weights from memory
        loads = counters["bulk_load_bytes"] + counters["bulk_zero_bytes"]
        assert case.plan.estimate["l2_cycles"] == pytest.approx(loads / 2 / arch.rates["l2_bytes"])
