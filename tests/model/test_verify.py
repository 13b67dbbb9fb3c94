"""Verification of correct networks, on every device and in every dtype."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.verify_cases import (
    DEVICES_AND_DTYPES,
    SMALL,
    Altered,
    changed,
    network_input,
    pixels,
)

import vgg_cuda
from vgg_cuda import VGG, reference, verify
from vgg_cuda.backends import Stats
from vgg_cuda.configs import Config, get_config
from vgg_cuda.verification.steps import Step, exactly, steps
from vgg_cuda.weights import he_weights, load_weights


@pytest.mark.parametrize(("device", "dtype"), DEVICES_AND_DTYPES)
@pytest.mark.parametrize(("h", "w"), [(32, 32), (45, 33), (34, 63)])
@pytest.mark.parametrize("uint8", [False, True], ids=["floats", "uint8"])
def test_digits_pass(device: str, dtype: str, h: int, w: int, uint8: bool) -> None:
    weights = load_weights("digits")
    model = VGG(weights, device=device, dtype=dtype)
    x = pixels(2, h, w)
    found = verify(model, weights, x if uint8 else weights.preset.normalize(x))
    assert found.ok, found.table()
    assert [row.tap for row in found.rows] == [step.tap for step in steps(model.config)]
    assert all(row.of_bound <= 1 and row.worst for row in found.rows)
    # one launch per row, as in a forward without taps between the fused layers
    assert found.rows[1].name == "conv1_2 relu1_2 pool1"
    assert all(len(row.kernels) == 1 + ("reduce" in row.kernels[-1]) for row in found.rows)
    # a larger error would mean another network or another input
    last = found.rows[-2]
    assert last.relative_l2 <= last.since_input < 0.1


@pytest.mark.parametrize(("device", "dtype"), DEVICES_AND_DTYPES)
def test_random_weights_pass(device: str, dtype: str) -> None:
    weights = he_weights(replace(SMALL, affine_after=("conv1_1", "conv1_2", "pool2")), 3)
    model, x = VGG(weights, device=device, dtype=dtype), network_input(weights, 47, 35)
    found = verify(model, weights, x)
    assert found.ok, found.table()
    shift = weights.tensors["affine1_2.bias"]
    found = verify(model, changed(weights, affine1_2_bias=shift * np.float32(1.01)), x)
    assert found.first_bad
    assert (found.first_bad.name, found.first_bad.verdict) == ("affine1_2", "wrong")


@pytest.mark.slow
@pytest.mark.emulator
def test_vgg16_passes() -> None:
    weights = he_weights(get_config("vgg16"), 0)
    found = verify(VGG(weights, device="emulator"), weights, network_input(weights, 64, 64))
    assert found.ok, found.table()


def test_headless_network_with_lone_pools_passes() -> None:
    config = Config("x", (8, "M", "M", 16, "M", "M", "M"), ())
    weights = he_weights(config, 0)
    found = verify(VGG(weights, device="cpu"), weights, network_input(weights, 66, 40))
    assert found.ok, found.table()
    assert [row.name for row in found.rows][:3] == [
        "conv1_1 relu1_1 pool1",
        "pool2",
        "conv3_1 relu3_1 pool3",
    ]


@pytest.mark.parametrize("bounds", [False, True])
def test_adaptive_maxpool_is_exact(bounds: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 9, 5, 3)).astype(np.float16)
    stats = Stats(kernel="adaptive_maxpool_f16_v1", plan={}, counters={}) if bounds else None
    step = Step("adaptive_maxpool", "pooled", "pooled")
    parts = list(exactly(step, x, None, 4, stats, False))
    for n, part in enumerate(parts):
        assert part.images == slice(n, n + 1)
        for y in (part.y, part.low, part.high):
            np.testing.assert_array_equal(y, reference.adaptive_maxpool(x[n : n + 1], 4))
    assert len(parts) == 2


@pytest.mark.emulator
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_hopper_kernels_pass(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config("x", (64, "M", 128, "M", 64, "M", 64, "M", 64, "M"), (72, 10))
    weights = he_weights(config, 0)
    model = VGG(weights, device="emulator", dtype=dtype, arch="sm_90a")
    found = verify(model, weights, network_input(weights, 45, 34))
    assert found.ok, found.table()
    kernels = [row.kernels[0] for row in found.rows]
    assert all(re.search("_(halo|swap_ab)_", k) for k in kernels[1:] if k.startswith("conv3x3"))
    dense = [kernel for kernel in kernels if kernel.startswith("linear")]
    assert len(dense) == 2
    assert all("_dense_" in kernel for kernel in dense)
    bad = changed(weights, conv3_1_weight=weights.tensors["conv3_1.weight"][:, ::-1])
    assert verify(model, bad, network_input(weights, 45, 34)).first_bad.tap == "pool3"


@pytest.mark.emulator
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_fused_conv1_block_passes_and_faults_fail(dtype: str) -> None:
    """The bounds of both convolutions combine, and are neither violated nor loose."""
    config = Config("x", (64, 64, "M", 8, "M", 8, "M", 8, "M", 8, "M"), ())
    weights = he_weights(config, 0)
    model = VGG(weights, device="emulator", dtype=dtype, arch="sm_90a")
    x = network_input(weights, 45, 34)
    found = verify(model, weights, x)
    assert found.ok, found.table()
    row = found.rows[0]
    assert row.name == "conv1_1 relu1_1 conv1_2 relu1_2 pool1"
    assert row.kernels == [
        "fused_conv1_block_f16" if dtype == "float16" else "fused_conv1_block_bf16"
    ]
    assert 0.02 < row.of_bound < 1
    assert found.rows[1].tap == "pool2"
    assert verify(model, weights, pixels(2, 33, 40)).ok
    for bad in (
        changed(weights, conv1_1_bias=weights.tensors["conv1_1.bias"] + np.float32(0.1)),
        changed(weights, conv1_2_weight=weights.tensors["conv1_2.weight"][:, ::-1]),
    ):
        first = verify(model, bad, x).first_bad
        assert first
        assert first.tap == "pool1"


@pytest.mark.emulator
def test_overflow_inside_fused_conv1_block() -> None:
    config = Config("x", (64, 64, "M", 8, "M", 8, "M", 8, "M", 8, "M"), ())
    weights = he_weights(config, 0)
    large = changed(weights, conv1_1_weight=weights.tensors["conv1_1.weight"] * np.float32(3e4))
    model = VGG(large, device="emulator", arch="sm_90a")
    found = verify(model, large, network_input(weights, 32, 32))
    assert found.rows[0].counts["wrong"] == 0, found.table()
    assert found.rows[0].verdict == "not finite"


def test_large_batch_is_verified_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = he_weights(Config("x", (8, "M") * 5, ()), 0)
    model = VGG(weights, device="cpu")
    x = weights.preset.normalize(pixels(3, 160, 160))
    together = verify(model, weights, x)
    monkeypatch.setattr("vgg_cuda.verification.MAX_IMAGES", 1)
    parts = verify(model, weights, x)
    assert parts.ok
    for a, b in zip(parts.rows, together.rows, strict=True):
        assert (a.shape, a.elements, a.kernels) == (b.shape, b.elements, b.kernels)

    amounts = [1, 1000, 1]  # for the three batches

    def alter(y: np.ndarray) -> None:
        y[-1, 0, 0, 0] += amounts.pop()

    altered: Any = Altered(model, pool2=alter)
    bad = verify(altered, weights, x).first_bad
    assert bad
    assert (bad.tap, bad.counts["wrong"], bad.worst.index) == ("pool2", 3, (1, 0, 0, 0))


@pytest.mark.emulator
def test_batch_split_for_memory_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    from support.fake_cupy import fake_gpus

    weights = he_weights(SMALL, 3)
    x = weights.preset.normalize(pixels(6, 32, 32))
    with fake_gpus(monkeypatch, (8, 0)) as log:
        model = VGG(weights, device="cuda", dtype="float16")
        one = model.memory((1, 32, 32, 3))
        log.capacity = log.memory.used + 20 * (one.total - one.weights)
        found = verify(model, weights, x)
        assert found.ok, found.table()
        assert found.rows[0].shape[0] == 6
        log.capacity = log.memory.used
        with pytest.raises(MemoryError):
            verify(model, weights, x)


@pytest.mark.emulator
def test_forward_and_graph_must_match_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Faults of shared memory appear only in whole forwards, not layer by layer."""
    from vgg_cuda.forward import planned

    weights = he_weights(SMALL, 3)
    model = VGG(weights, device="emulator", dtype="float16")
    x = network_input(weights, 32, 32)
    assert verify(model, weights, x).ok
    run = planned.Forward.run

    def disturbed(self: Any, on: Any, x: Any, arena: Any, results: Any) -> None:
        run(self, on, x, arena, results)
        if len(results) == 1:
            next(iter(results.values()))[0, 1] += 1

    monkeypatch.setattr(planned.Forward, "run", disturbed)
    found = verify(model, weights, x)
    assert (found.ok, found.first_bad, found.verdict) == (False, None, "differs")
    assert found.sentence().endswith(
        "bounds; a plain forward gives other bits; a graph gives other bits"
    )
    assert found.as_dict()["differs"] == ["a plain forward", "a graph"]


def test_verify_rejects_bad_arguments() -> None:
    weights = he_weights(SMALL, 0)
    model = VGG(weights, device="cpu")
    x = network_input(weights, 32, 32)
    with pytest.raises(ValueError, match=r"verify: weights: expected the weights of <VGG small"):
        verify(model, "digits", x)
    for bad in (x[0], x[:0], list(x)):
        with pytest.raises(ValueError, match=r"verify: x: expected a NumPy array \[N, H, W, 3\]"):
            verify(model, weights, bad)
    for short in (x[:, :31], x[:, :0]):
        with pytest.raises(ValueError, match="H and W >= 32"):
            verify(model, weights, short)
    with pytest.raises(TypeError, match="verify: x: expected a floating-point array"):
        verify(model, weights, x.astype(np.int32))
    assert vgg_cuda.verify is verify
