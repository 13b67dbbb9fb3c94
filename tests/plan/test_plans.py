"""Plans: they fit the GPU, cover the work exactly, and refuse what does not fit; no GPU needed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from vgg_cuda import _C

if not _C.built_with_cuda():
    pytest.skip("built without CUDA", allow_module_level=True)

from support.kernel_cases import dtypes, precisions, vgg_layers
from support.kernel_reference import numpy_dtype

ARCHES = _C.arch_names()
BATCHES = (
    *range(1, 65),
    72,
    96,
    100,
    127,
    128,
    129,
    192,
    255,
    256,
    257,
    300,
    384,
    511,
    512,
    600,
    668,
)
EVERY_BATCH = tuple(range(1, 669))


def batches(name: str) -> tuple[int, ...]:
    """Every N on the first of the architectures with the same limits, a choice on the others."""
    arch = _C.arch(name)
    first = next(n for n in ARCHES if limits(_C.arch(n)) == limits(arch))
    return EVERY_BATCH if first == name else BATCHES


def limits(arch: _C.Arch) -> tuple[int, ...]:
    return arch.smem_per_block_bytes, arch.smem_per_sm_bytes, arch.threads_per_sm


MAX_GRID = (2**31 - 1, 65535, 65535)
MAX_THREADS = 1024
KERNELS = set(_C.kernels())
TILING = {
    *("gemm_m", "gemm_n", "gemm_k", "block_m", "block_n", "block_k"),
    *("stages", "split_k", "steps", "partial_sum", "walk"),
}


def layer_id(layer: tuple[int, int, int, bool]) -> str:
    return "h{}-c{}-k{}".format(*layer) + "-pool" * layer[3]


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def check_launches(plan: _C.Plan, arch: _C.Arch) -> dict[str, Any]:
    """What holds for every plan; returns it as a dict."""
    found = plan.as_dict()
    assert found["op"] == plan.op
    assert found["arch"] == plan.arch == arch.name
    assert found["workspace_bytes"] == plan.workspace_bytes >= 0
    assert found["launches"]
    assert found["launches"][0]["kernel"] == plan.kernel
    assert set(found["tiling"]) == TILING
    for launch in found["launches"]:
        assert launch["kernel"] in KERNELS
        assert 0 <= launch["smem_bytes"] <= arch.smem_per_block_bytes
        threads = launch["block"][0] * launch["block"][1] * launch["block"][2]
        assert 1 <= threads <= min(MAX_THREADS, arch.threads_per_sm)
        assert all(1 <= n <= limit for n, limit in zip(launch["grid"], MAX_GRID, strict=True))
    return found


def check_gemm(plan: _C.Plan, arch: _C.Arch, m: int, n: int, k: int, pixels: int) -> None:
    """``m``: rows at least, ``pixels``: at most (with the odd ones that a pool drops)."""
    found = check_launches(plan, arch)
    tiling = found["tiling"]
    assert m <= tiling["gemm_m"] <= pixels
    assert (tiling["gemm_n"], tiling["gemm_k"]) == (n, k)
    grid, cluster = found["launches"][0]["grid"], found["launches"][0]["cluster"]
    tiles = ceil_div(tiling["gemm_m"], tiling["block_m"]) * ceil_div(n, tiling["block_n"])
    if tiling["walk"] == "csr":  # persistent blocks, of slabs that may be ragged
        assert (arch.name, n % tiling["block_n"], k % tiling["block_k"]) == ("sm_90a", 0, 0)
        units = found["tiles"] // tiling["split_k"] // cluster[0]
        assert units * cluster[0] >= tiles
        places = max(arch.sm_count // (cluster[0] * tiling["split_k"]), 1)
        assert tuple(grid) == (min(units, places) * cluster[0], tiling["split_k"], 1)
        assert cluster in ((1, 1, 1), (2, 1, 1))
    else:
        assert tuple(grid) == (tiles, tiling["split_k"], 1)
    columns = tiling["steps"] * tiling["block_k"]
    assert tiling["steps"] >= 1
    assert tiling["split_k"] * columns >= k  # all of GEMM_K
    assert (tiling["split_k"] - 1) * columns < k  # and no split without a part of it
    assert tiling["partial_sum"] >= 0
    dense = "_dense_" in plan.kernel  # clusters add the splits
    if tiling["walk"] == "rsc":
        assert cluster == (1, tiling["split_k"] if dense else 1, 1)
    if tiling["split_k"] > 1 and not dense:
        assert len(found["launches"]) == 2
        assert plan.workspace_bytes == tiling["split_k"] * tiling["gemm_m"] * n * 4
    else:
        assert len(found["launches"]) == 1
        assert plan.workspace_bytes == 0
    assert plan.macs == m * n * k


def conv(n: int, h: int, c: int, k: int, arch: _C.Arch, **given: Any) -> _C.Plan:
    options: dict[str, Any] = {"dtype": "float16", "relu": True, "pool": False, "aligned": True}
    options.update(given)
    options.setdefault("x_dtype", numpy_dtype(options["dtype"]).name)
    return _C.plan_conv3x3(n, h, h, c, k, arch=arch, **options)


def test_the_table_of_layers() -> None:
    assert (224, 3, 64, False) in vgg_layers()
    assert (224, 3, 64, True) in vgg_layers()  # of VGG-11
    assert (14, 512, 512, True) in vgg_layers()


@pytest.mark.parametrize("name", ARCHES)
@pytest.mark.parametrize("dtype", precisions())
@pytest.mark.parametrize("layer", vgg_layers(), ids=layer_id)
def test_convolutions(name: str, dtype: str, layer: tuple[int, int, int, bool]) -> None:
    arch = _C.arch(name)
    size, c, k, pool = layer
    for n in batches(name):
        m = n * size * size
        for aligned in (True, False) if n in BATCHES else (n % 2 == 0,):
            plan = conv(n, size, c, k, arch, dtype=dtype, pool=pool, aligned=aligned)
            check_gemm(plan, arch, m, k, 9 * c, m)
        if c == 3 and n in BATCHES:
            plan = conv(n, size, c, k, arch, dtype=dtype, pool=pool, x_dtype="uint8")
            check_gemm(plan, arch, m, k, 9 * c, m)


@pytest.mark.parametrize("name", ARCHES)
@pytest.mark.parametrize("dtype", precisions())
def test_dense_layers(name: str, dtype: str) -> None:
    arch = _C.arch(name)
    for n in batches(name):
        for c, k in ((25088, 4096), (4096, 4096), (4096, 1000), (7, 5)):
            plan = _C.plan_linear(n, c, k, dtype=dtype, relu=True, aligned=True, arch=arch)
            check_gemm(plan, arch, n, k, c, n)


@pytest.mark.parametrize("name", ARCHES)
@pytest.mark.parametrize("dtype", dtypes())
def test_the_rest(name: str, dtype: str) -> None:
    arch = _C.arch(name)
    known: dict[str, Any] = {"dtype": dtype, "arch": arch}
    for n in batches(name):
        for aligned in (True, False) if n in BATCHES else (n % 2 == 0,):
            check_launches(_C.plan_maxpool2x2(n, 224, 224, 64, aligned=aligned, **known), arch)
            check_launches(_C.plan_avgpool(n, 7, 7, 512, 7, aligned=aligned, **known), arch)
            plan = _C.plan_adaptive_maxpool(n, 7, 7, 512, 1, aligned=aligned, **known)
            check_launches(plan, arch)
            check_launches(_C.plan_softmax(n, 1000, aligned=aligned, **known), arch)
            check_launches(_C.plan_relu(n * 224 * 224 * 64, aligned=aligned, **known), arch)
        check_launches(_C.plan_convert(n, 3, 224 * 224, x_dtype="uint8", **known), arch)


@pytest.mark.parametrize("dtype", precisions())
def test_ragged_sizes(dtype: str) -> None:
    arch = _C.arch(ARCHES[0])
    for h in (1, 2, 7, 15):
        for c in (1, 3, 5, 8, 12, 72):
            for k in (1, 5, 64, 130):
                for pool in (False, True)[: min(h, 2)]:
                    plan = conv(3, h, c, k, arch, dtype=dtype, pool=pool)
                    rows = 3 * (h // 2 * 2) ** 2 if pool else 3 * h * h
                    tiling = plan.as_dict()["tiling"]
                    assert rows <= tiling["gemm_m"] <= 3 * h * h
                    check_launches(plan, arch)


@pytest.mark.parametrize("layer", vgg_layers(), ids=layer_id)
def test_hopper_layers(layer: tuple[int, int, int, bool]) -> None:
    """Tiles waste little of what is computed and load less than an im2col matrix product of the
    same tiles; of 14x14 there are too few for all SMs to end at once.
    """
    size, c, k, pool = layer
    arch = _C.arch("sm_90a")
    for dtype in ("float16", "bfloat16"):
        plan = conv(64, size, c, k, arch, dtype=dtype, pool=pool).as_dict()
        tiling, launch = plan["tiling"], plan["launches"][0]
        assert (tiling["walk"] == "csr") == (c > 3)
        assert launch["kernel"].endswith("_pool") == pool
        if c > 3:
            assert launch["smem_bytes"] > 180_000  # rings as deep as they can be
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
def test_hopper_layers_of_one_image(layer: tuple[int, int, int, bool]) -> None:
    """Most SMs have something to do, once; where images are small, C is split for that."""
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


def test_variants() -> None:
    """Any that can be used may be asked for; others are refused, with the reason."""
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


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("c", "k"), [(25088, 4096), (4096, 4096), (4096, 1000)])
def test_hopper_dense_layers(c: int, k: int, dtype: str) -> None:
    """Few images take little more than reading w once, which most SMs share."""
    arch = _C.arch("sm_90a")
    for n in range(1, 257):
        plan = _C.plan_linear(n, c, k, dtype=dtype, relu=True, aligned=True, arch=arch).as_dict()
        [launch], tiling = plan["launches"], plan["tiling"]
        assert "_dense_" in launch["kernel"]
        blocks = launch["grid"][0] * launch["grid"][1]
        assert blocks <= arch.sm_count  # they run at the same time: w leaves memory once
        assert blocks >= 0.9 * arch.sm_count or tiling["split_k"] == 8
        once = 2 * (n * c + c * k + n * k) + 4 * k
        assert once / (once + 2 * plan["workspace_bytes"]) >= 0.85
        if n <= 64:
            features = ceil_div(k, 128) * 128
            images = ceil_div(n, tiling["block_m"])
            assert plan["load_bytes"] <= 2 * c * features * (images + 0.5)
            assert 2 * launch["smem_bytes"] + 2048 <= arch.smem_per_sm_bytes  # beside the next one
    for other in ("tf32", "float32"):
        plan = _C.plan_linear(1, c, k, dtype=other, relu=True, aligned=True, arch=arch).as_dict()
        assert "_dense_" not in plan["launches"][0]["kernel"]


def test_hopper_dense_layers_that_tma_cannot_copy() -> None:
    arch = _C.arch("sm_90a")
    known: dict[str, Any] = {"dtype": "float16", "relu": True, "arch": arch}
    assert "_dense_" in _C.plan_linear(3, 64, 5, aligned=True, **known).kernel
    assert "_dense_" not in _C.plan_linear(3, 65, 8, aligned=True, **known).kernel
    assert "_dense_" not in _C.plan_linear(3, 64, 5, aligned=False, **known).kernel


def test_few_images_split_on_hopper() -> None:
    """14x14 has fewer tiles of 16 images than there are SMs."""
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


def test_variants_of_swapped_operands() -> None:
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


def test_plans_are_plain_data() -> None:
    plan = conv(2, 56, 128, 256, _C.arch("sm_80")).as_dict()

    def check(value: Any) -> None:
        assert type(value) in (bool, int, str, list, tuple, dict), value
        if isinstance(value, (list, tuple, dict)):
            for inner in value.values() if isinstance(value, dict) else value:
                check(inner)

    check(plan)
    assert plan == conv(2, 56, 128, 256, _C.arch("sm_80")).as_dict()


BIG = 2**31


@pytest.mark.parametrize(
    ("op", "sizes"),
    [
        ("conv3x3", (1, 46341, 46341, 8, 8)),
        ("conv3x3", (1, 8, 8, 2**28, 8)),
        ("conv3x3", (1, 8, 8, 8, BIG)),
        ("linear", (BIG, 8, 8)),
        ("linear", (8, BIG, 8)),
        ("linear", (8, 8, BIG)),
        ("softmax", (BIG, 8)),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(op: str, sizes: tuple[int, ...]) -> None:
    options: dict[str, Any] = {"dtype": "float16", "aligned": True, "arch": _C.arch("sm_80")}
    if op != "softmax":
        options["relu"] = True
    if op == "conv3x3":
        options |= {"x_dtype": "float16", "pool": False}
    with pytest.raises(ValueError, match=f"{op}: "):
        getattr(_C, f"plan_{op}")(*sizes, **options)


def test_architectures() -> None:
    assert {"sm_80", "sm_90"} <= set(ARCHES)
    with pytest.raises(ValueError, match="sm_80"):
        _C.arch("sm_75")
    with pytest.raises(ValueError, match=r"7\.5 is not supported: expected 8\.0 or later"):
        _C.device_arch(7, 5, 40)
    assert _C.device_arch(8, 0, 98).sm_count == 98
    for name in ARCHES:
        arch = _C.arch(name)
        assert arch.name == name
        assert arch.sm_count > 0
        assert 48 * 1024 <= arch.smem_per_block_bytes <= arch.smem_per_sm_bytes
        digits = name.removeprefix("sm_").rstrip("af")
        major, minor = int(digits[:-1]), int(digits[-1])
        assert _C.can_run(arch, major, minor)
        assert not _C.can_run(arch, 7, 5)
        assert _C.device_arch(major, minor, 10).smem_per_block_bytes == arch.smem_per_block_bytes
    assert _C.can_run(_C.arch("sm_80"), 9, 0)
    assert not _C.can_run(_C.arch("sm_90"), 8, 0)


def test_tf32_is_for_matrix_products_alone() -> None:
    sm80 = _C.arch("sm_80")
    known: dict[str, Any] = {"dtype": "tf32", "arch": sm80}
    for refused in (
        lambda: _C.plan_maxpool2x2(1, 4, 4, 8, aligned=True, **known),
        lambda: _C.plan_avgpool(1, 4, 4, 8, 7, aligned=True, **known),
        lambda: _C.plan_adaptive_maxpool(1, 4, 4, 8, 7, aligned=True, **known),
        lambda: _C.plan_softmax(1, 8, aligned=True, **known),
        lambda: _C.plan_relu(8, aligned=True, **known),
        lambda: _C.plan_convert(1, 3, 8, x_dtype="float32", **known),
    ):
        with pytest.raises(
            TypeError, match=r": dtype: expected float32, float16 or bfloat16, got tf32"
        ):
            refused()
    with pytest.raises(TypeError, match=r"convert: x: expected .* or uint8, got tf32"):
        _C.plan_convert(1, 3, 8, x_dtype="tf32", dtype="float32", arch=sm80)
    with pytest.raises(TypeError, match=r"conv3x3: x: expected .* or uint8, got tf32"):
        conv(1, 8, 8, 8, sm80, dtype="tf32", x_dtype="tf32")
    for c in (3, 8):
        with pytest.raises(TypeError, match="conv3x3: x: expected float32 or uint8, got float16"):
            conv(1, 8, c, 8, sm80, dtype="tf32", x_dtype="float16")
    with pytest.raises(ValueError, match="x of uint8 beside w of tf32: expected C = 3, got C = 8"):
        conv(1, 8, 8, 8, sm80, dtype="tf32", x_dtype="uint8")
    with pytest.raises(TypeError, match="float32, tf32, float16 or bfloat16, got uint8"):
        conv(1, 8, 8, 8, sm80, dtype="uint8")


@pytest.mark.skipif("tf32" not in precisions(), reason="no kernels of tf32")
def test_kernels_of_tf32() -> None:
    """Its own, less the one that adds splits: sums are float32, and so is y."""
    sm80, known = _C.arch("sm_80"), {"dtype": "tf32"}
    assert conv(32, 56, 128, 256, sm80, **known, pool=True).kernel == "conv3x3_tf32_m128n128_pool"
    assert conv(1, 224, 3, 64, sm80, **known, x_dtype="uint8").kernel == "conv3x3_first_tf32"
    assert conv(1, 8, 6, 8, sm80, **known).kernel == "conv3x3_tf32_m64n64_gather"
    assert "gather" not in conv(1, 8, 4, 8, sm80, **known).kernel  # four channels are 16 bytes
    plan = _C.plan_linear(1, 25088, 4096, relu=True, aligned=True, arch=sm80, **known).as_dict()
    names = [launch["kernel"] for launch in plan["launches"]]
    assert names == ["linear_tf32_m16n128", "reduce_f32_v4"]
    assert (plan["tiling"]["block_k"], plan["tiling"]["partial_sum"]) == (32, 0)


def test_packing() -> None:
    assert [_C.packed_columns(k, "float16") for k in (1, 8, 27, 72)] == [8, 8, 32, 72]
    for dtype in ("float32", "tf32"):
        assert [_C.packed_columns(k, dtype) for k in (1, 8, 27, 72)] == [4, 8, 28, 72]
    assert [_C.packed_bias(k) for k in (1, 8, 9)] == [8, 8, 16]
