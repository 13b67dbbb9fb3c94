"""Whole networks on the emulator, against float64.

The bound is derived: twice the error of the same network in NumPy, with the results of every layer
rounded to the same dtype.
"""

from __future__ import annotations

import time
from functools import lru_cache

import numpy as np
import pytest
from support.kernel_cases import precisions
from support.kernel_reference import FACTOR, draw, numpy_dtype, rounded_forward
from support.tolerance import LOGITS, relative_l2

from vgg_cuda import VGG, ops, reference
from vgg_cuda.backends import recording
from vgg_cuda.configs import Config, get_config
from vgg_cuda.weights import Weights, he_weights, load_weights

pytestmark = pytest.mark.emulator

SMALL_HEAD = (256, 256, 1000)  # cases of the slow set have the published head


def check(weights: Weights, x: np.ndarray, dtype: str, arch: str = "sm_80") -> None:
    model = VGG(weights, device="emulator", dtype=dtype, arch=arch)
    expected = reference.forward(weights, x)
    same = rounded_forward(weights, x, dtype)
    found = model.features(x, list(same))
    for tap, y in found.items():
        assert y.dtype == numpy_dtype(dtype)
        bound = FACTOR * relative_l2(same[tap], expected[tap]) + np.finfo(np.float32).eps
        error = relative_l2(y, expected[tap])
        assert error <= bound, f"{tap}: relative L2 {error:.2e}, {error / bound:.2f} of the bound"
    logits = weights.config.dense[-1].name
    if weights.activation is None:
        assert model(x).tobytes() == found[logits].tobytes()  # fused pools change no bit


@lru_cache(maxsize=1)
def he(name: str, published_head: bool = False) -> Weights:
    config = get_config(name)
    if not published_head:
        config = Config(config.name, config.widths, SMALL_HEAD)
    return he_weights(config, 5)


@pytest.mark.parametrize(
    ("name", "dtype", "published_head"),
    [
        ("vgg11", "float16", False),
        ("vgg11", "float32", False),
        ("vgg11", "tf32", False),
        ("vgg16", "float16", False),
        pytest.param("vgg11", "float16", True, marks=pytest.mark.slow),
    ],
)
def test_network_of_32x32_pixels(name: str, dtype: str, published_head: bool) -> None:
    with ops.emulator_options(races=name == "vgg11"):
        check(he(name, published_head), draw((1, 32, 32, 3), "float32"), dtype)


@pytest.mark.parametrize("dtype", precisions())
def test_network_of_digits(dtype: str) -> None:
    weights = load_weights("digits")
    pixels = draw((3, 32, 32, 3), "uint8")
    check(weights, weights.preset.normalize(pixels), dtype)
    model, cpu = VGG(weights, device="emulator", dtype=dtype), VGG(weights, device="cpu")
    assert model.dtype == dtype
    fused = rounded_forward(weights, weights.preset.normalize(pixels), dtype)
    logits = weights.config.dense[-1].name
    y, expected = (m.features(pixels, logits)[logits] for m in (model, cpu))
    assert relative_l2(y, expected) <= FACTOR * relative_l2(fused[logits], expected) + LOGITS
    images = list(pixels)
    best = [[p.index for p in each] for each in model.classify(images, 1)]
    assert best == [[p.index for p in each] for each in cpu.classify(images, 1)]


SMALL = Config("small", (8, 16, "M", 16, "M", 24, "M", 24, "M", 32, "M"), (48, 48, 6))


def test_network_accepts_layouts_and_dtypes() -> None:
    model = VGG(he_weights(SMALL, 3), device="emulator")
    assert (model.device, model.dtype) == ("emulator", "float16")
    x = draw((2, 40, 36, 3), "float32")
    with recording() as launched:
        y = model(x)
    assert type(y) is np.ndarray
    assert y.dtype == np.float16
    assert launched[0]["plan"]["op"] == "conv3x3"  # no conversion comes first
    assert all(each["counters"] for each in launched)
    nchw = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    assert model(nchw, layout="NCHW").tobytes() == y.tobytes()
    assert model(x[:0]).shape == (0, 6)
    assert model(x.astype(np.float64)).shape == (2, 6)
    found = model.features(x, ["conv1_1", "relu1_1", "pool1", "fc6", "fc8"])
    assert found["fc8"].tobytes() == y.tobytes()
    np.testing.assert_array_equal(np.maximum(found["conv1_1"], 0), found["relu1_1"])
    weights = he_weights(SMALL, 3)
    other = VGG(weights, device="emulator", arch="sm_90", dtype="float32")
    exact = reference.forward(weights, x)["fc8"]
    for dtype, logits in (("float16", y), ("float32", other(x))):
        same = rounded_forward(weights, x, dtype)["fc8"]
        bound = FACTOR * relative_l2(same, exact) + np.finfo(np.float32).eps
        assert relative_l2(logits, exact) <= bound, dtype
    with recording() as launched:
        other(x)
    assert {each["plan"]["arch"] for each in launched} == {"sm_90"}
    with pytest.raises(ValueError, match=r"arch.*sm_80.*'sm_1'"):
        VGG.load("digits", device="emulator", arch="sm_1")
    with pytest.raises(ValueError, match=r"dtype: expected float16 .*, got 'float64'"):
        VGG.load("digits", device="emulator", dtype="float64")


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "n"), [("sm_80", 1), ("sm_90a", 1), ("sm_90a", 8)])
def test_vgg16_of_224x224_pixels(arch: str, n: int) -> None:
    """Run 15.5 billion multiply-adds per image through the kernels' PTX, within two minutes."""
    started = time.monotonic()
    weights = he("vgg16", published_head=True)
    pixels = draw((n, 224, 224, 3), "uint8")
    model = VGG(weights, device="emulator", dtype="float16", arch=arch)
    with ops.emulator_options(races=False), recording() as launched:
        y = model(pixels)[[0, -1]]  # the first and the last are enough
    assert sum(each["plan"]["macs"] for each in launched) == n * 15_470_264_320
    if arch == "sm_90a":
        products = [each for each in launched if each["plan"]["macs"]]
        assert all(each["counters"]["wgmma"] > 0 for each in products)
    x = weights.preset.normalize(pixels[[0, -1]])
    expected = VGG(weights, device="cpu").features(x, ["fc8"])["fc8"]
    same = rounded_forward(weights, x, "float16")["fc8"]
    bound = FACTOR * relative_l2(same, expected) + LOGITS
    error = relative_l2(y, expected)
    assert error <= bound, f"relative L2 {error:.2e}, {error / bound:.2f} of the bound"
    took = time.monotonic() - started
    assert took <= 120, f"{took:.0f} s"
