"""Networks as lists of layers: their weights and results, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.tolerance import LOGITS, relative_l2

from vgg_cuda import PRESETS, VGG, reference, verify
from vgg_cuda.weights import WeightsError, load_weights, save, save_onnx, save_torchvision
from vgg_cuda.weights.chain import to_weights
from vgg_cuda.weights.chain.layers import (
    AdaptiveAvgPool,
    BatchNorm,
    Conv3x3,
    Flatten,
    GlobalPool,
    Identity,
    Layer,
    Linear,
    MaxPool2x2,
    Relu,
    Softmax,
    UnsupportedError,
)
from vgg_cuda.weights.metadata import KEY, to_metadata

RNG = np.random.default_rng(0)


def conv(name: str, c: int, k: int, *, bias: bool = True) -> Conv3x3:
    w = RNG.standard_normal((k, 3, 3, c)) * np.sqrt(2 / (9 * c))
    return Conv3x3(name, w, RNG.standard_normal(k) * 0.1 if bias else None)


def linear(name: str, c: int, k: int) -> Linear:
    w = RNG.standard_normal((k, c)) * np.sqrt(2 / c)
    return Linear(name, w, RNG.standard_normal(k) * 0.1)


def norm(name: str, k: int, **other: Any) -> BatchNorm:
    parts = {"gamma": RNG.random(k) + 0.5, "beta": RNG.standard_normal(k)}
    parts |= {"mean": RNG.standard_normal(k), "variance": RNG.random(k) + 0.1}
    return BatchNorm(name, **(parts | {"epsilon": 1e-3} | other))


def run(layers: list[Layer], x: np.ndarray) -> np.ndarray:
    """Compute the layers one by one in float64, as their docstrings define them."""
    y: Any = x.astype(np.float64)
    for layer in layers:
        match layer:
            case Conv3x3():
                y = reference.conv3x3(y, layer.w, layer.bias)
            case BatchNorm():
                gamma = 1 if layer.gamma is None else layer.gamma
                beta = 0 if layer.beta is None else layer.beta
                y = (y - layer.mean) / np.sqrt(layer.variance + layer.epsilon) * gamma + beta
            case Relu():
                y = np.maximum(y, 0)
            case MaxPool2x2():
                y = reference.maxpool2x2(y)
            case AdaptiveAvgPool():
                y = reference.avgpool(y, layer.grid)
            case GlobalPool():
                y = y.mean(axis=(1, 2)) if layer.kind == "avg" else y.max(axis=(1, 2))
            case Flatten():
                order = (0, 1, 2, 3) if layer.order == "HWC" else (0, 3, 1, 2)
                y = y.transpose(order).reshape(len(y), -1) if y.ndim == 4 else y
            case Linear():
                y = reference.linear(y, layer.w, layer.bias)
            case Softmax():
                y = reference.softmax(y)
    return np.asarray(y)


SIGNED = np.array([1, -1, 0.5, -2, 0, 1, -1, 1.5])
BASE: list[Layer] = [conv("a", 3, 8), Relu("ra"), MaxPool2x2("pa")]
DEEP: list[Layer] = [*BASE, conv("b", 8, 16), Relu("rb"), MaxPool2x2("pb")]
NETWORKS: dict[str, tuple[list[Layer], tuple[int, int] | None, tuple[int, int]]] = {
    "flatten": ([*DEEP, Flatten("f", "HWC"), linear("d", 16 * 15, 4)], (20, 12), (20, 12)),
    "flatten-chw": ([*DEEP, Flatten("f", "CHW"), linear("d", 16 * 15, 4)], (20, 12), (20, 12)),
    "flatten-inferred": ([*DEEP, Flatten("f", "CHW"), linear("d", 144, 4)], None, (12, 12)),
    "flatten-odd": ([*DEEP, Flatten("f", "HWC"), linear("d", 16 * 15, 4)], (23, 13), (23, 13)),
    "softmax": (
        [*DEEP, GlobalPool("g", "avg"), linear("d", 16, 8), Relu("r"), Identity("drop"),
         linear("e", 8, 4), Softmax("s")], None, (21, 17)),
    "global-max": ([*DEEP, GlobalPool("g", "max"), Flatten("f", "HWC"), linear("d", 16, 4)],
                   None, (21, 17)),
    "global-avg-headless": ([*DEEP, GlobalPool("g", "avg")], None, (21, 17)),
    "global-max-headless": ([*BASE, GlobalPool("g", "max")], (8, 8), (21, 17)),
    "adaptive": ([*DEEP, AdaptiveAvgPool("p", 3), Flatten("f", "CHW"), linear("d", 144, 4)],
                 (32, 32), (21, 17)),
    "adaptive-headless": ([*DEEP, AdaptiveAvgPool("p", 2)], None, (21, 17)),
    "flatten-headless": ([*DEEP, Flatten("f", "HWC")], None, (21, 17)),
    "spatial": (list(DEEP), None, (21, 17)),
    "ends-in-conv": ([*BASE, conv("b", 8, 16)], None, (21, 17)),
    "ends-in-relu": ([*BASE, conv("b", 8, 16), Relu("rb")], None, (21, 17)),
    "no-pool": ([conv("a", 3, 8), Relu("r"), conv("b", 8, 4)], None, (1, 1)),
    "linear-conv-then-pool": (
        [conv("a", 3, 8), MaxPool2x2("p"), conv("b", 8, 8), Relu("r")], None, (9, 8)),
    "relu-after-pool": ([conv("a", 3, 8), MaxPool2x2("p"), Relu("late"), conv("b", 8, 8)],
                        None, (9, 8)),
    "two-pools": ([*BASE, MaxPool2x2("again"), conv("b", 8, 8), Relu("r")], None, (9, 8)),
    "batch-norm": (
        [conv("a", 3, 8, bias=False), norm("na", 8), Relu("ra"), MaxPool2x2("pa"),
         conv("b", 8, 8), norm("nb", 8, gamma=None, beta=None, epsilon=0.1), Relu("rb"),
         GlobalPool("g", "avg"), linear("d", 8, 6), norm("n2", 6), Relu("rd"),
         linear("e", 6, 4)], None, (9, 8)),
    "one-channel": ([conv("a", 1, 8), Relu("r"), MaxPool2x2("p"), Flatten("f", "HWC"),
                     linear("d", 8 * 16, 4)], (8, 8), (8, 8)),
    "ends-in-dense-relu": ([*DEEP, GlobalPool("g", "avg"), linear("d", 16, 8), Relu("r")],
                           None, (21, 17)),
    "dense-without-relu": (
        [*DEEP, GlobalPool("g", "avg"), linear("d", 16, 8), linear("e", 8, 4)], None, (21, 17)),
    "norm-before-convs": (
        [conv("a", 3, 8), Relu("ra"), norm("na", 8), conv("b", 8, 8), Relu("rb"), norm("nb", 8),
         MaxPool2x2("pb"), conv("c", 8, 6), Relu("rc"), norm("nc", 6), GlobalPool("g", "avg"),
         linear("d", 6, 4)], None, (9, 8)),
    "negative-norm-before-pools": (
        [conv("a", 3, 8), Relu("ra"), norm("na", 8, gamma=SIGNED), MaxPool2x2("pa"),
         norm("nb", 8), norm("nc", 8, gamma=SIGNED), conv("b", 8, 8), Relu("rb"),
         norm("nx", 8, gamma=SIGNED), GlobalPool("g", "max"), norm("ny", 8)], None, (9, 8)),
    "norm-last": ([*BASE, norm("n", 8), Flatten("f", "HWC")], None, (9, 8)),
    "norms-around-flatten": (
        [*BASE, norm("n", 8), Flatten("f", "CHW"), norm("m", 96), linear("d", 96, 4)],
        (8, 6), (8, 6)),
}  # fmt: skip
MAPS = {  # convolutions and pools that a scale and shift follows
    "norm-before-convs": ("conv1_1", "pool1"),  # the last one is part of the dense layer
    "negative-norm-before-pools": ("conv1_1", "pool1", "conv2_1"),
    "norm-last": ("pool1",),
    "norms-around-flatten": ("pool1",),
}


@pytest.mark.parametrize("device", ["cpu", pytest.param("emulator", marks=pytest.mark.emulator)])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_their_layers(name: str, device: str, tmp_path: Path) -> None:
    layers, input_size, size = NETWORKS[name]
    weights = to_weights(layers, source=name, input_size=input_size)
    x = RNG.standard_normal((2, *size, weights.config.in_channels)).astype(np.float32)
    expected = run(layers, x)
    model = VGG(weights, device=device, dtype="float32")
    y = model(x)
    assert y.shape == expected.shape
    assert relative_l2(y, expected) < LOGITS
    assert weights.config.affine_after == MAPS.get(name, ())
    taps = model.features(x, weights.config.last)[weights.config.last]
    if not weights.activation:
        assert np.array_equal(taps.reshape(y.shape), y)
    assert verify(model, weights, x).ok
    if device == "emulator":
        assert np.array_equal(model.capture(x.shape)(x), y)
    save(weights, tmp_path / "w.safetensors")
    again = load_weights(tmp_path / "w.safetensors")
    assert again.config == weights.config
    assert again.activation == weights.activation
    assert np.array_equal(VGG(again, device=device, dtype="float32")(x), y)
    if device == "emulator" and name in MAPS:  # every step within its bounds
        found = verify(VGG(weights, device=device, dtype="float16"), weights, x)
        assert found.ok, found.table()


def test_taps_of_an_unusual_network() -> None:
    layers = NETWORKS["linear-conv-then-pool"][0]
    weights = to_weights(layers, source="taps")
    x = RNG.standard_normal((1, 9, 8, 3)).astype(np.float32)
    expected = reference.forward(weights, x)
    assert list(expected) == ["conv1_1", "pool1", "conv2_1", "relu2_1"]
    found = VGG(weights, device="cpu").features(x, list(expected))
    for tap, y in expected.items():
        assert relative_l2(found[tap], y) < LOGITS, tap


def test_dense_layers_on_pixels_take_one_grid() -> None:
    layers, size, _ = NETWORKS["flatten"]
    model = VGG(to_weights(layers, source="m", input_size=size), device="cpu")
    text = r"expected H from 20 to 23 and W from 12 to 15 \(.*5 x 3.*got H = 12 and W = 20"
    with pytest.raises(ValueError, match=text):
        model(np.zeros((1, 12, 20, 3), np.float32))
    with pytest.raises(ValueError, match="size: expected H from 20 to 23"):
        model.summary(32)
    assert "20x12x3" in model.summary()
    x = RNG.standard_normal((1, 23, 14, 3)).astype(np.float32)
    assert relative_l2(model(x), run(layers, x)) < LOGITS


def test_pools_that_round_up_take_one_size(tmp_path: Path) -> None:
    layers, size, _ = NETWORKS["flatten"]
    layers = [replace(x, even_only=True) if isinstance(x, MaxPool2x2) else x for x in layers]
    weights = to_weights(layers, source="m", input_size=size)
    save(weights, tmp_path / "w")
    save_onnx(weights, tmp_path / "w.onnx")
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=r"expected H = 20 and W = 12 .*got H = 21"):
            VGG.load(path, device="cpu")(np.zeros((1, 21, 12, 3), np.float32))


def test_adaptive_pool_takes_any_size() -> None:
    layers, size, _ = NETWORKS["adaptive"]
    assert to_weights(layers, source="m", input_size=size).config.input_size is None


def test_uint8_images_need_three_channels() -> None:
    layers, size, _ = NETWORKS["one-channel"]
    model = VGG(to_weights(layers, source="m", input_size=size), device="cpu")
    with pytest.raises(TypeError, match="expected a floating-point array"):
        model(np.zeros((1, 8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match=r"\[N, H, W, 1\] \(NHWC\), got \(1, 8, 8, 3\)"):
        model(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(ValueError, match="expected a network with 3 input channels, got one"):
        model.classify(np.zeros((8, 8, 3), np.uint8))


def test_preset_is_fitted_to_the_only_size() -> None:
    square = [*DEEP, Flatten("f", "HWC"), linear("d", 16 * 16 * 16, 4)]
    for preset, size, crop in (("torchvision", 73, 64), ("keras", (64, 64), None)):
        found = to_weights(square, source="m", input_size=(64, 64), preset=PRESETS[preset]).preset
        assert found == replace(PRESETS[preset], resize=size, crop=crop)
    layers, size, _ = NETWORKS["flatten"]
    oblong = to_weights(layers, source="m", input_size=size).preset
    assert (oblong.resize, oblong.crop) == ((20, 12), None)


def test_published_networks_are_recognised() -> None:
    widths = [8, 8, "M", 16, 16, "M", 24, 24, 24, "M", 32, 32, 32, "M", 32, 32, 32, "M"]
    layers: list[Layer] = []
    c = 3
    for i, k in enumerate(widths):
        if isinstance(k, str):
            layers.append(MaxPool2x2(f"p{i}"))
        else:
            layers += [conv(f"c{i}", c, k), Relu(f"r{i}")]
            c = k
    narrow = to_weights([*layers, AdaptiveAvgPool("p", 7), Flatten("f", "CHW"),
                         linear("d", 7 * 7 * 32, 8)], source="m")  # fmt: skip
    assert narrow.config.name == "vgg"
    assert narrow.config.pooling is None
    assert narrow.labels is None


def refuse(layers: list[Layer], **options: Any) -> Callable[[], Any]:
    return lambda: to_weights(layers, source="model.x", **options)


HEAD: list[Layer] = [GlobalPool("g", "avg"), linear("d", 16, 4)]
REFUSED = {
    "empty": (refuse([]), "expected 3x3 convolutions, found none"),
    "dense-first": (refuse([linear("d", 4, 4)]), "d: expected a 3x3 convolution first"),
    "pool-first": (refuse([MaxPool2x2("p"), *DEEP]), "p: expected a 3x3 convolution first, got"),
    "flatten-first": (refuse([Flatten("f", "HWC"), *DEEP]), "f: expected a 3x3 convolution first"),
    "dense-without-flatten": (
        refuse([*DEEP, linear("d", 16, 4)]), "d: expected Flatten or a global pool before"),
    "norm-after-last-relu": (
        refuse([*DEEP, *HEAD, Relu("r"), norm("n", 4)]),
        r"n: expected a convolution or .* right before.*, got a batch norm after r \(a ReLU\)"),
    "norm-before-softmax": (
        refuse([*DEEP, *HEAD, Relu("r"), norm("n", 4), Softmax("s")]), r"n: expected .* before s"),
    "norm-before-relu": (
        refuse([*BASE, norm("n", 8), Relu("late")]), r"n: expected .* and before late \(a ReLU\)"),
    "norm-pool-relu": (
        refuse([*BASE[:2], norm("n", 8, gamma=SIGNED), MaxPool2x2("p"), Relu("late")]),
        "late: expected a convolution between a scale and shift and a ReLU, got a ReLU after p"),
    "negative-norm-after-maximum": (
        refuse([*BASE, GlobalPool("g", "max"), norm("n", 8, gamma=SIGNED)]),
        r"n: expected .* got a batch norm after g \(a global max pool\) and at the end"),
    "conv-after-global-pool": (refuse([*DEEP, *HEAD[:1], conv("c", 16, 4)]), "c: expected dense"),
    "conv-after-dense": (refuse([*DEEP, *HEAD, conv("c", 4, 4)]), "c: expected dense layers"),
    "two-global-pools": (refuse([*DEEP, HEAD[0], GlobalPool("h", "max")]), "h: expected dense"),
    "relu-after-average": (
        refuse([conv("a", 3, 8), GlobalPool("g", "avg"), Relu("r")]), "a ReLU before the average"),
    "flatten-chw-headless": (
        refuse([*DEEP, Flatten("f", "CHW")]),
        "expected a dense layer after Flatten",
    ),
    "after-softmax": (
        refuse([*DEEP, *HEAD, Softmax("s"), linear("e", 4, 4)]), "e: expected nothing after"),
    "softmax-of-pixels": (refuse([*DEEP, Softmax("s")]), "s: expected a softmax right after"),
    "softmax-of-relu": (
        refuse([*DEEP, *HEAD, Relu("r"), Softmax("s")]), "s: expected a softmax right after"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_order_names_the_layer(name: str) -> None:
    call, text = REFUSED[name]
    with pytest.raises(UnsupportedError, match=f"model.x: .*{text}|model.x: {text}") as caught:
        call()
    assert "\n" not in str(caught.value)


MISSHAPEN = {
    "kernel": ([Conv3x3("a", np.zeros((8, 5, 5, 3)))], {}, r"a: kernel: expected \[K, 3, 3, C\]"),
    "channels": ([*BASE, conv("b", 9, 4)], {}, r"b: kernel: expected \[K, 3, 3, 8\], got \[4,"),
    "bias": ([Conv3x3("a", np.zeros((8, 3, 3, 3)), np.zeros(7))], {}, r"a: bias: expected \[8\]"),
    "no-filters": ([Conv3x3("a", np.zeros((0, 3, 3, 3)))], {}, "at least one element"),
    "dense": ([*DEEP, *HEAD, linear("e", 5, 4)], {}, r"e: weight: expected \[K, 4\], got \[4, 5\]"),
    "norm": ([conv("a", 3, 8), norm("n", 7)], {}, r"n: mean: expected \[8\], got \[7\]"),
    "variance": (
        [conv("a", 3, 2), norm("n", 2, variance=np.array([1.0, -1.0]))], {}, "n: expected epsilon"),
    "epsilon": ([conv("a", 3, 2), norm("n", 2, epsilon=0.0)], {}, "n: expected epsilon > 0"),
    "norm-nan": (
        [conv("a", 3, 2), norm("n", 2, mean=np.array([np.nan, 0.0]))], {}, "n: mean: .*finite"),
    "nan": ([Conv3x3("a", np.full((2, 3, 3, 3), np.nan))], {}, "a: weight: expected finite"),
    "overflow": ([Conv3x3("a", np.full((2, 3, 3, 3), 1e300))], {}, "a: weight: expected finite"),
    "size": (
        [*DEEP, Flatten("f", "HWC"), linear("d", 16 * 15, 4)], {"input_size": (20, 20)},
        r"d: expected \[K, 400\] for 16 channels of 5 x 5 pixels of images of 20 x 20, got"),
    "no-square": ([*DEEP, Flatten("f", "HWC"), linear("d", 16 * 15, 4)], {}, "square grid"),
    "adaptive": (
        [*DEEP, AdaptiveAvgPool("p", 2), Flatten("f", "HWC"), linear("d", 65, 4)], {},
        r"d: expected \[K, 64\] for 16 channels of 2 x 2 cells"),
    "labels": ([*DEEP, *HEAD], {"labels": ("cat",)}, "expected 4 labels, got 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSHAPEN)
def test_misshapen_parameters_name_the_layer(name: str) -> None:
    layers, options, text = MISSHAPEN[name]
    with pytest.raises(WeightsError, match=text):
        to_weights(layers, source="model.x", **options)


def test_networks_without_torchvision_names(tmp_path: Path) -> None:
    weights = to_weights(NETWORKS["global-max"][0], source="m")
    with pytest.raises(WeightsError, match="write it as native"):
        save_torchvision(weights, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


def five_blocks(grid: int) -> list[Layer]:
    layers: list[Layer] = []
    for i, c in enumerate((3, 4, 4, 4, 4)):
        layers += [conv(f"c{i}", c, 4), Relu(f"r{i}"), MaxPool2x2(f"p{i}")]
    return [*layers, Flatten("f", "HWC"), linear("d", 4 * grid * grid, 3)]


def test_square_grid_is_torchvisions_adaptive_pool(tmp_path: Path) -> None:
    weights = to_weights(five_blocks(2), source="m", input_size=(64, 64))
    save_torchvision(weights, tmp_path / "w.safetensors")
    again = load_weights(tmp_path / "w.safetensors")
    x = RNG.standard_normal((1, 64, 64, 3)).astype(np.float32)
    assert np.array_equal(VGG(again, device="cpu")(x), VGG(weights, device="cpu")(x))
    assert again.config.pool_grid == 2


BAD_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "not-an-object": ({"config": [1]}, "vgg_cuda.config: expected `object"),
    "missing": ({"config": {}}, "vgg_cuda.config: .*missing.* `name`"),
    "widths": ({"widths": ["M"]}, "expected a convolution first"),
    "widths-words": ({"widths": [8, "N"]}, "config: expected .* and 'M'"),
    "widths-huge": ({"widths": [8] * 1000}, "config.widths: expected `array` of length <= 999"),
    "negative": ({"head": [-1]}, r"config.head\[0\]: expected `int` >= 1"),
    "bool": ({"in_channels": True}, "config.in_channels: expected `int`, got `bool`"),
    "pooling": ({"pooling": "median"}, "config.pooling: invalid enum value 'median'"),
    "size": ({"input_size": [20]}, "config.input_size: expected `array` of length 2"),
    "no-size": ({"input_size": None}, "input_size: expected"),
    "more": ({"dropout": 1}, "vgg_cuda.config: .*unknown field `dropout`"),
    "other-shapes": ({"head": [5]}, r"fc6.weight: expected \[5, 240\], got \[4, 240\]"),
    "future": ({"version": 4}, "upgrade vgg_cuda"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_invalid_config_is_refused(name: str, tmp_path: Path) -> None:
    changes, text = BAD_CONFIGS[name]
    layers, size, _ = NETWORKS["flatten"]
    weights = to_weights(layers, source="m", input_size=size)
    stated = json.loads(to_metadata(weights)[KEY])
    if changes.keys() <= {"config", "version"}:
        stated |= changes
    else:
        stated["config"] |= changes
    path = tmp_path / "w.safetensors"
    save_file(weights.tensors, path, metadata={KEY: json.dumps(stated)})
    with pytest.raises(WeightsError, match=text):
        load_weights(path)
