"""Plans for Hopper: tiles, splits and variants of convolutions and dense layers; no GPU needed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from vgg_cuda import _C

if not _C.built_with_cuda():
    pytest.skip("built without CUDA", allow_module_level=True)

from support.kernel_cases import vgg_layers
from support.plans import ceil_div, conv, layer_id


@pytest.mark.parametrize("layer", vgg_layers(), ids=layer_id)
def test_hopper_tiles_waste_little(layer: tuple[int, int, int, bool]) -> None:
    """Tiles waste little work and load less than an im2col matrix product of the same tiles.

    Layers of 14x14 have too few tiles to keep all SMs busy until the end.
    """
    size, c, k, pool = layer
    arch = _C.arch("sm_90a")
    for dtype in ("float16", "bfloat16"):
        plan = conv(64, size, c, k, arch, dtype=dtype, pool=pool).as_dict()
        tiling, launch = plan["tiling"], plan["launches"][0]
        assert (tiling["walk"] == "csr") == (c > 3)
        assert launch["kernel"].endswith("_pool") == pool
        if c > 3:
            assert launch["smem_bytes"] > 180_000  # rings have as many stages as fit
            places = arch.sm_count // launch["cluster"][0] * launch["cluster"][0]
            useful = plan["macs"] / plan["issued_macs"]
            assert useful >= (0.95 if size > 28 else 0.90)
            busy = plan["tiles"] / places / ceil_div(plan["tiles"], places)
            assert useful * busy >= (0.90 if size > 14 else 0.79)
            m, n = tiling["block_m"], tiling["block_n"]
            assert plan["load_bytes"] <= 0.6 * plan["issued_macs"] / (m * n) * (m + n) * 2
        for other in ("tf32", "float32"):
            plan = conv(64, size, c, k, arch, dtype=other, pool=pool).as_dict()
            assert plan["tiling"]["walk"] == "rsc"


@pytest.mark.parametrize("layer", vgg_layers(), ids=layer_id)
def test_hopper_splits_fill_sms_for_one_image(layer: tuple[int, int, int, bool]) -> None:
    """Most SMs have one tile; for small images, C is split to this end."""
    size, c, k, pool = layer
    if c == 3:
        return
    arch = _C.arch("sm_90a")
    plan = conv(1, size, c, k, arch, pool=pool).as_dict()
    grid, split_k = plan["launches"][0]["grid"], plan["tiling"]["split_k"]
    assert plan["tiles"] == grid[0] * grid[1]
    assert 0.7 * arch.sm_count <= plan["tiles"] <= arch.sm_count
    assert (split_k > 1) == (size <= 56)
    assert plan["workspace_bytes"] == (split_k > 1) * split_k * size * size * k * 4


def test_variants_are_accepted_or_refused() -> None:
    """Every usable variant can be selected; others are refused with the reason."""
    for name, known in (("sm_90a", {"halo_m256n128_c2", "m64n64"}), ("sm_80", {"m64n64"})):
        arch = _C.arch(name)
        for pool in (False, True):
            given: dict[str, Any] = {"dtype": "float16", "x_dtype": "float16", "relu": True}
            given |= {"pool": pool, "aligned": True, "arch": arch}
            names = _C.conv3x3_variants(2, 9, 9, 64, 128, **given)
            assert known <= set(names)
            assert len(set(names)) == len(names)
            kernels = [_C.plan_conv3x3(2, 9, 9, 64, 128, **given, variant=v).kernel for v in names]
            assert _C.plan_conv3x3(2, 9, 9, 64, 128, **given).kernel in kernels
            for variant, kernel in zip(names, kernels, strict=True):
                assert variant.startswith(re.sub("conv3x3_f16_|_pool", "", kernel))
            for wrong in ("halo_m128n256_c2", "m128n128_pool", ""):
                with pytest.raises(ValueError, match="conv3x3: variant: expected "):
                    _C.plan_conv3x3(2, 9, 9, 64, 128, **given, variant=wrong)
    reason = r"expected halo_\w+, .*, m64n64, got halo_m128n256_c2, which needs K to be a multiple "
    with pytest.raises(ValueError, match=reason + "of 256, got K = 128"):
        conv(1, 9, 64, 128, _C.arch("sm_90a"), variant="halo_m128n256_c2")
    with pytest.raises(ValueError, match="which needs 2 SMs, there is 1"):
        conv(1, 9, 64, 256, _C.device_arch(9, 0, 1), variant="halo_m128n256_c2")
    with pytest.raises(ValueError, match="variant: expected none, got m64n64"):
        conv(1, 9, 3, 64, _C.arch("sm_80"), variant="m64n64")


def test_swap_ab_variants_are_accepted_or_refused() -> None:
    arch = _C.arch("sm_90a")
    for variant in (
        "swap_ab_rows2",
        "swap_ab_rows2_c2",
        "swap_ab_rows1_c2_split4",
        "swap_ab_rows2_split3",
    ):
        assert (
            conv(8, 14, 512, 512, arch, variant=variant)
            .as_dict()["launches"][0]["kernel"]
            .endswith(variant.split("_split")[0])
        )
    for k, pool, variant, why in (
        (
            192,
            False,
            "swap_ab_rows2",
            "swap_ab_rows2, which needs K to be a multiple of 128, got K = 192",
        ),
        (128, True, "swap_ab_rows1", "swap_ab_rows1, which needs no pool, or "),
        (128, False, "swap_ab_rows2_split5", "swap_ab_rows2_split2, .*, got swap_ab_rows2_split5$"),
        (128, False, "swap_ab_rows3", "swap_ab_rows1, .*, got swap_ab_rows3$"),
    ):
        with pytest.raises(ValueError, match=f"conv3x3: variant: expected .*{why}"):
            conv(8, 14, 128, k, arch, pool=pool, variant=variant)
    with pytest.raises(ValueError, match="swap_ab_rows2_c2, which needs 2 SMs, there is 1"):
        conv(8, 14, 128, 128, _C.device_arch(9, 0, 1), variant="swap_ab_rows2_c2")


def test_hopper_splits_few_images() -> None:
    """16 images of 14x14 have fewer tiles than the GPU has SMs."""
    for pool in (False, True):
        arch = _C.arch("sm_90a")
        plan = conv(16, 14, 512, 512, arch, pool=pool)
        found = plan.as_dict()
        assert found["tiling"]["split_k"] > 1
        assert found["tiles"] >= 0.8 * arch.sm_count
        whole = conv(16, 14, 512, 512, arch, pool=pool, variant="swap_ab_rows2").as_dict()
        assert found["macs"] == whole["macs"]
        assert found["issued_macs"] == whole["issued_macs"]
        assert found["tiling"]["steps"] * found["tiling"]["split_k"] == whole["tiling"]["steps"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("c", "k"), [(25088, 4096), (4096, 4096), (4096, 1000)])
def test_hopper_dense_plans_read_weights_once(c: int, k: int, dtype: str) -> None:
    """With few images, w is read once, by most SMs."""
    arch = _C.arch("sm_90a")
    for n in range(1, 257):
        plan = _C.plan_linear(n, c, k, dtype=dtype, relu=True, aligned=True, arch=arch).as_dict()
        [launch], tiling = plan["launches"], plan["tiling"]
        assert "_dense_" in launch["kernel"]
        blocks = launch["grid"][0] * launch["grid"][1]
        assert blocks <= arch.sm_count  # all blocks run at the same time, so w is read once
        assert blocks >= 0.9 * arch.sm_count or tiling["split_k"] == 8
        once = 2 * (n * c + c * k + n * k) + 4 * k
        assert once / (once + 2 * plan["workspace_bytes"]) >= 0.85
        if n <= 64:
            features = ceil_div(k, 128) * 128
            images = ceil_div(n, tiling["block_m"])
            assert plan["load_bytes"] <= 2 * c * features * (images + 0.5)
            assert (
                2 * launch["smem_bytes"] + 2048 <= arch.smem_per_sm_bytes
            )  # two blocks fit in an SM
    for other in ("tf32", "float32"):
        plan = _C.plan_linear(1, c, k, dtype=other, relu=True, aligned=True, arch=arch).as_dict()
        assert "_dense_" not in plan["launches"][0]["kernel"]


def test_hopper_dense_plans_need_tma_alignment() -> None:
    arch = _C.arch("sm_90a")
    known: dict[str, Any] = {"dtype": "float16", "relu": True, "arch": arch}
    assert "_dense_" in _C.plan_linear(3, 64, 5, aligned=True, **known).kernel
    assert "_dense_" not in _C.plan_linear(3, 65, 8, aligned=True, **known).kernel
    assert "_dense_" not in _C.plan_linear(3, 64, 5, aligned=False, **known).kernel
