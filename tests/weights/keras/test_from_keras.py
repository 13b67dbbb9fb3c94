"""``from_keras`` compared with Keras: the note's model, supported layers, refusals."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support import keras_models
from support.keras_models import (
    MODELS,
    NOTE,
    NOTE_SHA256,
    OTHER_SIZES,
    L,
    case,
    channels_first,
    conv,
    copy_weights,
    functional,
    gap,
    keras,
    note_model,
    predict,
    randomize,
    sequential,
)
from support.tolerance import assert_close

from vgg_cuda import VGG, AssumedWarning
from vgg_cuda.backends import recording
from vgg_cuda.interop.keras import from_keras
from vgg_cuda.weights.chain.layers import UnsupportedError
from vgg_cuda.weights.labels import imagenet_labels


def test_note_is_unchanged() -> None:
    assert hashlib.sha256(NOTE.encode()).hexdigest() == NOTE_SHA256


@pytest.mark.emulator
def test_arch_on_the_emulator() -> None:
    model = sequential(conv(8), *gap(), shape=(8, 8, 3))
    x = np.random.default_rng(2).standard_normal((1, 8, 8, 3), dtype=np.float32)
    vgg = from_keras(model, device="emulator", dtype="float32", arch="sm_90")
    with recording() as launched:
        assert_close(vgg(x), predict(model, x))
    assert {entry["plan"]["arch"] for entry in launched} == {"sm_90"}
    with pytest.raises(ValueError, match=r"arch: expected one of sm_80, .*, got 'hopper'"):
        from_keras(model, device="emulator", arch="hopper")


@pytest.mark.slow  # docs/keras.md's example, which make test runs, compares its results, too
def test_note_model_matches_keras() -> None:
    model = note_model()
    with pytest.raises(UnsupportedError, match=r"model\.build\(\(None, 224, 224, 3\)\)"):
        from_keras(model, device="cpu")
    model.build((None, 224, 224, 3))
    randomize(model)
    x = np.random.default_rng(1).standard_normal((1, 224, 224, 3), dtype=np.float32)
    expected = predict(model, x)
    vgg = from_keras(model, device="cpu")
    del model
    assert (vgg.config.name, vgg.activation) == ("vgg16", "softmax")
    assert vgg.config.head == (4096, 4096, 1000)
    probabilities = vgg(x)
    assert probabilities.shape == (1, 1000)
    assert expected.min() > 0
    assert_close(np.log(probabilities), np.log(expected))
    with pytest.raises(ValueError, match="224"):
        vgg(x[:, :192, :192])


@pytest.mark.parametrize("name", MODELS)
def test_predictions_equal_keras(name: str) -> None:
    model, x, y = case(name)
    vgg = from_keras(model, device="cpu")
    assert isinstance(vgg, VGG)
    assert vgg.activation == ("softmax" if np.allclose(y.sum(1), 1) else None)
    assert_close(vgg(x), y, what=name)
    if "channels-first" in name:
        assert_close(vgg(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), layout="NCHW"), y)


@pytest.mark.parametrize("name", OTHER_SIZES)
def test_other_image_sizes_match_keras(name: str) -> None:
    model, _, _ = case(name)
    x = np.random.default_rng(2).standard_normal((1, 47, 66, 3), dtype=np.float32)
    free = keras.Sequential([keras.Input((None, None, 3)), *model.layers])
    assert_close(from_keras(model, device="cpu")(x), predict(free, x))


@pytest.mark.parametrize("name", ["note", "odd-sizes"])
def test_flatten_takes_sizes_of_one_grid(name: str) -> None:
    model, x, _ = case(name)
    vgg = from_keras(model, device="cpu")
    _, height, width, channels = x.shape
    y = np.random.default_rng(2).standard_normal((1, height + 1, width + 1, 3), np.float32)
    other = keras.Sequential([keras.Input(y.shape[1:]), *model.layers])
    assert_close(vgg(y), predict(other, y))
    with pytest.raises(ValueError, match="expected H from"):
        vgg(np.zeros((1, 96, 96, channels), np.float32))


def test_pools_of_padding_same_take_one_size() -> None:
    model, x, _ = case("same-pools")
    with pytest.raises(ValueError, match=f"expected H = {x.shape[1]} and W = {x.shape[2]}"):
        from_keras(model, device="cpu")(np.zeros((1, 33, 33, 3), np.float32))


APPLICATIONS = {
    "vgg16": (keras.applications.VGG16, {"include_top": True, "input_shape": (32, 32, 3)}),
    "vgg16-logits": (
        keras.applications.VGG16,
        {"input_shape": (32, 48, 3), "classes": 7, "classifier_activation": None},
    ),
    "vgg16-notop": (keras.applications.VGG16, {"include_top": False}),
    "vgg19-avg": (keras.applications.VGG19, {"include_top": False, "pooling": "avg"}),
    "vgg19-max": (keras.applications.VGG19, {"include_top": False, "pooling": "max"}),
}
SLOW = ("vgg16-notop", "vgg19-avg")  # vgg19-max covers the same lines


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, case in APPLICATIONS.items()
    ],
)
def test_keras_applications_match(make: Any, arguments: dict[str, Any]) -> None:
    model = make(weights=None, **arguments)
    randomize(model)
    height, width = (size or 32 for size in model.inputs[0].shape[1:3])
    x = np.random.default_rng(1).standard_normal((1, height, width, 3), dtype=np.float32)
    vgg = from_keras(model, device="cpu")
    assert vgg.config.name == make.__name__.lower()
    assert_close(vgg(x), predict(model, x))
    assert (vgg.preset.name, vgg.preset.channels) == ("keras", "BGR")
    published = arguments.get("include_top", True) and "classes" not in arguments
    assert vgg.labels == (imagenet_labels() if published else None)
    if vgg.config.head:
        assert vgg.preset.resize == (height, width)
        image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
        assert len(vgg.classify(image, top_k=1, preset="keras")[0]) == 1


def test_preset_follows_the_first_layers() -> None:
    pixels = from_keras(case("rescaling").model, device="cpu")
    assert (pixels.preset.name, pixels.preset.input_range) == ("pixels", (0, 255))
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    assert_close(pixels(image), predict(case("rescaling").model, image))
    scaled = from_keras(case("one-block").model, device="cpu")
    assert (scaled.preset.name, scaled.preset.input_range) == ("unit", (0, 1))
    divided = predict(case("one-block").model, image / np.float32(255))
    with pytest.warns(AssumedWarning, match=r"resized to 32x32 .*RGB, pixels / 255 \(preset unit"):
        assert_close(scaled(image), divided)
    assert (pixels.preset_stated, scaled.preset_stated) == (True, False)
    stated = from_keras(case("one-block").model, device="cpu", preset="tf")
    assert (stated.preset.size, stated.preset_stated) == ((32, 32), True)


def test_weights_are_copies() -> None:
    model, x, y = case("one-block")
    clone = keras.models.clone_model(model)
    copy_weights(model, clone)
    vgg = from_keras(clone, device="cpu")
    randomize(clone, seed=5)
    assert_close(vgg(x), y)


@pytest.mark.parametrize(("policy", "bound"), [("mixed_bfloat16", 3e-2), ("bfloat16", 3e-2)])
def test_all_policies_compute_in_float32(policy: str, bound: float) -> None:
    model, x, _ = case("one-block")
    half = sequential(conv(dtype=policy), L.MaxPooling2D(), L.GlobalAveragePooling2D())
    copy_weights(model.layers[0], half.layers[0])
    full = sequential(conv(), L.MaxPooling2D(), L.GlobalAveragePooling2D())
    copy_weights(half.layers[0], full.layers[0])
    assert_close(from_keras(half, device="cpu")(x), predict(full, x), bound)


def quantized() -> Any:
    model = sequential(conv(), *gap())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.layers[-1].quantize("int8")
    return model


def lora() -> Any:
    model = sequential(conv(), *gap())
    model.layers[-1].enable_lora(2)
    return model


def no_config() -> Any:
    """A custom layer, which Keras does not save."""
    model = sequential(conv(), *gap())
    model.layers[-1].activation = None
    return model


def relu(x: Any) -> Any:
    """A custom function with a standard name."""
    return keras.activations.elu(x)


class Conv2D(L.Conv2D):  # type: ignore[misc]
    """A custom class with the name of a Keras class."""


class Subclassed(keras.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.inner = conv()

    def call(self, x: Any) -> Any:
        return self.inner(x)


class OwnSequential(keras.Sequential):  # type: ignore[misc]
    pass


def subclassed() -> Any:
    model = Subclassed()
    model(np.zeros((1, 32, 32, 3), np.float32))
    return model


def joined(x: Any) -> Any:
    return L.Add(name="join")([conv(name="left")(x), conv(name="right")(x)])


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "kernel": (lambda: sequential(conv(kernel_size=5, name="c")), r"c: .*kernel_size \(3, 3\).*5"),
    "kernel-1": (lambda: sequential(conv(kernel_size=(1, 3), name="c")), r"c: .*\(1, 3\)"),
    "stride": (lambda: sequential(conv(strides=2, name="c")), r"c: .*strides \(1, 1\).*\(2, 2\)"),
    "valid": (lambda: sequential(conv(padding="valid", name="c")), "c: .*padding 'same'.*'valid'"),
    "dilation": (lambda: sequential(conv(dilation_rate=2, name="c")), "c: .*dilation_rate"),
    "groups": (lambda: sequential(conv(), conv(groups=2, name="c")), "c: .*groups 1, got 2"),
    "elu": (lambda: sequential(conv(activation="elu", name="c")), "c: .*relu.*'elu'"),
    "leaky": (lambda: sequential(conv(activation=L.LeakyReLU(), name="c")), "c: .*LeakyReLU"),
    "own-relu": (lambda: sequential(conv(activation=relu, name="c")), r"c: .*from_keras\.relu"),
    "torch-relu": (
        lambda: sequential(conv(activation=torch.nn.functional.relu, name="c")),
        r"c: .*torch\.nn\.functional\.relu",
    ),
    "tanh": (
        lambda: sequential(conv(), *gap(1)[:1], L.Dense(1, "tanh", name="d")),
        "d: .*'tanh'.*logits",
    ),
    "sigmoid-of-pixels": (
        lambda: sequential(conv(activation="sigmoid", name="c"), *gap()),
        "c: .*'sigmoid'",
    ),
    "relu6": (lambda: sequential(conv(), L.ReLU(6.0, name="r"), *gap()), "r: .*max_value None.*6"),
    "leaky-relu": (
        lambda: sequential(conv(activation=None), L.ReLU(negative_slope=0.1, name="r")),
        r"r: .*negative_slope 0.0.*0\.1",
    ),
    "threshold": (
        lambda: sequential(conv(activation=None), L.ReLU(threshold=1.0, name="r")),
        "r: .*threshold",
    ),
    "average-pool": (
        lambda: sequential(conv(), L.AveragePooling2D(2, name="p")),
        "p: expected a layer of a VGG .*AveragePooling2D",
    ),
    "pool-3": (lambda: sequential(conv(), L.MaxPooling2D(3, name="p")), r"p: .*pool_size \(2, 2\)"),
    "pool-stride": (
        lambda: sequential(conv(), L.MaxPooling2D(2, 1, name="p")),
        r"p: .*strides \(2, 2\), got \(1, 1\)",
    ),
    "same-pool-odd": (
        lambda: sequential(
            *(conv(), L.MaxPooling2D(padding="same", name="p"), L.Flatten(), L.Dense(2)),
            shape=(33, 32, 3),
        ),
        "p: .*'same'.*even",
    ),
    "same-pool-any-size": (
        lambda: sequential(conv(), L.MaxPooling2D(padding="same", name="p"), *gap()),
        "p: .*'same'.*Flatten",
    ),
    "keepdims": (
        lambda: sequential(conv(), L.GlobalAveragePooling2D(keepdims=True, name="g")),
        "g: .*keepdims",
    ),
    "norm-axis": (
        lambda: sequential(conv(activation=None), L.BatchNormalization(axis=1, name="n")),
        "n: .*axis of channels, 3, got axis 1",
    ),
    "norm-renorm": (
        lambda: sequential(conv(activation=None), L.BatchNormalization(renorm=True, name="n")),
        "n: .*renorm",
    ),
    "norm-after-relu": (
        lambda: sequential(conv(), L.BatchNormalization(name="n"), L.ReLU()),
        "n: .*a convolution .*right before",
    ),
    "layer-norm": (lambda: sequential(conv(), L.LayerNormalization(name="n")), "n: .*LayerNorm"),
    "softmax-axis": (lambda: sequential(conv(), *gap(), L.Softmax(0, name="s")), "s: .*axis 0"),
    "softmax-inside": (
        lambda: sequential(conv(), *gap(), L.Softmax(), L.Dense(2, name="d")),
        "d: .*after a softmax|d: expected nothing",
    ),
    "rescaling-later": (lambda: sequential(conv(), L.Rescaling(2.0, name="r")), "r: .*after it"),
    "padding-2": (
        lambda: sequential(L.ZeroPadding2D(2, name="z"), conv(padding="valid")),
        r"z: .*\(1, 1\)",
    ),
    "padding-alone": (
        lambda: sequential(conv(), L.ZeroPadding2D(1, name="z"), L.MaxPooling2D()),
        "z: .*before MaxPooling2D",
    ),
    "padding-last": (lambda: sequential(conv(), L.ZeroPadding2D(1, name="z")), "z: .*at the end"),
    "padding-twice": (
        lambda: sequential(L.ZeroPadding2D(1), conv(padding="same", name="c")),
        "c: .*padding 'valid' after ZeroPadding2D",
    ),
    "no-images": (
        lambda: sequential(L.Dense(3, name="d"), shape=(8,)),
        "d: .*3x3 convolutions of images .*none",
    ),
    "no-config": (no_config, r"get_config\(\) raises TypeError.*keras\.activations\.linear"),
    "no-flatten": (lambda: sequential(conv(), L.Dense(2, name="d")), "d: .*Dense on an image"),
    "dense-first": (lambda: sequential(L.Flatten(), L.Dense(2, name="d")), "tion first"),
    "mixed-formats": (
        lambda: sequential(conv(), L.MaxPooling2D(data_format="channels_first", name="p")),
        "p: .*data_format 'channels_last'",
    ),
    "flatten-format": (
        lambda: sequential(conv(), L.Flatten(data_format="channels_first", name="f"), L.Dense(2)),
        "f: .*data_format",
    ),
    "lambda": (lambda: sequential(conv(), L.Lambda(abs, name="l")), "l: .*got Lambda"),
    "branches": (lambda: functional(joined), "join: expected a chain.*left, right"),
    "operator": (lambda: functional(lambda x: conv()(x) + conv()(x)), "expected a chain"),
    "operation": (lambda: functional(lambda x: conv()(abs(x))), "got Abs"),
    "two-outputs": (
        lambda: functional(lambda x: [conv(name="one")(x), conv(name="two")(x)]),
        "one output, got one, two",
    ),
    "two-inputs": (
        lambda: keras.Model(
            [a := keras.Input((32, 32, 3), name="a"), keras.Input((32, 32, 3), name="b")], conv()(a)
        ),
        "one input, got a, b",
    ),
    "in-nested": (
        lambda: sequential(functional(joined, name="base"), *gap()),
        "base/join: expected a chain.*base/left, base/right|base/join: .*left, right",
    ),
    "own-class": (lambda: sequential(Conv2D(4, 3, padding="same", name="c")), "c: .*of Keras"),
    "subclassed": (subclassed, "expected a Sequential or a Functional model, got Subclassed"),
    "own-sequential": (
        lambda: OwnSequential([keras.Input((32, 32, 3)), conv()]),
        "got OwnSequential",
    ),
    "unbuilt": (lambda: keras.Sequential([conv()]), "expected a built model"),
    "quantized": (quantized, "dense.*: .*quantized"),
    "lora": (lora, "dense.*: .*LoRA"),
    "no-layers": (lambda: functional(lambda x: L.Identity()(x)), "3x3 convolutions, found none"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_unsupported_models_are_refused(make: Callable[[], Any], message: str) -> None:
    model = make()
    with pytest.raises(UnsupportedError, match=message) as caught:
        from_keras(model, device="cpu")
    assert str(caught.value).startswith(f"Keras model {model.name!r}: ")
    assert "\n" not in str(caught.value)


def test_order_of_channels_first_flatten() -> None:
    """Check that the two orders differ, so that the comparison above detects a confusion."""
    one, other = channels_first("channels_first"), channels_first("channels_last")
    randomize(one)
    copy_weights(one, other)
    x = np.random.default_rng(1).standard_normal((1, 3, 16, 24), dtype=np.float32)
    assert not np.allclose(predict(one, x), predict(other, x), rtol=0.1)


@pytest.mark.parametrize("what", [None, 3, "model.keras", torch.nn.Identity(), VGG])
def test_other_objects_are_refused(what: Any) -> None:
    with pytest.raises(
        TypeError, match=r"from_keras: model: expected a Keras 3 model, got \w+\.\w+"
    ):
        from_keras(what)


def test_missing_device_is_reported() -> None:
    with pytest.raises(ValueError, match="tpu"):
        from_keras(case("one-block").model, device="tpu")


def test_keras_is_not_imported_for_other_objects() -> None:
    code = (
        "import sys\nfrom vgg_cuda.interop.keras import from_keras\n"
        "try:\n    from_keras(object())\nexcept TypeError as error:\n    print(error)\n"
        "print('keras' in sys.modules, 'h5py' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "from_keras: model: expected a Keras 3 model, got builtins.object",
        "False False",
    ]
    assert keras_models.keras is sys.modules["keras"]
