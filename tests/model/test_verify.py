"""Verification: right networks pass on every device and in every dtype; faults are named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.kernel_reference import accumulate, numpy_dtype
from typer.testing import CliRunner

import vgg_cuda
from vgg_cuda import _C, VGG, reference, verify
from vgg_cuda.backends import Stats, winograd
from vgg_cuda.cli.main import app
from vgg_cuda.configs import Config, get_config
from vgg_cuda.verification.operands import as_operand, rounded_from
from vgg_cuda.verification.steps import Step, exactly, steps
from vgg_cuda.verification.sums import MMA_K, Order, U, in_order, of_moved
from vgg_cuda.verification.winograd import winograd_bound
from vgg_cuda.weights import Weights, he_weights, load_weights, save

EMULATED = [
    pytest.param("emulator", dtype, marks=pytest.mark.emulator)
    for dtype in ("float32", "tf32", "float16", "bfloat16")
]
EMULATED_16BIT = EMULATED[2:]
PLACES = [("cpu", "float32"), *EMULATED]
SMALL = Config("small", (8, 16, "M", 16, "M", 24, "M", 24, "M", 32, "M"), (48, 48, 6))


def pixels(n: int, h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, h, w, 3), dtype=np.uint8)


def changed(weights: Weights, **tensors: np.ndarray) -> Weights:
    """The same weights, but for some tensors: "conv1_1_weight" for conv1_1.weight."""
    named = {f"{name[:-7]}.weight": w for name, w in tensors.items() if name.endswith("_weight")}
    named |= {f"{name[:-5]}.bias": b for name, b in tensors.items() if name.endswith("_bias")}
    return replace(weights, tensors={**weights.tensors, **named})


# ---- What is right passes ----


@pytest.mark.parametrize(("device", "dtype"), PLACES)
@pytest.mark.parametrize(("h", "w"), [(32, 32), (45, 33), (34, 63)])
@pytest.mark.parametrize("uint8", [False, True], ids=["floats", "uint8"])
def test_digits(device: str, dtype: str, h: int, w: int, uint8: bool) -> None:
    weights = load_weights("digits")
    model = VGG(weights, device=device, dtype=dtype)
    x = pixels(2, h, w)
    found = verify(model, weights, x if uint8 else weights.preset.normalize(x))
    assert found.ok, found.table()
    assert [row.tap for row in found.rows] == [step.tap for step in steps(model.config)]
    assert all(row.of_bound <= 1 and row.worst for row in found.rows)
    # one launch each, as in a forward that nobody asks for anything in between
    assert found.rows[1].name == "conv1_2 relu1_2 pool1"
    assert all(len(row.kernels) == 1 + ("reduce" in row.kernels[-1]) for row in found.rows)
    # no dtype is that much off: the comparison is with this network and this input
    last = found.rows[-2]
    assert last.relative_l2 <= last.since_input < 0.1


@pytest.mark.parametrize(("device", "dtype"), PLACES)
def test_a_network_of_random_weights(device: str, dtype: str) -> None:
    weights = he_weights(SMALL, 3)
    found = verify(VGG(weights, device=device, dtype=dtype), weights, he_input(weights, 47, 35))
    assert found.ok, found.table()


@pytest.mark.slow
@pytest.mark.emulator
def test_vgg16() -> None:
    weights = he_weights(get_config("vgg16"), 0)
    found = verify(VGG(weights, device="emulator"), weights, he_input(weights, 64, 64))
    assert found.ok, found.table()


def test_headless_networks_and_pools_alone() -> None:
    config = Config("x", (8, "M", "M", 16, "M", "M", "M"), ())
    weights = he_weights(config, 0)
    found = verify(VGG(weights, device="cpu"), weights, he_input(weights, 66, 40))
    assert found.ok, found.table()
    assert [row.name for row in found.rows][:3] == [
        "conv1_1 relu1_1 pool1",
        "pool2",
        "conv3_1 relu3_1 pool3",
    ]


@pytest.mark.parametrize("bounds", [False, True])
def test_maxima_of_bins_are_exact(bounds: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 9, 5, 3)).astype(np.float16)
    stats = Stats(kernel="adaptive_maxpool_f16_v1", plan={}, counters={}) if bounds else None
    step = Step("adaptive_maxpool", "pooled", "pooled")
    parts = list(exactly(step, x, None, None, 4, stats, False))
    for n, part in enumerate(parts):
        assert part.images == slice(n, n + 1)
        for y in (part.y, part.low, part.high):
            np.testing.assert_array_equal(y, reference.adaptive_maxpool(x[n : n + 1], 4))
    assert len(parts) == 2


@pytest.mark.emulator
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_hoppers_order_of_additions(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config("x", (64, "M", 128, "M", 64, "M", 64, "M", 64, "M"), (72, 10))
    weights = he_weights(config, 0)
    model = VGG(weights, device="emulator", dtype=dtype, arch="sm_90a")
    found = verify(model, weights, he_input(weights, 45, 34))
    assert found.ok, found.table()
    kernels = [row.kernels[0] for row in found.rows]
    assert all(re.search("_(halo|swap_ab)_", k) for k in kernels[1:] if k.startswith("conv3x3"))
    dense = [kernel for kernel in kernels if kernel.startswith("linear")]
    assert len(dense) == 2
    assert all("_dense_" in kernel for kernel in dense)
    bad = changed(weights, conv3_1_weight=weights.tensors["conv3_1.weight"][:, ::-1])
    assert verify(model, bad, he_input(weights, 45, 34)).first_bad.tap == "pool3"


@pytest.mark.emulator
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_first_two_convolutions_in_one_kernel(dtype: str) -> None:
    """Bounds of both, one behind the other: as near as can be to wrong ones, and not wrong."""
    config = Config("x", (64, 64, "M", 8, "M", 8, "M", 8, "M", 8, "M"), ())
    weights = he_weights(config, 0)
    model = VGG(weights, device="emulator", dtype=dtype, arch="sm_90a")
    x = he_input(weights, 45, 34)
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
def test_what_overflows_inside_the_fused_conv1_block() -> None:
    config = Config("x", (64, 64, "M", 8, "M", 8, "M", 8, "M", 8, "M"), ())
    weights = he_weights(config, 0)
    large = changed(weights, conv1_1_weight=weights.tensors["conv1_1.weight"] * np.float32(3e4))
    model = VGG(large, device="emulator", arch="sm_90a")
    found = verify(model, large, he_input(weights, 32, 32))
    assert found.rows[0].counts["wrong"] == 0, found.table()
    assert found.rows[0].verdict == "not finite"


def test_of_moved_bounds_sums_of_moved_products() -> None:
    """Against `in_order` of the products as they were moved."""
    rng = np.random.default_rng(0)
    a, w = rng.standard_normal((20, 96)), rng.standard_normal((96, 7))
    off = np.abs(rng.standard_normal(a.shape)) * 2.0**-8
    order = Order(96, 96, 40)
    moved = off @ np.abs(w)
    bound = in_order(a, w, order) + of_moved(moved, 96, order)
    for sign in (np.sign(rng.standard_normal(a.shape)) for _ in range(20)):
        there = a + sign * off
        error = in_order(there, w, order)
        assert (np.abs(there @ w - a @ w) + error <= bound).all()


def test_a_batch_is_verified_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = he_weights(Config("x", (8, "M") * 5, ()), 0)
    model = VGG(weights, device="cpu")
    x = weights.preset.normalize(pixels(3, 160, 160))
    together = verify(model, weights, x)
    monkeypatch.setattr("vgg_cuda.verification.MAX_IMAGES", 1)
    parts = verify(model, weights, x)
    assert parts.ok
    for a, b in zip(parts.rows, together.rows, strict=True):
        assert (a.shape, a.elements, a.kernels) == (b.shape, b.elements, b.kernels)

    amounts = [1, 1000, 1]  # one batch after the other

    def alter(y: np.ndarray) -> None:
        y[-1, 0, 0, 0] += amounts.pop()

    altered: Any = Altered(model, pool2=alter)
    bad = verify(altered, weights, x).first_bad
    assert bad
    assert (bad.tap, bad.counts["wrong"], bad.worst.index) == ("pool2", 3, (1, 0, 0, 0))


@pytest.mark.emulator
def test_a_batch_that_is_split_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_plain_forward_and_a_graph_must_give_the_layers_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Layer by layer nothing is wrong: only they have tensors that share memory."""
    from vgg_cuda.forward import planned

    weights = he_weights(SMALL, 3)
    model = VGG(weights, device="emulator", dtype="float16")
    x = he_input(weights, 32, 32)
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


