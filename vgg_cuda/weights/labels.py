"""Names of classes: ImageNet's, for networks whose files have no labels, and those in files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from ..text import one_line

MAX_BYTES = 16 << 20


@lru_cache(maxsize=1)
def imagenet_labels() -> tuple[str, ...]:
    """Return the 1000 classes of ILSVRC 2012 in torchvision's order, all different.

    The names are WordNet's, the first or best known name of each class. Russakovsky et al.,
    "ImageNet Large Scale Visual Recognition Challenge", 2015.
    """
    path = resources.files("vgg_cuda") / "data" / "imagenet_labels.txt"
    return tuple(path.read_text(encoding="utf-8").splitlines())


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the class names in a file, class 0 first.

    A file that ends in .json holds a list of names, or an object that maps indices to names
    (``{"0": "cat"}``, also ImageNet's ``{"0": ["n01440764", "tench"]}``) or names to indices
    (``{"cat": 0}``, as ``class_indices`` of Keras). Any other file is UTF-8 text with a name per
    line. Raises ``FileNotFoundError``, and ``ValueError`` for other content.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"labels: no such file: {str(path)!r}")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"labels: {path}: expected at most {MAX_BYTES} bytes")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() != ".json":
            return tuple(text.rstrip("\n").split("\n")) if text.strip() else ()
        return _from_json(json.loads(text))
    except RecursionError:
        raise ValueError(f"labels: {path}: expected fewer nested levels") from None
    except ValueError as error:  # also errors of json and UTF-8
        raise ValueError(f"labels: {path}: {one_line(error)}") from None


def _from_json(found: Any) -> tuple[str, ...]:
    if isinstance(found, Mapping):
        if found and all(type(index) is int for index in found.values()):
            found = {str(index): name for name, index in found.items()}
        expected = [str(index) for index in range(len(found))]
        if found.keys() != set(expected):
            raise ValueError(f"expected the indices 0 to {len(found) - 1}, each once")
        found = [found[index] for index in expected]
    if not isinstance(found, list):
        raise ValueError("expected a list of names, or an object of names and indices")
    names = [entry[-1] if isinstance(entry, list) and entry else entry for entry in found]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("expected every name to be a string")
    return tuple(names)
