"""Weights of networks, read from a file, a dict of arrays, or by the name of a network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ..configs import CONFIGS, get_config
from ..images.preset_files import timm_preset_beside
from ..text import listed, one_line
from . import hub, native, pth, safetensors_file, state_dict
from .canonical import (
    Array,
    AssumedWarning,
    DroppedWarning,
    HeadDroppedWarning,
    Weights,
    WeightsError,
    prefixed,
    shapes,
)
from .checkpoint import labels_in, unwrap, warn_dropped, with_labels
from .he import he_weights
from .keras import files as keras_files
from .metadata import Stated, parse
from .native import save
from .onnx import file as onnx_file
from .onnx.export import save_onnx
from .state_names import may_match
from .torchvision import save_torchvision

__all__ = [
    "FORMATS",
    "AssumedWarning",
    "DroppedWarning",
    "HeadDroppedWarning",
    "Weights",
    "WeightsError",
    "he_weights",
    "load_weights",
    "save",
    "save_onnx",
    "save_torchvision",
    "shapes",
]

RANDOM = "random:"
Source = str | os.PathLike[str] | Mapping[str, Any]

FORMATS = {
    "native": "safetensors with this package's names; preset, labels and activation in its header",
    "torchvision-safetensors": "safetensors with torchvision's names",
    "torchvision-pth": "a state dict of torchvision's VGG, by torch.save",
    "torchvision-pth-legacy": "a state dict of torchvision's VGG in the format before PyTorch 1.6",
    "timm-safetensors": "safetensors with timm's names, as on the Hugging Face hub",
    "timm-pth": "a state dict of timm's VGG, by torch.save",
    "timm-pth-legacy": "a state dict of timm's VGG in the format before PyTorch 1.6",
    "keras": "a Keras model, by model.save: .keras",
    "keras-weights-h5": "a Keras model's weights without its config, by save_weights: .weights.h5",
    "keras-h5": "Keras' older .h5: a model, or weights only as in keras.applications",
    "onnx": "an ONNX graph, as torch.onnx.export and this package write it: .onnx",
}
"""Formats that :func:`load_weights` reads. Names with "pth" need the extra ``torch``, names with
"keras" the extra ``keras`` (h5py only), "onnx" the extra ``onnx``."""


def load_weights(source: Source) -> Weights:
    """Return the weights that ``source`` names or holds.

    ``source`` is one of

    - "digits", which is part of the package;
    - "imagenet" (VGG-16) or "imagenet:<variant>", such as "imagenet:vgg11_bn", downloaded once
      through ``huggingface_hub``;
    - "random:vgg16", or another published network: the weights of :func:`he_weights` from seed 0;
    - the path of a file in one of :data:`FORMATS`, detected from its content, not its name;
    - a mapping of tensors' names to arrays.

    State dicts may be inside a checkpoint, and their names may have a prefix. An
    :class:`AssumedWarning` lists what is assumed about the layers of a state dict, a
    :class:`DroppedWarning` the tensors beside the network.

    Files of this package state preset, labels and activation in a header, and timm's
    ``config.json`` beside ``model.safetensors`` states a preset. For other files, "torchvision" is
    assumed; published networks of 1000 classes with torchvision's or timm's names get ImageNet's
    labels, other networks none. A dense head that is all NaN is dropped with a
    :class:`HeadDroppedWarning`. A Keras model gets the same preset as from ``from_keras``. A Keras
    file without a config does not say what its layers compute: an :class:`AssumedWarning` names
    the assumptions (ReLUs, positions of pools, no softmax, the epsilon of batch norms).

    Raises ``FileNotFoundError`` for a missing file, :class:`WeightsError` for other networks and
    unreadable files, ``TypeError`` for another kind of source.
    """
    if isinstance(source, Mapping):
        with prefixed("weights"):
            values, others = unwrap(source)
            tensors = {str(name): _host(name, value) for name, value in values.items()}
        warn_dropped(others, "weights")
        with prefixed("arrays"):
            return with_labels(_from_tensors(tensors, "arrays", Stated()), labels_in(source))
    if isinstance(source, Weights):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            "weights: expected a path, 'digits', 'imagenet' or a dict of arrays, got "
            f"{type(source).__name__}"
        )
    if source == "digits":
        with resources.as_file(resources.files("vgg_cuda") / "data" / "digits.safetensors") as path:
            return _from_file(path, "digits")
    if isinstance(source, str) and hub.matches(source):
        with prefixed(source):
            path = hub.download(source)
        return replace(_from_file(path, source), preset_stated=True)  # by definition of the name
    if isinstance(source, str) and source.startswith(RANDOM):
        return _random(source)
    if not os.fspath(source):
        raise WeightsError("weights: expected a path or a name, got an empty string")
    path = Path(source)
    if path.is_dir():
        raise WeightsError(f"{path}: expected a weights file, got a folder")
    if not path.exists():
        raise FileNotFoundError(
            f"no weights at {str(path)!r}: expected the path of a weights file, 'digits', "
            "'imagenet' or 'random:vgg16'"
        )
    if not path.is_file():  # opening a pipe would block
        raise WeightsError(f"{path}: expected a regular file")
    return _from_file(path, str(path))


def _random(source: str) -> Weights:
    name = source.removeprefix(RANDOM)
    if name not in CONFIGS:
        expected = ", ".join(f"{RANDOM}{known}" for known in CONFIGS)
        raise WeightsError(f"weights: expected one of {expected}, got {one_line(source, 40)!r}")
    return replace(he_weights(get_config(name), 0), source=source)


def _from_file(path: Path, source: str) -> Weights:
    with prefixed(source):
        try:
            with path.open("rb") as file:
                head = file.read(16)
            if not head:
                raise WeightsError("the file is empty")
            if keras_files.matches(path, head):
                return keras_files.read(path, source)
            if pth.matches(head) and not safetensors_file.matches(head):
                tensors, others, labels = pth.read(path, _layout)
                warn_dropped(others, source)
                return with_labels(_from_tensors(tensors, source, _stated_beside(path)), labels)
            if not safetensors_file.matches(head) and onnx_file.matches(head, path.suffix):
                return onnx_file.read(path, source)
            if not safetensors_file.matches(head):
                raise WeightsError(
                    "expected a weights file (safetensors, .pth, .keras, .h5 or .onnx), got other "
                    "data"
                )
            tensors, metadata = safetensors_file.read(path, _layout)
        except OSError as error:
            raise WeightsError(f"cannot be read: {error.strerror or error}") from error
        stated = parse(metadata)
        stated = stated if stated.present else _stated_beside(path)
        return _from_tensors(tensors, source, stated)


def _stated_beside(path: Path) -> Stated:
    """Return what timm's config beside a file of weights states."""
    try:
        preset = timm_preset_beside(path)
    except ValueError as error:
        raise WeightsError(str(error)) from None
    return Stated() if preset is None else Stated(preset=preset, preset_stated=True)