def he_input(weights: Weights, h: int, w: int) -> np.ndarray:
    return weights.preset.normalize(pixels(1, h, w))


# ---- What is wrong is found, and the layer is named ----


def one_tap(w: Weights) -> Weights:
    conv = w.tensors["conv3_1.weight"].copy()
    conv[5, 1, 2, 3] *= 1.5
    return changed(w, conv3_1_weight=conv)


def wrong_bias(w: Weights) -> Weights:
    bias = w.tensors["conv4_1.bias"].copy()
    bias[-1] += 0.02
    return changed(w, conv4_1_bias=bias)


def lost_row(w: Weights) -> Weights:
    dense = w.tensors["fc7.weight"].copy()
    dense[-1] = 0
    return changed(w, fc7_weight=dense)


def last_channel_lost(w: Weights) -> Weights:
    """As a loop that ends one block too early does."""
    conv = w.tensors["conv2_1.weight"].copy()
    conv[..., -1] = 0
    return changed(w, conv2_1_weight=conv)


FAULTS: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "one tap of a filter": (one_tap, "conv3_1"),
    "a bias": (wrong_bias, "conv4_1"),
    "a dense layer's last row": (lost_row, "fc7"),
    "the last channel": (last_channel_lost, "conv2_1"),
}


@pytest.mark.parametrize(("device", "dtype"), PLACES)
@pytest.mark.parametrize(("fault", "layer"), FAULTS.values(), ids=FAULTS.keys())
def test_faulty_weights(
    device: str, dtype: str, fault: Callable[[Weights], Weights], layer: str
) -> None:
    weights = he_weights(SMALL, 1)
    model = VGG(fault(weights), device=device, dtype=dtype)
    found = verify(model, weights, he_input(weights, 40, 64))
    assert found.first_bad, found.table()
    assert found.first_bad.name.startswith(layer)
    assert found.first_bad.verdict == "wrong"
    assert found.first_bad.of_bound > 1
    # the layers behind are right: they are judged by their own input
    assert [row.verdict for row in found.rows].count("wrong") == 1


