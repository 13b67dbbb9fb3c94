"""The fused first block: two convolutions and their pool in one operation."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from support.kernel_cases import BlockCase, ConvCase
from support.kernel_reference import assert_same_bits, draw

from vgg_cuda import _C, VGG, ops
from vgg_cuda.backends import get_backend, recording
from vgg_cuda.backends.emulator import EmulatorBackend
from vgg_cuda.backends.operations import Planner, Spec
from vgg_cuda.backends.options import SCHEDULES
from vgg_cuda.configs import Config, get_config
from vgg_cuda.forward.graph import fused_conv1_block
from vgg_cuda.weights import he_weights

pytestmark = pytest.mark.emulator

HOPPER: dict[str, Any] = {"device": "emulator", "arch": "sm_90a"}
# The first block of VGG-13 to VGG-19, then small layers
BLOCK = (64, 64, "M", 8, "M", 8, "M", 8, "M", 8, "M")


def few_sms(count: int) -> Any:
    """Return a backend for a GPU with ``count`` SMs, so that each block has several tiles."""
    backend: Any = EmulatorBackend("sm_90a")
    backend.plan = Planner(_C.device_arch(9, 0, count))
    return backend


@pytest.mark.parametrize("sms", [1, 2, 3])
def test_persistent_block_computes_several_tiles(sms: int) -> None:
    """Tiles reuse the buffers, in every legal order."""
    case = BlockCase(1, 31, 34, "float16" if sms % 2 else "bfloat16")
    y, stats = case.run(lambda x: x, device=few_sms(sms), return_stats=True)
    plan = stats["plan"]
    assert plan["launches"][0]["grid"] == (sms, 1, 1)
    assert plan["tiles"] == 3 * 3
    assert_same_bits(y, case.same(plan["tiling"]), case.id)
    for schedule, lazy in product(SCHEDULES, (True, False)):
        with ops.emulator_options(schedule=schedule, lazy=lazy, seed=sms):
            again = case.run(lambda x: x, device=few_sms(sms))
            assert again.tobytes() == y.tobytes(), (schedule, lazy)


@pytest.mark.parametrize(
    "case", [BlockCase(1, 28, 32, "float16"), BlockCase(2, 43, 50, "bfloat16")]
)
def test_counters_match_plan(case: BlockCase) -> None:
    _, stats = case.run(lambda x: x, return_stats=True, **HOPPER)
    plan, counters = stats["plan"], stats["counters"]
    assert counters["mma_macs"] + counters["wgmma_macs"] == plan["issued_macs"]
    assert counters["bulk_store_bytes"] == plan["store_bytes"]
    assert counters["store_bytes"] == counters["bank_conflicts"] == 0
    loaded = counters["load_bytes"] + counters["bulk_load_bytes"] + counters["bulk_zero_bytes"]
    assert abs(loaded - plan["load_bytes"]) < 0.1 * loaded


def test_plan_is_efficient() -> None:
    """Few multiply-adds and little time of the SMs are wasted for 64 images."""
    for size, low in ((224, 0.97), (225, 0.97), (32, 0.4)):
        plan = BlockCase(64, size, size, "float16", "uint8").plan().as_dict()
        waves = -(-plan["tiles"] // 132)
        efficiency = plan["macs"] / plan["issued_macs"] * plan["tiles"] / (132 * waves)
        assert low < efficiency < 1, size
        assert plan["macs"] == 64 * 64 * (27 * size**2 + 576 * (size // 2 * 2) ** 2)


def both(x: np.ndarray, weights: Any, preset: str | None, **where: Any) -> np.ndarray:
    w1, bias1, w2, bias2 = weights
    z = ops.conv3x3(x, w1, bias1, relu=True, dtype=w1.dtype.name, preset=preset, **where)
    return np.asarray(ops.conv3x3(z, w2, bias2, relu=True, pool=True, **where))


@pytest.mark.parametrize(
    "case",
    [
        BlockCase(2, 21, 19, "float16", "uint8", "caffe"),
        BlockCase(1, 14, 16, "bfloat16", "float32"),
        BlockCase(1, 30, 9, "float16"),
    ],
    ids=lambda case: case.id,
)
def test_result_matches_two_convolutions(case: BlockCase) -> None:
    """Both ways add in the same order, so results are equal to the bit."""
    x, weights = case.x, case.weights
    y, stats = case.run(lambda x: x, return_stats=True, **HOPPER)
    assert stats["kernel"].startswith("fused_conv1_block_")
    assert stats["plan"]["tiling"]["split_k"] == 1
    assert_same_bits(y, both(x, weights, case.preset, **HOPPER), case.id)
    older: dict[str, Any] = {"device": "emulator", "arch": "sm_80"}
    with recording() as launched:
        y = case.run(lambda x: x, **older)
    assert [each["plan"]["op"] for each in launched] == ["conv3x3", "conv3x3"]
    assert_same_bits(y, both(x, weights, case.preset, **older), case.id)


def test_unsupported_cases_run_two_convolutions() -> None:
    x = draw((1, 6, 8, 3), "float32")
    w1, w2 = draw((8, 3, 3, 3), "float32", seed=1), draw((5, 3, 3, 8), "float32", seed=2)
    expected = both(x, (w1, None, w2, None), None, device="cpu")
    assert ops.fused_conv1_block(x, w1, None, w2, None).tobytes() == expected.tobytes()
    for dtype in ("float32", "tf32", "float16"):
        y, stats = ops.fused_conv1_block(
            x, w1, None, w2, None, dtype=dtype, return_stats=True, **HOPPER
        )
        assert stats["plan"]["op"] == "conv3x3"
        assert y.shape == (1, 3, 4, 5)
    wide = draw((64, 3, 3, 3), "float16", seed=1), None, draw((64, 3, 3, 64), "float16"), None
    out = np.empty(1 * 3 * 4 * 64 + 8, np.float16)
    start = (-out.ctypes.data // 2 + 1) % 8  # one element behind a multiple of 16 bytes
    out = out[start : start + 3 * 4 * 64].reshape(1, 3, 4, 64)
    _, stats = ops.fused_conv1_block(
        x, *wide, dtype="float16", out=out, return_stats=True, **HOPPER
    )
    assert stats["plan"]["op"] == "conv3x3"
    y, stats = ops.fused_conv1_block(x, *wide, dtype="float16", return_stats=True, **HOPPER)
    assert stats["plan"]["op"] == "fused_conv1_block"
    older = both(x.astype(np.float16), wide, None, device="emulator", arch="sm_80")
    assert_same_bits(out, older)  # kernels for any address are the same on all GPUs
    assert y.shape == out.shape
    assert ops.fused_conv1_block(x[:0], *wide, dtype="float16", **HOPPER).shape == (0, 3, 4, 64)


def test_packed_weights() -> None:
    case = BlockCase(1, 9, 12, "float16")
    w1, bias1, w2, bias2 = case.weights
    on = get_backend("emulator", "sm_90a")
    first, second = ops.pack_conv3x3(on, w1, bias1), ops.pack_conv3x3(on, w2, bias2)
    y = ops.fused_conv1_block(case.x, first, None, second, None, device=on)
    assert y.tobytes() == case.run(lambda x: x, **HOPPER).tobytes()
    with pytest.raises(ValueError, match="fused_conv1_block: bias2: expected None for packed"):
        ops.fused_conv1_block(case.x, first, None, second, bias2, device=on)
    with pytest.raises(
        ValueError, match=r"fused_conv1_block: w2: expected 64 input channels, .* got 3"
    ):
        ops.fused_conv1_block(case.x, first, None, first, None, device=on)
    single = ops.pack_conv3x3(on, w2, bias2, dtype="float32")
    with pytest.raises(TypeError, match="w2: expected weights packed as float16, got float32"):
        ops.fused_conv1_block(case.x, first, None, single, None, device=on)


W1, W2 = draw((4, 3, 3, 3), "float32"), draw((5, 3, 3, 4), "float32")


@pytest.mark.parametrize(
    ("x", "w1", "bias1", "w2", "bias2", "text"),
    [
        ((1, 4, 4, 4), W1, None, W2, None, r"x: expected \[N, H, W, 3\] \(NHWC\), got"),
        ((1, 1, 4, 3), W1, None, W2, None, "x: expected .* H, W >= 2 .* got"),
        ((1, 4, 4, 3), W2, None, W2, None, r"w1: expected \[5, 3, 3, 3\] \(KRSC\), got"),
        ((1, 4, 4, 3), W1, None, W1, None, r"w2: expected \[4, 3, 3, 4\] \(KRSC\), got"),
        ((1, 4, 4, 3), W1, np.zeros(5), W2, None, r"bias1: expected \[4\], got"),
        ((1, 4, 4, 3), W1, None, W2, np.zeros(4), r"bias2: expected \[5\], got"),
    ],
)
def test_bad_shapes_are_rejected(
    x: Any, w1: Any, bias1: Any, w2: Any, bias2: Any, text: str
) -> None:
    for device in ("cpu", "emulator"):
        with pytest.raises(ValueError, match=f"fused_conv1_block: {text}"):
            ops.fused_conv1_block(draw(x, "float32"), w1, bias1, w2, bias2, device=device)
    with pytest.raises(TypeError, match="fused_conv1_block: preset: expected uint8 x"):
        ops.fused_conv1_block(
            draw((1, 4, 4, 3), "float32"), W1, None, W2, None, preset="torchvision"
        )


def test_nan_and_infinity_reach_filter_size() -> None:
    """They spread no further: padding stays zero next to them."""
    case = BlockCase(1, 20, 40, "float16")
    x = case.x
    x[0, 0, 0, 1], x[0, 19, 21, 2] = np.nan, np.inf
    y = ops.fused_conv1_block(x, *case.weights, **HOPPER)
    expected = both(x, case.weights, None, **HOPPER)
    np.testing.assert_array_equal(y, expected)
    assert np.isnan(y[0, 0, 0]).all()
    bad = ~np.isfinite(y).all(axis=3)[0]
    assert bad.any()
    assert not bad[2:8, :8].any()
    large = np.full((1, 4, 4, 3), 30000, np.float16)  # the tensor between overflows
    w1 = np.ones((64, 3, 3, 3), np.float16)
    y = ops.fused_conv1_block(large, w1, None, case.weights[2], None, **HOPPER)
    np.testing.assert_array_equal(y, both(large, (w1, None, case.weights[2], None), None, **HOPPER))
    assert not np.isfinite(y).all()


# ---- In forwards ----


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_forward_matches_unfused_forward(dtype: str) -> None:
    """The block is one kernel, or two kernels if a tensor inside is requested."""
    weights = he_weights(Config("block", BLOCK, (16, 16, 8)), 3)
    model = VGG(weights, dtype=dtype, **HOPPER)
    for x in (draw((2, 33, 46, 3), "uint8"), draw((1, 32, 32, 3), "float32")):
        with recording() as fused:
            y = model(x)
        with recording() as unfused:
            found = model.features(x, ["relu1_1", "pool1", "fc8"])
        assert [each["plan"]["op"] for each in fused][:2] == ["fused_conv1_block", "conv3x3"]
        assert [each["plan"]["op"] for each in unfused][:3] == ["conv3x3"] * 3
        assert len(unfused) == len(fused) + 1
        assert found["fc8"].tobytes() == y.tobytes()
        assert model.capture(x.shape, x.dtype)(x).tobytes() == y.tobytes()
        pool1 = model.features(x, "pool1")["pool1"]
        assert pool1.tobytes() == found["pool1"].tobytes()


def test_vgg16_matches_unfused_forward() -> None:
    config = get_config("vgg16")
    weights = he_weights(Config(config.name, config.widths, (64, 64, 8)), 5)
    model = VGG(weights, **HOPPER)
    x = draw((1, 32, 32, 3), "float32")
    with ops.emulator_options(races=False):
        with recording() as fused:
            y = model(x)
        found = model.features(x, ["conv1_2", "fc8"])["fc8"]
    assert fused[0]["kernel"] == "fused_conv1_block_f16"
    assert y.tobytes() == found.tobytes()


def test_forward_fuses_supported_blocks() -> None:
    config = get_config("vgg16")
    assert fused_conv1_block(config, {"pool1", "fc8"}) == ("conv1_1", "conv1_2")
    for inside in ("conv1_1", "relu1_1", "conv1_2", "relu1_2"):
        assert fused_conv1_block(config, {inside}) is None
    assert fused_conv1_block(get_config("vgg11"), {"fc8"}) is None
    assert fused_conv1_block(Config("x", (64, 64, 64, "M"), ()), {"pool1"}) is None

    def planned(arch: str, dtype: str, channels: int = 64, aligned: bool = True) -> bool:
        wide: Any = ConvCase(1, 1, 1, 3, channels, dtype)
        packed: Any = type("Packed", (), {"out_channels": wide.k, "dtype": wide.dtype})
        x = Spec((1, 32, 32, 3), "uint8")
        plan = Planner(_C.arch(arch)).fused_conv1_block(x, packed, packed, aligned=aligned)
        return plan is not None

    for arch in _C.arch_names():
        for dtype in ("float16", "bfloat16", "float32", "tf32"):
            expected = arch == "sm_90a" and dtype in ("float16", "bfloat16")
            assert planned(arch, dtype) == expected
    assert not planned("sm_90a", "float16", channels=32)
    assert not planned("sm_90a", "float16", aligned=False)
