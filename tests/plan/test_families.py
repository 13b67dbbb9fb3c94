"""Kernel families that are switched off, and variants of dense layers; no GPU needed."""

from __future__ import annotations

from typing import Any

import pytest

from vgg_cuda import _C

if not _C.built_with_cuda():
    pytest.skip("built without CUDA", allow_module_level=True)

from support.kernel_cases import vgg_layers
from support.plans import conv

HOPPER = _C.arch("sm_90a")
DENSE = ((25088, 4096), (4096, 1000))


def linear(n: int, c: int, k: int, arch: _C.Arch, **given: Any) -> _C.Plan:
    return _C.plan_linear(n, c, k, dtype="float16", relu=True, aligned=True, arch=arch, **given)


def plans(arch: _C.Arch) -> list[_C.Plan]:
    """Plan every layer of a VGG for one and for 64 images."""
    found = []
    for n in (1, 64):
        found += [conv(n, h, c, k, arch, pool=pool) for h, c, k, pool in vgg_layers()]
        found += [linear(n, c, k, arch) for c, k in DENSE]
        options: dict[str, Any] = {"dtype": "float16", "x_dtype": "uint8", "aligned": True}
        block = _C.plan_fused_conv1_block(n, 224, 224, 64, 64, arch=arch, **options)
        found += [block] if block else []
    return found


def test_families_are_used_by_default() -> None:
    assert HOPPER.families == tuple(_C.families())
    assert {plan.family for plan in plans(HOPPER)} == {"portable", *_C.families()}
    for name in set(_C.arch_names()) - {"sm_90a"}:
        assert _C.arch(name).families == ()


@pytest.mark.parametrize("off", _C.families())
def test_family_switched_off_is_not_planned(off: str) -> None:
    """Other families take its place, and only its own operations are planned otherwise."""
    arch = HOPPER.without([off])
    assert arch.families == tuple(name for name in _C.families() if name != off)
    assert off in HOPPER.families  # the original is unchanged
    changed = plans(arch)
    assert {plan.family for plan in changed} == {"portable", *arch.families}
    before = {plan.family for plan in plans(HOPPER)} - {off}
    kept = [plan.as_dict() for plan in plans(HOPPER) if plan.family in before]
    assert all(plan in [each.as_dict() for each in changed] for plan in kept)


def test_plans_without_families_are_those_of_sm_90() -> None:
    """All families off: the kernels are those that every GPU since sm_80 has."""
    portable = [plan.as_dict() for plan in plans(HOPPER.without(_C.families()))]
    for plan, other in zip(portable, plans(_C.arch("sm_90")), strict=True):
        assert plan == {**other.as_dict(), "arch": "sm_90a"}


def test_variant_of_family_off_is_refused() -> None:
    arch = HOPPER.without(["halo"])
    with pytest.raises(ValueError, match=r"got halo_m128n128, which needs the kernel family halo "):
        conv(1, 14, 64, 128, arch, variant="halo_m128n128")
    assert conv(1, 14, 64, 64, arch).family == "portable"  # swap_ab needs K of 128
    with pytest.raises(ValueError, match=r"linear: variant: expected m128n128, .*, got dense_m8"):
        linear(1, 4096, 1000, HOPPER.without(["dense"]), variant="dense_m8")


def test_unknown_family_is_refused() -> None:
    for unknown in ("portable", "hopper", ""):
        with pytest.raises(ValueError, match=f"expected some of halo, .*, got '{unknown}'"):
            HOPPER.without(["halo", unknown])


@pytest.mark.parametrize(("c", "k"), DENSE)
@pytest.mark.parametrize("n", [1, 16, 200])
def test_linear_variants_can_be_selected(n: int, c: int, k: int) -> None:
    """The default is the dense variant with the least estimate."""
    options: dict[str, Any] = {"dtype": "float16", "relu": True, "aligned": True, "arch": HOPPER}
    names = _C.linear_variants(n, c, k, **options)
    assert {"dense_m8", "dense_m256_split8", "m128n128", "m16n128"} <= set(names)
    assert len(set(names)) == len(names)
    found = {name: linear(n, c, k, HOPPER, variant=name) for name in names}
    assert [plan.variant for plan in found.values()] == names
    for name, plan in found.items():
        split = int(name.rpartition("_split")[2]) if "_split" in name else 1
        assert plan.family == ("dense" if "dense" in name else "portable")
        assert plan.family == "portable" or plan.as_dict()["tiling"]["split_k"] == split
    default = linear(n, c, k, HOPPER)
    assert default.as_dict() == found[default.variant].as_dict()
    dense = [plan.estimate["cycles"] for plan in found.values() if plan.family == "dense"]
    assert default.estimate["cycles"] == min(dense)
    for wrong in ("dense_m8_split3", "dense_m8_split16", "m64n64_gather", ""):
        with pytest.raises(ValueError, match="linear: variant: expected "):
            linear(n, c, k, HOPPER, variant=wrong)


def test_linear_variants_leave_no_split_empty() -> None:
    names = _C.linear_variants(
        4, 192, 64, dtype="float16", relu=True, aligned=True, arch=HOPPER
    )  # three steps of 64 columns
    assert "dense_m8_split2" in names
    assert not any(name.endswith(("_split4", "_split8")) for name in names)


def test_dense_kernels_ask_for_two_blocks_an_sm() -> None:
    """Blocks of the next launch load weights beside the last blocks of this one."""
    for variant, blocks in (("dense_m8", 2), ("dense_m128_split4", 2), ("dense_m256", 1)):
        [launch] = linear(256, 4096, 4096, HOPPER, variant=variant).as_dict()["launches"]
        assert launch["blocks_per_sm"] == blocks
        assert blocks * (launch["smem_bytes"] + 1024) <= HOPPER.smem_per_sm_bytes
