"""Verification of faulty networks: the first faulty layer is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.kernel_reference import numpy_dtype
from support.verify_cases import (
    DEVICES_AND_DTYPES,
    EMULATED,
    SMALL,
    Altered,
    changed,
    network_input,
)

from vgg_cuda import VGG, verify
from vgg_cuda.configs import Config
from vgg_cuda.verification.operands import as_operand
from vgg_cuda.weights import Weights, he_weights


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
    """Return weights as a loop that ends one block too early would use them."""
    conv = w.tensors["conv2_1.weight"].copy()
    conv[..., -1] = 0
    return changed(w, conv2_1_weight=conv)


FAULTS: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "one tap of a filter": (one_tap, "conv3_1"),
    "a bias": (wrong_bias, "conv4_1"),
    "a dense layer's last row": (lost_row, "fc7"),
    "the last channel": (last_channel_lost, "conv2_1"),
}


@pytest.mark.parametrize(("device", "dtype"), DEVICES_AND_DTYPES)
@pytest.mark.parametrize(("fault", "layer"), FAULTS.values(), ids=FAULTS.keys())
def test_faulty_weights_name_the_layer(
    device: str, dtype: str, fault: Callable[[Weights], Weights], layer: str
) -> None:
    weights = he_weights(SMALL, 1)
    model = VGG(fault(weights), device=device, dtype=dtype)
    found = verify(model, weights, network_input(weights, 40, 64))
    assert found.first_bad, found.table()
    assert found.first_bad.name.startswith(layer)
    assert found.first_bad.verdict == "wrong"
    assert found.first_bad.of_bound > 1
    # later layers pass, because each is verified with its actual input
    assert [row.verdict for row in found.rows].count("wrong") == 1


def first_bad(device: str, dtype: str, **taps: Callable[[np.ndarray], None]) -> Any:
    weights = he_weights(SMALL, 2)
    model: Any = Altered(VGG(weights, device=device, dtype=dtype), **taps)
    return verify(model, weights, network_input(weights, 64, 80)).first_bad


@pytest.mark.parametrize(("device", "dtype"), DEVICES_AND_DTYPES)
def test_non_finite_element_is_found(device: str, dtype: str) -> None:
    def plant(value: float) -> Callable[[np.ndarray], None]:
        def alter(y: np.ndarray) -> None:
            y[0, 3, 4, 5] = value

        return alter

    for value in (np.nan, np.inf):
        bad = first_bad(device, dtype, pool1=plant(value))
        assert (bad.tap, bad.verdict, bad.counts["not finite"]) == ("pool1", "not finite", 1)
        assert bad.worst.index == (0, 3, 4, 5)
    bad = first_bad(device, dtype, pool1=plant(-1.0))  # a ReLU cannot return it
    assert (bad.tap, bad.verdict, bad.counts["wrong"]) == ("pool1", "wrong", 1)


@pytest.mark.parametrize(("device", "dtype"), DEVICES_AND_DTYPES)
def test_missing_relu_is_found(device: str, dtype: str) -> None:
    weights = he_weights(SMALL, 2)
    model = VGG(weights, device=device, dtype=dtype)
    raw = model.features(network_input(weights, 64, 80), "conv1_1")["conv1_1"]

    def alter(y: np.ndarray) -> None:
        y[...] = raw

    bad = first_bad(device, dtype, relu1_1=alter)
    assert (bad.tap, bad.verdict) == ("relu1_1", "wrong")
    assert bad.counts["wrong"] == (raw < 0).sum()


@pytest.mark.parametrize("tap", ["relu1_1", "pool1", "pool3", "relu6", "fc8"])
@pytest.mark.parametrize(("device", "dtype"), EMULATED[2:])
def test_element_four_ulp_off_is_found(device: str, dtype: str, tap: str) -> None:
    """Float32 is excluded, because its sums may differ by that much."""
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
def test_copied_values_must_be_exact(device: str, dtype: str) -> None:
    """A lone pool, and an average over single pixels, round nothing."""
    weights = he_weights(Config("x", (8, "M", "M", 16, "M", "M", "M"), (6,)), 0)

    def alter(y: np.ndarray) -> None:
        y.view(f"u{y.itemsize}")[0, 0, 0, 0] += 1

    model: Any = Altered(VGG(weights, device=device, dtype=dtype), pool2=alter)
    found = verify(model, weights, network_input(weights, 64, 64))
    assert found.first_bad
    assert found.first_bad.tap == "pool2"


@pytest.mark.emulator
def test_float16_overflow_is_reported() -> None:
    weights = he_weights(SMALL, 1)
    large = changed(weights, conv2_1_weight=weights.tensors["conv2_1.weight"] * 1e5)
    x = network_input(large, 32, 32)
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


@pytest.mark.parametrize(("device", "dtype"), EMULATED)
def test_missing_product_is_found(device: str, dtype: str) -> None:
    """One product of GEMM_K = 1152 is lost: a median one, for bfloat16 the largest."""
    config = Config("x", (16, "M", 128, "M", 64, "M", "M", "M"), ())
    weights = he_weights(config, 0)
    model = VGG(weights, device=device, dtype=dtype)
    x = network_input(weights, 64, 64)
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