def _from_tensors(tensors: dict[str, Array], source: str, stated: Stated) -> Weights:
    """Return weights from tensors of any known layout; remove the tensors from the dict."""
    for name, tensor in tensors.items():
        if tensor.dtype.kind not in "fiu" and tensor.dtype.name != "bfloat16":
            raise WeightsError(f"{listed([name])}: expected numbers, got dtype {tensor.dtype}")
    layout = _layout(list(tensors))
    if layout is native:
        tensors = native.without_prefix(tensors)
    return layout.from_tensors(tensors, source, stated)  # type: ignore[no-any-return]


def _layout(names: list[str]) -> Any:
    """Return the module for these names. Raises :class:`WeightsError` for unknown names."""
    if native.prefix(names) is not None:
        return native
    if may_match(names):
        return state_dict
    raise WeightsError(
        "expected the weights of a VGG, with conv1_1.weight (native) or features.0.weight "
        f"(torchvision, timm) among the tensors, got {listed(names, 4) or 'no tensors at all'}"
    )


def _host(name: object, value: Any) -> Array:
    """Return a copy of ``value``, so that later changes of the caller's array have no effect."""
    if type(value).__module__.partition(".")[0] == "torch":
        return pth.to_array(str(name), value)
    try:
        return np.array(value)
    except (TypeError, RuntimeError, ValueError) as error:
        raise TypeError(f"weights: {name}: expected a host array: {error}") from error
