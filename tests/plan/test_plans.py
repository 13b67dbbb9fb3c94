"""Plans fit the GPU, cover the work exactly, and refuse unsupported sizes; no GPU needed."""

from __future__ import annotations

from typing import Any

import pytest

from vgg_cuda import _C

if not _C.built_with_cuda():
    pytest.skip("built without CUDA", allow_module_level=True)

from support.kernel_cases import dtypes, precisions, vgg_layers
from support.plans import ceil_div, conv, layer_id

ARCHES = _C.arch_names()
BATCHES = (
    *(*range(1, 65), 72, 96, 100, 127, 128, 129, 192),
    *(255, 256, 257, 300, 384, 511, 512, 600, 668),
)
EVERY_BATCH = tuple(range(1, 669))


def batches(name: str) -> tuple[int, ...]:
    """Return all batch sizes for the first architecture with its limits, else a selection."""
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


def check_launches(plan: _C.Plan, arch: _C.Arch) -> dict[str, Any]:
    """Check the launches of any plan and return the plan as a dict."""
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
    """Check a matrix product of ``m`` to ``pixels`` rows; a pool drops odd rows and columns."""
    found = check_launches(plan, arch)
    tiling = found["tiling"]
    assert m <= tiling["gemm_m"] <= pixels
    assert (tiling["gemm_n"], tiling["gemm_k"]) == (n, k)
    grid, cluster = found["launches"][0]["grid"], found["launches"][0]["cluster"]
    tiles = ceil_div(tiling["gemm_m"], tiling["block_m"]) * ceil_div(n, tiling["block_n"])
    if tiling["walk"] == "csr":  # persistent blocks of slabs that may be ragged
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
    assert (tiling["split_k"] - 1) * columns < k  # and no empty split
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


def test_vgg_layers_cover_first_and_last() -> None:
    assert (224, 3, 64, False) in vgg_layers()
    assert (224, 3, 64, True) in vgg_layers()  # from VGG-11
    assert (14, 512, 512, True) in vgg_layers()


@pytest.mark.parametrize("name", ARCHES)
@pytest.mark.parametrize("dtype", precisions())
@pytest.mark.parametrize("layer", vgg_layers(), ids=layer_id)
def test_convolution_plans_cover_the_work(
    name: str, dtype: str, layer: tuple[int, int, int, bool]
) -> None:
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
def test_dense_plans_cover_the_work(name: str, dtype: str) -> None:
    arch = _C.arch(name)
    for n in batches(name):
        for c, k in ((25088, 4096), (4096, 4096), (4096, 1000), (7, 5)):
            plan = _C.plan_linear(n, c, k, dtype=dtype, relu=True, aligned=True, arch=arch)
            check_gemm(plan, arch, n, k, c, n)


@pytest.mark.parametrize("name", ARCHES)
@pytest.mark.parametrize("dtype", dtypes())
def test_plans_of_other_operations_fit(name: str, dtype: str) -> None:
    arch = _C.arch(name)
    known: dict[str, Any] = {"dtype": dtype, "arch": arch}
    for n in batches(name):
        for aligned in (True, False) if n in BATCHES else (n % 2 == 0,):
            check_launches(_C.plan_maxpool2x2(n, 224, 224, 64, aligned=aligned, **known), arch)
            check_launches(_C.plan_avgpool(n, 7, 7, 512, 7, aligned=aligned, **known), arch)
            plan = _C.plan_adaptive_maxpool(n, 7, 7, 512, 1, aligned=aligned, **known)
            check_launches(plan, arch)
            check_launches(_C.plan_softmax(n, 1000, aligned=aligned, **known), arch)
            check_launches(_C.plan_affine(n, 224, 224, 64, aligned=aligned, **known), arch)
            check_launches(_C.plan_relu(n * 224 * 224 * 64, aligned=aligned, **known), arch)
        check_launches(_C.plan_convert(n, 3, 224 * 224, x_dtype="uint8", **known), arch)


@pytest.mark.parametrize("dtype", precisions())
def test_ragged_convolutions_are_planned(dtype: str) -> None:
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


def test_plans_are_plain_data() -> None:
    plan = conv(2, 56, 128, 256, _C.arch("sm_80")).as_dict()

    def check(value: Any) -> None:
        assert type(value) in (bool, int, float, str, list, tuple, dict), value
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
def test_sizes_that_overflow_are_refused(op: str, sizes: tuple[int, ...]) -> None:
    options: dict[str, Any] = {"dtype": "float16", "aligned": True, "arch": _C.arch("sm_80")}
    if op != "softmax":
        options["relu"] = True
    if op == "conv3x3":
        options |= {"x_dtype": "float16", "pool": False}
    with pytest.raises(ValueError, match=f"{op}: "):
        getattr(_C, f"plan_{op}")(*sizes, **options)


def test_architectures_have_their_limits() -> None:
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


def test_tf32_is_refused_outside_matrix_products() -> None:
    sm80 = _C.arch("sm_80")
    known: dict[str, Any] = {"dtype": "tf32", "arch": sm80}
    for refused in (
        lambda: _C.plan_maxpool2x2(1, 4, 4, 8, aligned=True, **known),
        lambda: _C.plan_avgpool(1, 4, 4, 8, 7, aligned=True, **known),
        lambda: _C.plan_adaptive_maxpool(1, 4, 4, 8, 7, aligned=True, **known),
        lambda: _C.plan_softmax(1, 8, aligned=True, **known),
        lambda: _C.plan_affine(1, 4, 4, 8, aligned=True, **known),
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


@pytest.mark.skipif("tf32" not in precisions(), reason="no tf32 kernels")
def test_tf32_plans_use_tf32_kernels() -> None:
    """Splits are added by the float32 kernel, because sums and y are float32."""
    sm80, known = _C.arch("sm_80"), {"dtype": "tf32"}
    assert conv(32, 56, 128, 256, sm80, **known, pool=True).kernel == "conv3x3_tf32_m128n128_pool"
    assert conv(1, 224, 3, 64, sm80, **known, x_dtype="uint8").kernel == "conv3x3_first_tf32"
    assert conv(1, 8, 6, 8, sm80, **known).kernel == "conv3x3_tf32_m64n64_gather"
    assert "gather" not in conv(1, 8, 4, 8, sm80, **known).kernel  # four channels are 16 bytes
    plan = _C.plan_linear(1, 25088, 4096, relu=True, aligned=True, arch=sm80, **known).as_dict()
    names = [launch["kernel"] for launch in plan["launches"]]
    assert names == ["linear_tf32_m16n128", "reduce_f32_v4"]
    assert (plan["tiling"]["block_k"], plan["tiling"]["partial_sum"]) == (32, 0)


def test_packed_sizes_are_padded() -> None:
    assert [_C.packed_columns(k, "float16") for k in (1, 8, 27, 72)] == [8, 8, 32, 72]
    for dtype in ("float32", "tf32"):
        assert [_C.packed_columns(k, dtype) for k in (1, 8, 27, 72)] == [4, 8, 28, 72]
    assert [_C.packed_bias(k) for k in (1, 8, 9)] == [8, 8, 16]
