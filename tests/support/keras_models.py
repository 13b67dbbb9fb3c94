"""Keras models for the tests: the note's, and narrow ones of many kinds, with weights."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # from Keras' imports
    import keras
from keras import layers as L  # noqa: N812

# The note's code, byte for byte, with its tabs and blank lines.
NOTE = """\
# VGG-16
model = Sequential([
	Conv2D(filters=64, kernel_size=(3,3), padding="same", activation="relu"),
	Conv2D(filters=64, kernel_size=(3,3), padding="same", activation="relu"),
	MaxPooling2D((2, 2)),
	
	Conv2D(filters=128, kernel_size=(3,3), padding="same", activation="relu"),
	Conv2D(filters=128, kernel_size=(3,3), padding="same", activation="relu"),
	MaxPooling2D((2, 2)),
	
	Conv2D(filters=256, kernel_size=(3,3), padding="same", activation="relu"),
	Conv2D(filters=256, kernel_size=(3,3), padding="same", activation="relu"),
	Conv2D(filters=256, kernel_size=(3,3), padding="same", activation="relu"),
	MaxPooling2D((2, 2)),
	
	Conv2D(filters=512, kernel_size=(3,3), padding="same", activation="relu"),
	Conv2D(filters=512, kernel_size=(3,3), padding="same", activation="relu"),
	Conv2D(filters=512, kernel_size=(3,3), padding="same", activation="relu"),
	MaxPooling2D((2, 2)),
	
	Conv2D(filters=512, kernel_size=(3,3), padding="same", activation="relu"),
	Conv2D(filters=512, kernel_size=(3,3), padding="same", activation="relu"),
	Conv2D(filters=512, kernel_size=(3,3), padding="same", activation="relu"),
	MaxPooling2D((2, 2)),
	
	Flatten(),
	Dense(4096, activation="relu"),
	Dense(4096, activation="relu"),
	Dense(1000, activation="softmax")					
])
"""  # noqa: W291, W293
NOTE_SHA256 = "55ec9a435d6f36e6520568d930cac213e2ee34eee66e51c09d33ee1a75ce750b"

# vgg16's widths divided by 16
NARROW = "4 4 M 8 8 M 16 16 16 M 32 32 32 M 32 32 32 M"
VGG19 = "4 4 M 8 8 M 16 16 16 16 M 32 32 32 32 M 32 32 32 32 M"


def note_model() -> Any:
    """Return the model of the note's code, before it is built."""
    names = ("Conv2D", "MaxPooling2D", "Flatten", "Dense")
    scope: dict[str, Any] = {"Sequential": keras.Sequential} | {n: getattr(L, n) for n in names}
    exec(compile(NOTE, "the note", "exec"), scope)
    return scope["model"]


def randomize(model: Any, seed: int = 0) -> None:
    """Set He-scaled kernels, and biases and batch norms that are not neutral."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.name == "kernel":
            value = rng.standard_normal(shape, dtype=np.float32)
            value *= np.float32((2 / np.prod(shape[:-1])) ** 0.5)
        elif variable.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.uniform(-0.3, 0.3, shape)
        variable.assign(value)


def predict(model: Any, x: np.ndarray) -> np.ndarray:
    """Return Keras' predictions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from calls between Keras, torch and NumPy
        return np.asarray(model.predict(x, verbose=0))


