"""Keras models whose first layers normalize images, compared with Keras."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.keras_models import L, conv, functional, keras, predict, randomize, write
from support.tolerance import assert_close

from vgg_cuda import VGG, RangeWarning, verify
from vgg_cuda.interop.keras import Live, from_keras
from vgg_cuda.reference import forward
from vgg_cuda.system import notices
from vgg_cuda.weights import WeightsError
from vgg_cuda.weights.keras.chain import translate
from vgg_cuda.weights.keras.graph import input_shape_of, layers_of

pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")  # of Keras

APPLICATIONS = keras.applications


def adapted(**arguments: Any) -> Any:
    layer = L.Normalization(**arguments)
    layer.adapt(np.random.default_rng(3).uniform(0, 255, (4, 8, 8, 3)))
    return layer


def arithmetic(x: Any) -> Any:
    return keras.ops.flip(1.0 - 2.0 * (x / 255), -1) * np.float32([1, 2, 3]) + 0.5


STARTS: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "rescaling-offset": lambda: L.Rescaling(1 / 127.5, -1),
    "rescaling-per-channel": lambda: L.Rescaling([1 / 255, 1 / 128, 1 / 64], [-0.1, 0.2, 0.3]),
    "normalization": adapted,
    "normalization-inverted": lambda: L.Normalization(mean=9.0, variance=16.0, invert=True),
    "normalization-scalar": lambda: L.Normalization(axis=None, mean=120.0, variance=4000.0),
    "normalization-given": lambda: L.Normalization(mean=(99, 9, 9), variance=(1e4, 4e4, 9e4)),
    "batch-norm": lambda: lambda x: L.BatchNormalization()(L.Rescaling(1 / 255)(x)),
    "preprocess-caffe": lambda: APPLICATIONS.vgg16.preprocess_input,
    "preprocess-tf": lambda: APPLICATIONS.mobilenet_v2.preprocess_input,
    "preprocess-torch": lambda: APPLICATIONS.densenet.preprocess_input,
    "arithmetic": lambda: arithmetic,
    "two-layers": lambda: lambda x: adapted()(L.Rescaling(0.5)(x)),
}
UNSURE = "normalization-inverted"  # a scale of 4 takes no pixels from 0 to 255
LEGACY = ("rescaling-offset", "normalization")  # are read from the older format, too
PIXELS = np.random.default_rng(1).integers(0, 256, (2, 16, 24, 3)).astype(np.uint8)


def model_of(start: Callable[[Any], Any]) -> Any:
    rest = (conv(8), L.MaxPooling2D(), L.Flatten(), L.Dense(5))

    def layers(x: Any) -> Any:
        x = start(x)
        for layer in rest:
            x = layer(x)
        return x

    return functional(layers, shape=PIXELS.shape[1:])


@cache
def case(name: str) -> tuple[Any, np.ndarray]:
    model = model_of(STARTS[name]())
    for layer in model.layers:
        if not isinstance(layer, L.Normalization):
            randomize(layer)
    return model, predict(model, given(name))


def given(name: str) -> np.ndarray:
    x = PIXELS.astype(np.float32)
    return x / 127.5 - 1 if name == UNSURE else x


@pytest.mark.parametrize("name", STARTS)
def test_models_that_normalize_match_keras(name: str, tmp_path: Path) -> None:
    model, expected = case(name)
    vgg, x = from_keras(model, device="cpu"), given(name)
    assert_close(vgg(x), expected, what=name)
    assert_close(vgg(x.transpose(0, 3, 1, 2), layout="NCHW"), expected)
    assert_close(forward(vgg.weights, x)["fc6"], expected)
    sure = name != UNSURE
    assert (vgg.preset_stated, vgg.preset.name == "pixels") == (sure, sure)
    if sure:
        assert_close(vgg(PIXELS), expected)  # the first convolution normalizes once
        found = {p.index: p.probability for p in vgg.classify(PIXELS[0])[0]}
        logits = np.array([found[i] for i in range(5)])
        e = np.exp(expected[0] - expected[0].max())
        np.testing.assert_allclose(logits, e / e.sum(), rtol=1e-3, atol=1e-6)
    for form in ("keras", *["h5"] * (name in LEGACY)):
        write(model, path := tmp_path / f"model.{form}", form)
        assert_close(VGG.load(path, device="cpu")(x), expected, what=form)


def test_tensors_in_a_model_cause_no_warning() -> None:
    scale = keras.ops.convert_to_tensor(np.float32([1, 2, 3]))
    model = model_of(lambda x: x * scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vgg = from_keras(model, device="cpu")
    x = PIXELS.astype(np.float32) / 127.5 - 1
    assert_close(vgg(x), predict(model, x))


def test_normalizing_twice_warns() -> None:
    vgg = from_keras(case("preprocess-tf")[0], device="cpu")
    notices.forget()
    with pytest.warns(RangeWarning, match="normalizes itself; preset 'unit' normalizes them, too"):
        vgg.classify(PIXELS[0], preset="unit")
    vgg.classify(PIXELS[0], preset="pixels")


@pytest.mark.emulator
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_kernels_normalize_floats_and_pixels(dtype: str) -> None:
    model, expected = case("preprocess-caffe")
    vgg = from_keras(model, device="emulator", dtype=dtype)
    bound = 2e-5 if dtype == "float32" else 2e-2
    assert_close(np.asarray(vgg(PIXELS), np.float32), expected, bound)
    x = PIXELS.astype(np.float32)
    assert_close(np.asarray(vgg(x), np.float32), expected, bound)
    graph = vgg.capture(x.shape, "float32")
    np.testing.assert_array_equal(graph(x), vgg(x))
    np.testing.assert_array_equal(graph(x * 0.5), vgg(x * 0.5))
    assert graph.memory.arena - vgg.memory(x.shape, "float32").arena == x.nbytes
    assert verify(vgg, vgg.weights, x).ok
    assert verify(vgg, vgg.weights, PIXELS).ok


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "lambda": (L.Lambda(abs, name="layer"), r"layer: .*got Lambda: .*Rescaling\(1 / 127.5, -1\)"),
    "other-axis": (L.Normalization(axis=(1, 2, 3), mean=0.0, variance=1.0, name="layer"), "axis"),
    "zero": (L.Rescaling(0.0, name="layer"), "layer: expected scales other than 0"),
    "later": (lambda x: L.Rescaling(2.0, name="layer")(conv()(x)), "layer: .*before the first"),
    "some-channels": (lambda x: x[..., :2], "a reversal of the last axis"),
    "resizing": (L.Resizing(16, 24, name="layer"), "layer: .*got Resizing: leave it out"),
    "rows": (lambda x: keras.ops.flip(x, 1), "a reversal of the last axis"),
    "root": (lambda x: keras.ops.sqrt(x), "got Sqrt"),
    "reciprocal": (lambda x: 1 / x, "a division by numbers other than 0"),
    "branches": (lambda x: x + 0.5 * x, "expected a chain"),
    "mixed-stack": (
        lambda x: keras.ops.stack([x[..., 1], x[..., 0], x[..., 2]], -1), "a reversal",
    ),
    "plane": (lambda x: x * np.ones((16, 24, 3), np.float32), "one number per channel"),
}  # fmt: skip


@pytest.mark.parametrize(("start", "message"), REFUSED.values(), ids=REFUSED)
def test_other_input_layers_are_refused(start: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        from_keras(model_of(start), device="cpu")


def test_scale_of_images_channels_first() -> None:
    first = {"data_format": "channels_first"}
    norm = L.Normalization(axis=1, mean=(99, 9, 9), variance=(1e4, 4e4, 9e4))
    rest = (conv(8, **first), L.GlobalMaxPooling2D(**first))
    model = keras.Sequential([keras.Input((3, 16, 24)), norm, *rest])
    x = PIXELS.astype(np.float32)
    expected = predict(model, x.transpose(0, 3, 1, 2))
    assert_close(from_keras(model, device="cpu")(x), expected)


def keras_2(model: Any, start: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the config of ``model`` with Keras 2's operations between its input and the rest."""
    config = copy.deepcopy(json.loads(model.to_json()))
    layers = config["config"]["layers"]
    first = layers[1]["inbound_nodes"][0]["args"][0]["config"]["keras_history"]
    for i, entry in enumerate(start):
        name = first[0]
        entry |= {"class_name": "TFOpLambda", "name": f"op{i}"} | entry
        entry["config"] |= {"name": f"op{i}"}
        entry["inbound_nodes"] = [[name, 0, 0, entry.pop("call")]]
        first[0] = f"op{i}"
    layers[1:1] = start
    return config  # type: ignore[no-any-return]


def test_operations_of_keras_2_are_read() -> None:
    model = model_of(lambda x: x)
    randomize(model)
    mean = [-103.939, -116.779, -123.68]
    spec = [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]
    caffe = [
        {
            "class_name": "SlicingOpLambda",
            "config": {"function": "__operators__.getitem"},
            "call": {"slice_spec": spec},
        },
        {
            "config": {"function": "nn.bias_add"},
            "call": {"bias": mean, "data_format": "NHWC", "name": None},
        },
    ]
    tf = [
        {"config": {"function": "math.truediv"}, "call": {"y": 127.5, "name": None}},
        {"config": {"function": "math.subtract"}, "call": {"y": 1.0, "name": None}},
    ]
    x = PIXELS.astype(np.float32)
    for start, before in ((caffe, x[..., ::-1] + np.float32(mean)), (tf, x / 127.5 - 1)):
        config = keras_2(model, start)
        layers = layers_of(config, "m")
        shape = input_shape_of(config, layers)
        found = translate(layers, shape, Live(keras, model, "m"), "m")
        assert_close(VGG(found, device="cpu")(x), predict(model, before))
        assert (found.preset.name, found.preset_stated) == ("pixels", True)
