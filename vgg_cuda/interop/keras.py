"""Keras models, on whatever backend Keras runs: their weights copied into a VGG of this package."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ..backends import get_backend
from ..text import one_line
from ..vgg import VGG
from ..weights.canonical import Array, Weights, WeightsError
from ..weights.chain import UnsupportedError
from ..weights.keras.chain import ADD, translate
from ..weights.keras.graph import KerasLayer, layers_of


def from_keras(
    model: Any, *, device: str = "auto", dtype: str | None = None, arch: str | None = None
) -> VGG:
    """The network that a Keras 3 model is: it predicts what ``model.predict`` does.

    ``model`` is a built Sequential or Functional model, a chain of 3x3 convolutions, 2x2 max-pools,
    batch norms, ReLUs, ``Flatten`` or a global pool, and dense layers; models inside it
    (``keras.applications.VGG16(include_top=False)``) are taken apart. Its weights are copied: later
    training does not reach the result. A stated softmax makes a call give probabilities. Where
    ``Flatten`` reads the image, only the model's own input size is taken. The result takes NHWC
    arrays; for models of ``data_format="channels_first"`` pass ``layout="NCHW"``: without a head,
    their results are NHWC all the same. Models of half or mixed precision (the policies "float16",
    "bfloat16", "mixed_float16" and "mixed_bfloat16") are computed in float32, or in what ``dtype``
    says, so results differ from Keras' by its rounding.

    ``preset``, which matters for ``classify`` and uint8 pixels alone, is "keras" for models with
    the names of ``keras.applications``, "pixels" (0 to 255) for those that begin with
    ``Rescaling(1 / 255)``, and "scaled" (0 to 1) for all others.

    ``device``, ``dtype`` and ``arch`` are those of :meth:`VGG.load`. Raises ``TypeError`` for what
    is no Keras model and ``UnsupportedError`` (a ``ValueError``) for what cannot be run, naming
    the layer and the reason.
    """
    get_backend(device, arch)  # a device that is not there is told before all weights are copied
    return VGG(weights_of(model), device=device, dtype=dtype, arch=arch)


def weights_of(model: Any) -> Weights:
    """The weights of a Keras model; see :func:`from_keras`."""
    keras: Any = sys.modules.get("keras")  # whoever has a model has imported it
    if keras is None or not isinstance(model, getattr(keras, "Model", ())):
        hint = "; VGG.load reads files" if isinstance(model, (str, bytes)) else ""
        raise TypeError(
            f"from_keras: expected a model of Keras 3, got {type(model).__module__}."
            f"{type(model).__name__}{hint}"
        )
    model = cast(Any, model)  # keras has no types that mypy could read
    source = f"Keras model {one_line(model.name, 80)!r}"
    kind, module = type(model).__name__, type(model).__module__.split(".")[0]
    if kind not in ("Sequential", "Functional") or module != "keras":
        raise UnsupportedError(
            f"{source}: expected a Sequential or a Functional model, got {kind}: what a class of "
            "its own computes is code; keras.Model(inputs, outputs) of its layers would do"
        )
    if not model.built or not model.inputs:
        raise UnsupportedError(
            f"{source}: the model is not built and has no weights yet: call "
            "model.build((None, 224, 224, 3)) first, or begin it with keras.Input"
        )
    layers = layers_of(_config(model, source), source)
    live = Live(keras, model, source)
    for layer in layers:
        if layer.kind in ADD:  # what is not is let be or refused by its class
            live.check(layer)
    return translate(layers, model.inputs[0].shape, live, source)


def _config(model: Any, source: str) -> Any:
    """The model's config as a file would hold it, with lists instead of tuples."""
    stated = {"class_name": type(model).__name__}
    try:
        return json.loads(json.dumps(stated | {"config": model.get_config()}, default=_plain))
    except Exception as error:  # whatever a layer's own get_config raises
        detail = one_line(f"{type(error).__name__}: {error}", 160)
        raise UnsupportedError(
            f"{source}: expected a config of its layers, but get_config() raises {detail}. A layer "
            "whose activation was set to None has none: keras.activations.linear would do"
        ) from error


class Live:
    """The variables of a model's layers, copied to the host."""

    def __init__(self, keras: Any, model: Any, source: str) -> None:
        self._keras, self._model, self._source = keras, model, source

    def __call__(self, layer: KerasLayer, names: Sequence[str]) -> list[Array]:
        """As float32, by the names of the layer's attributes."""
        found = self._layer(layer)
        arrays = []
        for name in names:
            value = getattr(found, name, None)
            if value is None:
                raise WeightsError(f"{self._source}: {layer.name}: has no {name}")
            tensor = getattr(value, "value", value)
            if hasattr(tensor, "detach"):  # torch's: Keras' own way warns with NumPy 2
                tensor = tensor.detach().float().cpu().numpy()
            arrays.append(np.array(self._keras.ops.convert_to_numpy(tensor), np.float32))
        return arrays

    def check(self, layer: KerasLayer) -> None:
        """Refuses classes and functions of the user's own that a config may not tell."""
        found = self._layer(layer)
        if type(found).__module__.split(".")[0] != "keras":
            raise UnsupportedError(
                f"{self._source}: {layer.name}: expected a layer of Keras, got "
                f"{type(found).__module__}.{type(found).__name__}: what a class of its own "
                "computes is code"
            )
        name = layer.config.get("activation")
        own = getattr(found, "activation", None)
        if isinstance(name, str) and own is not self._keras.activations.get(name):
            raise UnsupportedError(
                f"{self._source}: {layer.name}: expected Keras' own {name!r}, got a function "
                f"{one_line(getattr(own, '__module__', ''), 80)}.{name}"
            )

    def _layer(self, layer: KerasLayer) -> Any:
        found = self._model
        for name in layer.path:
            found = found.get_layer(name)
        return found


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)