class Altered:
    """A model whose results are altered where ``taps`` says."""

    def __init__(self, model: VGG, **taps: Callable[[np.ndarray], None]) -> None:
        self._model, self._taps = model, taps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def features(self, x: Any, layers: list[str]) -> dict[str, np.ndarray]:
        found = {name: y.copy() for name, y in self._model.features(x, layers).items()}
        for tap, alter in self._taps.items():
            if tap in found:
                alter(found[tap])
        return found


def first_bad(device: str, dtype: str, **taps: Callable[[np.ndarray], None]) -> Any:
    weights = he_weights(SMALL, 2)
    model: Any = Altered(VGG(weights, device=device, dtype=dtype), **taps)
    return verify(model, weights, he_input(weights, 64, 80)).first_bad


@pytest.mark.parametrize(("device", "dtype"), PLACES)
def test_one_element_that_is_not_finite(device: str, dtype: str) -> None:
    def plant(value: float) -> Callable[[np.ndarray], None]:
        def alter(y: np.ndarray) -> None:
            y[0, 3, 4, 5] = value

        return alter

    for value in (np.nan, np.inf):
        bad = first_bad(device, dtype, pool1=plant(value))
        assert (bad.tap, bad.verdict, bad.counts["not finite"]) == ("pool1", "not finite", 1)
        assert bad.worst.index == (0, 3, 4, 5)
    bad = first_bad(device, dtype, pool1=plant(-1.0))  # no ReLU gives that
    assert (bad.tap, bad.verdict, bad.counts["wrong"]) == ("pool1", "wrong", 1)


