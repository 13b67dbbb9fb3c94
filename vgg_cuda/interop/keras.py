"""``vgg_cuda.from_keras``: Keras models of any backend, with their weights copied."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ..backends import get_backend
from ..images.presets import Preset
from ..text import one_line
from ..vgg import VGG
from ..weights.canonical import Array, Weights, WeightsError
from ..weights.chain.layers import UnsupportedError
from ..weights.keras.chain import LAYERS, translate
from ..weights.keras.graph import KerasLayer, layers_of
from ..weights.keras.stores import COUNT
from ..weights.stated import Labels, with_stated


def from_keras(
    model: Any,
    *,
    device: str = "auto",
    dtype: str | None = None,
    arch: str | None = None,
    preset: str | Preset | None = None,
    labels: Labels | None = None,
) -> VGG:
    """Return the network of a Keras 3 model: it predicts like ``model.predict``.

    ``model`` is a built Sequential or Functional model: a chain of 3x3 convolutions, 2x2 max-pools,
    batch norms, ReLUs, ``Flatten`` or a global pool, and dense layers. Nested models, such as
    ``keras.applications.VGG16(include_top=False)``, are flattened. The weights are copied: later
    training does not change the result. With a softmax layer a call returns probabilities. If
    ``Flatten`` reads pixels, the network takes the model's input size only. The result takes NHWC
    arrays; for models of ``data_format="channels_first"`` pass ``layout="NCHW"``; without a head,
    results are NHWC even so. Models of half or mixed precision (the policies "float16", "bfloat16",
    "mixed_float16" and "mixed_bfloat16") are computed in float32, or in ``dtype``, so results
    differ from Keras' by its rounding.

    Input layers that act on each channel alone (``Rescaling``, ``Normalization``, batch norms,
    ``keras.applications``' ``preprocess_input(x)`` and other arithmetic on ``keras.Input``) remain
    part of the model: a call takes what ``model.predict`` takes. ``preset`` affects ``classify``
    and uint8 pixels only. It is "pixels" (0 to 255) for models whose input layers scale pixels.
    Otherwise it is an assumption: "keras" for models with the names of ``keras.applications``,
    "unit" (0 to 1) for all others.

    ``device``, ``dtype``, ``arch``, ``preset`` and ``labels`` are as in :meth:`VGG.load`. Raises
    ``TypeError`` for other objects and ``UnsupportedError`` (a ``ValueError``), which names the
    layer and the reason, for models that this package cannot run.
    """
    get_backend(device, arch)  # report a missing device before all weights are copied
    weights = with_stated(weights_of(model), preset, labels)
    return VGG(weights, device=device, dtype=dtype, arch=arch)


def weights_of(model: Any) -> Weights:
    """Return the weights of a Keras model; see :func:`from_keras`."""
    keras: Any = sys.modules.get("keras")  # a caller with a model has imported it
    if keras is None or not isinstance(model, getattr(keras, "Model", ())):
        hint = "; VGG.load reads files" if isinstance(model, (str, bytes)) else ""
        raise TypeError(
            f"from_keras: model: expected a Keras 3 model, got {type(model).__module__}."
            f"{type(model).__name__}{hint}"
        )
    model = cast(Any, model)  # keras has no type hints
    source = f"Keras model {one_line(model.name, 80)!r}"
    kind, module = type(model).__name__, type(model).__module__.split(".")[0]
    if kind not in ("Sequential", "Functional") or module != "keras":
        raise UnsupportedError(
            f"{source}: expected a Sequential or a Functional model, got {kind}, whose call() is "
            "code; pass keras.Model(inputs, outputs) of its layers"
        )
    if not model.built or not model.inputs:
        raise UnsupportedError(
            f"{source}: expected a built model, got one without weights: call "
            "model.build((None, 224, 224, 3)) first, or begin it with keras.Input"
        )
    layers = layers_of(_config(model, source), source)
    live = Live(keras, model, source)
    for layer in layers:
        if layer.kind in LAYERS:  # other layers are ignored or refused by their class
            live.check(layer)
    return translate(layers, model.inputs[0].shape, live, source)


def _config(model: Any, source: str) -> Any:
    """Return the model's config as in a file, with lists instead of tuples."""
    stated = {"class_name": type(model).__name__}
    try:
        with warnings.catch_warnings():  # Keras on PyTorch converts constants with NumPy 2
            warnings.simplefilter("ignore", DeprecationWarning)
            config = model.get_config()
        return json.loads(json.dumps(stated | {"config": config}, default=_plain))
    except Exception as error:  # a layer's get_config may raise anything
        detail = one_line(f"{type(error).__name__}: {error}", 160)
        raise UnsupportedError(
            f"{source}: expected a config of its layers, but get_config() raises {detail}. If a "
            "layer's activation was set to None, set it to keras.activations.linear"
        ) from error


class Live:
    """Reader of the variables of a model's layers, copied to the host."""

    def __init__(self, keras: Any, model: Any, source: str) -> None:
        self._keras, self._model, self._source = keras, model, source

    def __call__(self, layer: KerasLayer, names: Sequence[str]) -> list[Array]:
        """Return the layer's attributes ``names`` as float32 arrays."""
        found = self._layer(layer)
        arrays = []
        for name in names:
            if name == COUNT:
                continue
            value = getattr(found, name, None)
            if value is None:
                raise WeightsError(f"{self._source}: {layer.name}: expected {name}, found none")
            tensor = getattr(value, "value", value)
            if hasattr(tensor, "detach"):  # torch's; Keras' conversion warns with NumPy 2
                tensor = tensor.detach().float().cpu().numpy()
            arrays.append(np.array(self._keras.ops.convert_to_numpy(tensor), np.float32))
        return arrays

    def check(self, layer: KerasLayer) -> None:
        """Refuse custom classes and functions that the config does not show."""
        found = self._layer(layer)
        if type(found).__module__.split(".")[0] != "keras":
            raise UnsupportedError(
                f"{self._source}: {layer.name}: expected a layer of Keras, got the custom class "
                f"{type(found).__module__}.{type(found).__name__}"
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