def copy_weights(source: Any, target: Any) -> None:
    """Copy weights from one model or layer to another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target.set_weights(source.get_weights())


def conv(filters: int = 8, **arguments: Any) -> Any:
    return L.Conv2D(
        filters, **{"kernel_size": 3, "padding": "same", "activation": "relu"} | arguments
    )


def sequential(*layers: Any, shape: tuple[int | None, ...] = (32, 32, 3)) -> Any:
    return keras.Sequential([keras.Input(shape), *layers])


def functional(
    make: Callable[[Any], Any], shape: tuple[int | None, ...] = (32, 32, 3), **arguments: Any
) -> Any:
    x = keras.Input(shape)
    return keras.Model(x, make(x), **arguments)


def gap(classes: int = 5) -> list[Any]:
    return [L.GlobalAveragePooling2D(), L.Dense(classes)]


def features(words: str = NARROW, norm: bool = False, named: bool = False) -> list[Any]:
    """Return convolutions and pools; ``named`` as in ``keras.applications``."""
    layers: list[Any] = []
    block, index = 1, 1
    for word in words.split():
        if word == "M":
            name = f"block{block}_pool" if named else None
            layers.append(L.MaxPooling2D((2, 2), name=name))
            block, index = block + 1, 1
            continue
        name = f"block{block}_conv{index}" if named else None
        index += 1
        if norm:
            layers += [conv(int(word), activation=None, use_bias=False), L.BatchNormalization()]
            layers.append(L.ReLU())
        else:
            layers.append(conv(int(word), name=name))
    return layers


def chained(layers: list[Any]) -> Callable[[Any], Any]:
    def make(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x

    return make


def channels_first(flatten: str) -> Any:
    first: dict[str, Any] = {"data_format": "channels_first"}
    return sequential(
        *(conv(4, **first), L.MaxPooling2D(**first), conv(8, activation=None, **first)),
        *(L.BatchNormalization(axis=1), L.ReLU(), L.MaxPooling2D(**first)),
        *(L.Flatten(data_format=flatten), L.Dense(5, activation="softmax")),
        shape=(3, 16, 24),
    )


def shared_pool() -> Any:
    pool = L.MaxPooling2D()
    layers = [conv(4), pool, conv(8), pool, conv(8), pool, L.Flatten(), L.Dense(5)]
    return functional(chained(layers))


def truncated() -> Any:
    whole = functional(chained([*features(named=True), L.Flatten(), L.Dense(4)]))
    return keras.Model(whole.inputs, whole.get_layer("block3_conv2").output)


def nested(kind: str) -> Any:
    """Return a head on a nested network, as in transfer learning."""
    base = functional(chained(features(named=True)), name="base")
    if kind == "functional":
        head = [L.GlobalMaxPooling2D(), L.Dropout(0.5), L.Dense(5, activation="softmax")]
        return functional(lambda x: chained(head)(base(x, training=False)))
    base.trainable = kind != "frozen"
    layers = [base, L.Flatten(), L.Dense(8, activation="relu"), L.Dense(5)]
    if kind == "twice":
        return keras.Sequential([keras.Input((32, 32, 3)), keras.Sequential(layers), L.Softmax()])
    model = keras.Sequential(layers)
    model.build((None, 32, 32, 3))
    return model


def narrow_note() -> Any:
    """Return the note's model with a 16th of its channels and 64x64 images."""
    layers = [*features(), L.Flatten(), L.Dense(48, activation="relu")]
    layers += [L.Dense(48, activation="relu"), L.Dense(10, activation="softmax")]
    model = keras.Sequential(layers)
    model.build((None, 64, 64, 3))
    return model