@pytest.mark.parametrize(("device", "dtype"), PLACES)
def test_a_relu_that_was_left_out(device: str, dtype: str) -> None:
    weights = he_weights(SMALL, 2)
    model = VGG(weights, device=device, dtype=dtype)
    raw = model.features(he_input(weights, 64, 80), "conv1_1")["conv1_1"]

    def alter(y: np.ndarray) -> None:
        y[...] = raw

    bad = first_bad(device, dtype, relu1_1=alter)
    assert (bad.tap, bad.verdict) == ("relu1_1", "wrong")
    assert bad.counts["wrong"] == (raw < 0).sum()


@pytest.mark.parametrize("tap", ["relu1_1", "pool1", "pool3", "relu6", "fc8"])
@pytest.mark.parametrize(("device", "dtype"), EMULATED_16BIT)
def test_one_element_four_ulp_off(device: str, dtype: str, tap: str) -> None:
    """In any layer; in float32, sums may be that much off."""
    where = []

    def alter(y: np.ndarray) -> None:
        at = np.unravel_index(int(np.abs(y.astype(np.float32)).argmax()), y.shape)
        where.append(tuple(int(i) for i in at))
        bits = y.view(f"u{y.itemsize}")
        bits[at] += 4

    bad = first_bad(device, dtype, **{tap: alter})
    assert (bad.tap, bad.verdict, bad.counts["wrong"]) == (tap, "wrong", 1)
    assert bad.worst.index == where[0]
    assert bad.worst.bound < abs(bad.worst.got - bad.worst.expected)


@pytest.mark.parametrize(("device", "dtype"), EMULATED)
def test_copies_are_held_to_the_bit(device: str, dtype: str) -> None:
    """A pool alone and an average of one pixel each round nothing."""
    weights = he_weights(Config("x", (8, "M", "M", 16, "M", "M", "M"), (6,)), 0)

    def alter(y: np.ndarray) -> None:
        y.view(f"u{y.itemsize}")[0, 0, 0, 0] += 1

    model: Any = Altered(VGG(weights, device=device, dtype=dtype), pool2=alter)
    found = verify(model, weights, he_input(weights, 64, 64))
    assert found.first_bad
    assert found.first_bad.tap == "pool2"


@pytest.mark.emulator
def test_overflow_of_float16() -> None:
    weights = he_weights(SMALL, 1)
    large = changed(weights, conv2_1_weight=weights.tensors["conv2_1.weight"] * 1e5)
    x = he_input(large, 32, 32)
    found = verify(VGG(large, device="emulator", dtype="float16"), large, x)
    assert found.first_bad
    assert found.first_bad.tap == "pool2"
    assert found.first_bad.verdict == "overflow"
    for word in ("65504", "bfloat16 or float32"):
        assert word in found.sentence()
    assert all(row.verdict != "wrong" for row in found.rows), found.table()
    assert verify(VGG(large, device="emulator", dtype="bfloat16"), large, x).ok
    huge = changed(weights, conv2_1_weight=weights.tensors["conv2_1.weight"] * 1e6)
    found = verify(VGG(huge, device="emulator", dtype="float16"), huge, x)
    assert found.first_bad
    assert found.first_bad.verdict == "overflow"
    assert "of its weights are beyond float16's largest number" in found.sentence()


# ---- The bounds ----


