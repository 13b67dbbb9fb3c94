"""Reading weights: from a file, a dict of arrays, or by the name of a network that ships."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import native, torchvision
from .canonical import Weights, WeightsError, shapes
from .he import he_weights
from .native import save

__all__ = ["Weights", "WeightsError", "he_weights", "load_weights", "save", "shapes"]

Source = str | os.PathLike[str] | Mapping[str, Any]


def load_weights(source: Source) -> Weights:
    """The weights that ``source`` names or holds.

    ``source`` is "digits" (ships with the package), the path of a safetensors file with native or
    torchvision names, or a mapping of such names to arrays. Raises ``FileNotFoundError`` for a
    path that is not there, :class:`WeightsError` for anything that does not make a VGG and
    ``TypeError`` for another kind of source.
    """
    if isinstance(source, Mapping):
        tensors = {str(name): _host(name, value) for name, value in source.items()}
        return _from_tensors(tensors, "arrays", {})
    if isinstance(source, Weights):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"weights: expected a path, 'digits' or a dict of arrays, got {type(source).__name__}"
        )
    if source == "digits":
        with resources.as_file(resources.files("vgg_cuda") / "data" / "digits.safetensors") as path:
            return _from_file(path, "digits")
    path = Path(source)
    if path.is_dir():
        raise WeightsError(f"{path} is a folder: expected a safetensors file")
    if not path.exists():
        raise FileNotFoundError(
            f"no weights at {str(path)!r}: expected the path of a safetensors file, or 'digits'"
        )
    return _from_file(path, str(path))


def _from_file(path: Path, source: str) -> Weights:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise WeightsError(f"{source}: not a readable safetensors file: {error}") from error
    return _from_tensors(tensors, source, metadata)


def _from_tensors(
    tensors: Mapping[str, NDArray[Any]], source: str, metadata: Mapping[str, str]
) -> Weights:
    names = list(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype.kind not in "fiu" and tensor.dtype.name != "bfloat16":
            raise WeightsError(f"{source}: {name}: expected numbers, got dtype {tensor.dtype}")
    if native.matches(names):
        return native.from_tensors(tensors, source, metadata)
    if torchvision.matches(names):
        return torchvision.from_tensors(tensors, source)
    shown = ", ".join(names[:4]) or "no tensors at all"
    raise WeightsError(
        f"{source}: not the weights of a VGG: expected conv1_1.weight (native) or "
        f"features.0.weight (torchvision) among the tensors, got {shown}"
    )


def _host(name: object, value: Any) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except (TypeError, RuntimeError, ValueError) as error:
        raise TypeError(f"weights: {name}: expected a host array: {error}") from error