MODELS: dict[str, Callable[[], Any]] = {
    "note": narrow_note,
    "vgg19-named": lambda: functional(
        chained([*features(VGG19, named=True), L.Flatten(name="flatten"), L.Dense(7, name="fc1")])
    ),
    "any-size": lambda: sequential(*features(), *gap(), shape=(None, None, 3)),
    "no-head": lambda: sequential(*features()),
    "max-head": lambda: sequential(*features(), L.GlobalMaxPooling2D(), L.Dense(5), L.Softmax()),
    "pooled-no-head": lambda: sequential(*features(), L.GlobalAveragePooling2D()),
    "batch-norm": lambda: sequential(*features(norm=True), L.Flatten(), L.Dense(5)),
    "batch-norms-of-their-own": lambda: sequential(
        *(conv(8, activation=None), L.BatchNormalization(epsilon=0.1, scale=False), L.ReLU()),
        *(conv(8, activation=None), L.BatchNormalization(center=False), L.Activation("relu")),
        *(L.MaxPooling2D(), conv(8, activation=None), L.BatchNormalization(axis=3, epsilon=1e-5)),
        *(L.MaxPooling2D(), L.ReLU(), L.Flatten(), L.Dense(8, use_bias=False)),
        *(L.BatchNormalization(), L.ReLU(), L.Dense(5, activation="softmax")),
    ),
    "activations": lambda: sequential(
        *(conv(8, activation=None), L.Activation("relu"), conv(8, activation=L.ReLU())),
        *(conv(8, activation=None), L.MaxPooling2D(2, strides=2), L.Flatten()),
        *(L.Dense(8), L.ReLU(), L.Dropout(0.5), L.Dense(5), L.Activation("softmax")),
    ),
    "one-block": lambda: sequential(conv(), L.MaxPooling2D(), *gap()),
    "dead-in-inference": lambda: sequential(
        keras.Sequential([L.RandomFlip(), L.RandomRotation(0.1), L.RandomZoom(0.1)]),
        *(L.GaussianNoise(0.1), conv(), L.SpatialDropout2D(0.2), L.MaxPooling2D(), L.Dropout(0.2)),
        *(L.GlobalAveragePooling2D(), L.Flatten(), L.Dense(5)),
    ),
    "rescaling": lambda: sequential(L.Rescaling(1 / 255), conv(), L.MaxPooling2D(), *gap()),
    "same-pools": lambda: sequential(
        *(conv(), L.MaxPooling2D(2, 2, padding="same"), conv(), L.MaxPooling2D(2, padding="same")),
        *(L.Flatten(), L.Dense(5)),
    ),
    "odd-sizes": lambda: sequential(
        *(conv(), L.MaxPooling2D(), conv(), L.MaxPooling2D(), L.Flatten(), L.Dense(5)),
        shape=(37, 22, 3),
    ),
    "zero-padding": lambda: sequential(
        *(L.ZeroPadding2D(1), conv(padding="valid"), L.MaxPooling2D()),
        *(L.ZeroPadding2D(((1, 1), (1, 1))), conv(padding="valid"), L.MaxPooling2D(), *gap()),
    ),
    "grey": lambda: sequential(
        *(conv(), L.MaxPooling2D(), L.Flatten(), L.Dense(5)), shape=(28, 28, 1)
    ),
    "fixed-batch": lambda: keras.Sequential(
        [keras.Input(batch_shape=(2, 32, 32, 3)), conv(), L.MaxPooling2D(), *gap()]
    ),
    "channels-first": lambda: channels_first("channels_first"),
    "channels-first-flattened-as-they-are": lambda: channels_first("channels_last"),
    "shared-pool": shared_pool,
    "truncated": truncated,
    "nested": lambda: nested("sequential"),
    "nested-frozen": lambda: nested("frozen"),
    "nested-functional": lambda: nested("functional"),
    "nested-twice": lambda: nested("twice"),
}  # fmt: skip

PIXELS = ("rescaling",)
OTHER_SIZES = ("any-size", "no-head")  # are also called with another image size


class Case(NamedTuple):
    model: Any
    x: np.ndarray  # NHWC
    y: np.ndarray  # Keras' predictions, NHWC


@cache
def case(name: str) -> Case:
    """Return the model ``name`` with weights, images and its predictions."""
    model = MODELS[name]()
    randomize(model)
    first = "channels-first" in name
    shape = [size or 40 for size in model.inputs[0].shape[1:]]
    x = np.random.default_rng(1).standard_normal((2, *shape), dtype=np.float32)
    if name in PIXELS:
        x = np.random.default_rng(1).uniform(0, 255, (2, *shape)).astype(np.float32)
    y = predict(model, x)
    return Case(model, x.transpose(0, 2, 3, 1) if first else x, y)


def write(model: Any, path: Path, form: str) -> None:
    """Write the model as Keras does, under a name that does not state the format."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # warnings about old formats
    written = path.with_name(f"{path.stem}.{'h5' if form == 'old.h5' else form}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (model.save_weights if form == "weights.h5" else model.save)(written)
    if form == "old.h5":  # Keras 2's weights only: the groups are at the root
        with h5py.File(written) as whole, h5py.File(path, "w") as file:
            group = whole["model_weights"]
            for name in group:
                group.copy(name, file)
            for name, value in group.attrs.items():
                file.attrs[name] = value
        written.unlink()
    else:
        written.rename(path)