def truncated_sums(a: np.ndarray, w: np.ndarray, terms: int) -> np.ndarray:
    """a [M,K] w [K,N] as the worst known tensor core adds: V100's, ``terms`` products at a time."""

    def grid(x: np.ndarray) -> np.ndarray:
        return np.ldexp(1.0, np.frexp(x)[1] - 24)

    total = np.zeros((len(a), w.shape[1]))
    for k in range(0, len(w), terms):
        products = a[:, k : k + terms].T[:, :, None] * w[k : k + terms][:, None]
        addends = np.concatenate([products, total[None]])
        step = grid(np.abs(addends).max(axis=0))
        total = (np.trunc(addends / step) * step).sum(axis=0)
        step = grid(total)
        total = np.trunc(total / step) * step
    return total


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "tf32"])
@pytest.mark.parametrize("terms", [4, 8, 16])
@pytest.mark.parametrize("sign", [np.copy, np.abs], ids=["both signs", "positive"])
def test_bounds_of_tensor_cores_hold_where_they_truncate(
    dtype: str, terms: int, sign: Callable[[np.ndarray], np.ndarray]
) -> None:
    rng = np.random.default_rng(0)
    gemm_k = 2304
    a = as_operand(sign(rng.standard_normal((24, gemm_k))), dtype).astype(np.float64)
    w = as_operand(sign(rng.standard_normal((gemm_k, 40))), dtype).astype(np.float64)
    error = np.abs(truncated_sums(a, w, terms) - a @ w)
    bound = in_order(a, w, Order(gemm_k, gemm_k, 2 * (MMA_K + MMA_K // 4)))
    assert (error <= bound).all()
    naive = (np.abs(a) @ np.abs(w)) * gemm_k * 2 * U
    assert (bound < naive).all()
    if sign is np.copy:
        assert np.median(bound / naive) < 0.1  # what following the sums is for


@pytest.mark.parametrize(
    ("apart", "how"),
    [
        (1, {"split_k": 1, "partial_sum": 0}),
        (16, {"split_k": 1, "partial_sum": 16}),
        (16, {"split_k": 64, "partial_sum": 0}),
    ],
    ids=["a chain", "partial sums", "splits"],
)
def test_bounds_of_ffma_are_nearly_reached(apart: int, how: dict[str, int]) -> None:
    """1 + 2^-24 is 1, to even: every addition of that loses as much as it may."""
    gemm_k = 1024
    tiling = {"gemm_k": gemm_k, "steps": 1, "block_k": 16, **how}
    a = np.zeros((1, gemm_k))
    a[0, ::apart] = 2.0**-24
    a[0, 0] = 1
    w = np.ones((gemm_k, 1))
    error = float(abs(accumulate(a, w.T, tiling) - a @ w)[0, 0])
    bound = float(in_order(a, w, Order.of_tiling(tiling, tensor_cores=False))[0, 0])
    assert error <= bound < error + 17 * U  # the chain of 16 that the 1 is in


@pytest.mark.parametrize("terms", [4, 8, 16])
def test_bounds_of_tensor_cores_are_nearly_reached(terms: int) -> None:
    """What is less than the last digit of the sum so far is lost: twice of what rounding loses."""
    gemm_k = 1024
    tiling = {"gemm_k": gemm_k, "split_k": 1, "steps": 1, "block_k": 32, "partial_sum": 0}
    a, w = np.full((1, gemm_k), 2.0**-12), np.full((gemm_k, 1), 2.0**-11 * (1 - 2.0**-11))
    a[0, 0], w[0, 0] = 1, 1
    error = float(abs(truncated_sums(a, w, terms) - a @ w)[0, 0])
    bound = float(in_order(a, w, Order.of_tiling(tiling, tensor_cores=True))[0, 0])
    # the worst core also truncates its results, once every four products: here they are exact
    assert error <= bound < 1.01 * error * 5 / 4


def test_bounds_of_winograd_are_reached_by_the_worst_roundings() -> None:
    """Every intermediate result off by as much as it may be, in the worst direction."""
    rng = np.random.default_rng(0)
    c, at = 40, (2, 1)
    x, w = rng.standard_normal((4, 4, c)), rng.standard_normal((1, 3, 3, c))
    bound = winograd_bound(x, w)[at][0]
    into, out_of = winograd.INPUT_TRANSFORM.astype(float), winograd.OUTPUT_TRANSFORM.astype(float)
    d = np.pad(x, ((1, 1), (1, 1), (0, 0))).reshape(36, c)
    u = winograd.FILTER_TRANSFORM @ w[0].reshape(9, c)
    row = out_of[at[0] * 4 + at[1]]
    exact = float(row @ ((into @ d) * u).sum(axis=1))
    assert exact == pytest.approx(float(reference.conv3x3(x[None], w)[0][at][0]))
    worst = np.sign(row)[:, None] * np.sign(u)  # the direction that increases the result
    v = into @ d + worst * 16 * U * (np.abs(into) @ np.abs(d))  # 4 x 4 terms of a row of B^T d B
    m = v * u
    m += np.sign(row)[:, None] * np.abs(m) * (1 + c + 25) * U  # U, channels, 5 x 5 of A^T m A
    error = float(row @ m.sum(axis=1)) - exact
    assert 0.9 * bound < error <= bound


@pytest.mark.parametrize("split_k", [1, 3])
@pytest.mark.parametrize("partial_sum", [0, 64])
@pytest.mark.parametrize("gemm_k", [27, 500, 1152])
def test_bounds_of_ffma_hold(gemm_k: int, partial_sum: int, split_k: int) -> None:
    rng = np.random.default_rng(gemm_k)
    a = rng.standard_normal((30, gemm_k)).astype(np.float32)
    w = np.abs(rng.standard_normal((gemm_k, 20)).astype(np.float32))
    steps_ = -(-gemm_k // (16 * split_k))
    tiling = {
        "gemm_k": gemm_k, "split_k": split_k, "steps": steps_, "block_k": 16,
        "partial_sum": partial_sum,
    }  # fmt: skip
    a64, w64 = a.astype(np.float64), w.astype(np.float64)
    error = np.abs(accumulate(a, w.T, tiling) - a64 @ w64)
    bound = in_order(a64, w64, Order.of_tiling(tiling, tensor_cores=False))
    assert (error <= bound).all()
    assert (error > 0).any()


@pytest.mark.parametrize(("device", "dtype"), EMULATED)
def test_one_lost_product_is_found(device: str, dtype: str) -> None:
    """One of GEMM_K = 1152, of median size; in bfloat16, whose last digit is more, the largest."""
    config = Config("x", (16, "M", 128, "M", 64, "M", "M", "M"), ())
    weights = he_weights(config, 0)
    model = VGG(weights, device=device, dtype=dtype)
    x = he_input(weights, 64, 64)
    taps = model.features(x, ["pool2", "pool3"])
    w = as_operand(weights.tensors["conv3_1.weight"], dtype).astype(np.float64)

    def alter(y: np.ndarray) -> None:
        at = tuple(int(i) for i in np.unravel_index(int(y.astype(np.float32).argmax()), y.shape))
        _, p, q, k = at
        before = np.pad(taps["pool2"][0].astype(np.float64), ((1, 1), (1, 1), (0, 0)))
        windows = [
            before[2 * p + i : 2 * p + i + 3, 2 * q + j : 2 * q + j + 3] * w[k]
            for i in (0, 1)
            for j in (0, 1)
        ]
        largest = max(windows, key=lambda products: products.sum())
        sizes = np.abs(largest[largest != 0])
        lost = float(sizes.max() if dtype == "bfloat16" else np.median(sizes))
        y[at] = (y[at].astype(np.float64) - lost).astype(numpy_dtype(dtype))

    altered: Any = Altered(model, pool3=alter)
    bad = verify(altered, weights, x).first_bad
    assert (bad.tap, bad.counts["wrong"]) == ("pool3", 1)


# ---- Numbers ----


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_what_rounds_to_a_number(dtype: str) -> None:
    kind = numpy_dtype(dtype)
    bits = np.dtype(f"u{kind.itemsize}")
    rng = np.random.default_rng(0)
    infinity = int(np.array(np.inf).astype(kind).view(bits))
    chosen = [0, 1, 2, infinity - 2, infinity - 1, infinity]
    chosen += [int(np.array(v).astype(kind).view(bits)) for v in (1, 2, 0.5, 2.0**-14)]
    chosen += list(rng.integers(0, infinity, 1000))
    magnitude = np.array(chosen, bits)
    y = np.concatenate([magnitude, magnitude | bits.type(1 << (8 * bits.itemsize - 1))]).view(kind)
    low, high = rounded_from(y)
    assert (low <= y.astype(np.float64)).all()
    assert (y.astype(np.float64) <= high).all()
    with np.errstate(over="ignore", invalid="ignore"):
        for edge, other in ((low, high), (high, low)):
            away = np.where(
                np.isinf(edge),
                np.nan,
                edge - 1e-3 * (np.where(np.isinf(other), 2 * edge, other) - edge),
            )
            inside = np.where(np.isinf(edge), y.astype(np.float64), 2 * edge - away)
            np.testing.assert_array_equal(
                inside.astype(kind).astype(np.float64), y.astype(np.float64)
            )
            outside = away.astype(kind).astype(np.float64) != y.astype(np.float64)
            assert outside.all()
    assert np.isnan(rounded_from(np.array([np.nan]).astype(kind))).all()


def test_tf32_is_rounded_away_from_zero_at_ties() -> None:
    last = 2.0**-10
    given = [1, 1 + last / 2, 1 + last / 2 - 2.0**-23, 1 + last, -1 - last / 2, 0, 3e38, np.inf]
    expected = [1, 1 + last, 1, 1 + last, -1 - last, 0, 2.9996294e38, np.inf]
    found = as_operand(np.array(given, np.float32), "tf32")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:6], expected[:6])
    assert found[7] == np.inf
    assert abs(found[6] - 3e38) <= 3e38 * last / 2
    assert np.isinf(as_operand(np.array([3.4028235e38], np.float32), "tf32")).all()
    assert np.isnan(as_operand(np.array([np.nan], np.float32), "tf32")).all()
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    rounded = as_operand(values, "tf32")
    assert not (rounded.view(np.uint32) & 0x1FFF).any()
    assert (np.abs(rounded - values) <= np.abs(values) * last / 2).all()


# ---- Calls ----


def test_calls_that_make_no_sense() -> None:
    weights = he_weights(SMALL, 0)
    model = VGG(weights, device="cpu")
    x = he_input(weights, 32, 32)
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


# ---- The command ----

RUNNER = CliRunner()


def run(*args: object) -> Any:
    return RUNNER.invoke(app, ["verify", *(str(arg) for arg in args)])


def test_the_command_passes_what_is_right() -> None:
    result = run("--device", "cpu")
    assert result.exit_code == 0, result.output
    first, *_, last = result.stdout.splitlines()
    assert first == "digits: float32 on cpu; 1 image of 32x32, float32"
    assert last == "all 15 layers are within their bounds"
    result = run("--device", "cpu", "--size", 40, "--batch-size", 3, "--uint8")
    assert result.stdout.splitlines()[0].endswith("3 images of 40x40, uint8")


@pytest.mark.parametrize(("device", "dtype"), PLACES)
def test_json(device: str, dtype: str) -> None:
    result = run("--device", device, "--dtype", dtype, "--json", "--seed", 7)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout, parse_constant=pytest.fail)
    assert found["vgg_cuda"] == vgg_cuda.__version__
    assert found["commit"] == _C.commit()
    expected = {
        "device": device, "dtype": dtype, "seed": 7, "first_bad": None, "verdict": "ok",
        "arch": None if device == "cpu" else "sm_80", "images": 1, "sizes": [[32, 32]],
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert len(found["layers"]) == 15
    for layer in found["layers"]:
        assert layer.keys() == {
            "layer", "shape", "kernels", "relative_l2", "since_input", "of_bound", "worst",
            "counts", "verdict",
        }  # fmt: skip
        assert layer["worst"].keys() == {"index", "got", "expected", "bound"}
        assert len(layer["worst"]["index"]) == len(layer["shape"])


def test_the_command_exits_with_1_for_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    import vgg_cuda.cli.verify as command

    def faulty(weights: Weights, **where: Any) -> VGG:
        conv = weights.tensors["conv3_2.weight"].copy()
        conv[3, 0, 0, 0] += 1
        return VGG(changed(weights, conv3_2_weight=conv), **where)

    monkeypatch.setattr(command, "VGG", faulty)
    result = run("--device", "cpu")
    assert result.exit_code == 1
    assert "first bad layer: conv3_2 relu3_2 pool3: " in result.stdout.splitlines()[-1]
    assert " elements are beyond what rounding explains; the worst at [0, " in result.stdout
    result = run("--device", "cpu", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["first_bad"], found["verdict"]) == ("conv3_2 relu3_2 pool3", "wrong")

    def lost(weights: Weights, **where: Any) -> Any:
        def alter(y: np.ndarray) -> None:
            y[...] = np.nan

        return Altered(VGG(weights, **where), relu1_1=alter)

    monkeypatch.setattr(command, "VGG", lost)
    found = json.loads(run("--device", "cpu", "--json").stdout, parse_constant=pytest.fail)
    assert found["verdict"] == "not finite"
    first = found["layers"][0]
    assert first["worst"]["got"] == first["relative_l2"] == "nan"
    assert first["of_bound"] == "inf"


@pytest.mark.emulator
def test_kernels_of_another_architecture() -> None:
    result = run("--device", "emulator", "--arch", "sm_90", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["arch"] == "sm_90"


def test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for i, (h, w) in enumerate([(40, 50), (33, 90), (64, 64)]):
        Image.fromarray(pixels(1, h, w, i)[0]).save(f"{i}.png")
    for options in ((), ("--uint8",)):
        result = run(*options, "--device", "cpu", "--batch-size", 2, "0.png", ".")
        assert result.exit_code == 0, result.output
        assert "4 images of 32x32" in result.stdout
    # a preset that keeps sizes: batches of one size each
    weights = replace(load_weights("digits"), preset=vgg_cuda.PRESETS["lpips"])
    save(weights, "keeps.safetensors")
    for options in ((), ("--uint8",)):
        result = run(*options, "--device", "cpu", "--weights", "keeps.safetensors", ".")
        assert result.exit_code == 0, result.output
        assert "3 images of 40x50, 33x90, 64x64" in result.stdout


MISTAKES: dict[str, tuple[list[str], str]] = {
    "device": (["--device", "tpu"], "got 'tpu'"),
    "dtype": (
        ["--device", "cpu", "--dtype", "float16"],
        "expected float32 on cpu, got 'float16'",
    ),
    "arch on the CPU": (
        ["--device", "cpu", "--arch", "sm_80"],
        "arch: expected None on the cpu",
    ),
    "network": (["--network", "vgg15"], "expected one of vgg11, vgg13, vgg16, vgg19"),
    "both": (["--network", "vgg11", "--weights", "digits"], "expected one of them, got both"),
    "size": (["--size", "31"], "--size: expected H and W >= 32"),
    "size of images": (["--size", "40", "a.png"], "--size: expected none for images"),
    "no image": (["bad.png"], "bad.png: expected an image"),
    "no file": (["gone.png"], "no such file or folder: 'gone.png'"),
    "weights": (["--weights", "gone"], "no weights at 'gone'"),
    "seed": (["--seed", "-1"], "--seed"),
    "batch size": (["--batch-size", "0"], "--batch-size"),
}


@pytest.mark.parametrize(("args", "text"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_exit_with_2(
    args: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 40)).save("a.png")
    Path("bad.png").write_text("text")
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert text in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output
