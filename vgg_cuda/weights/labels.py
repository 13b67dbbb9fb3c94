"""Names of ImageNet's classes, for networks whose files have no labels."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources


@lru_cache(maxsize=1)
def imagenet_labels() -> tuple[str, ...]:
    """Return the 1000 classes of ILSVRC 2012 in torchvision's order, all different.

    The names are WordNet's, the first or best known name of each class. Russakovsky et al.,
    "ImageNet Large Scale Visual Recognition Challenge", 2015.
    """
    path = resources.files("vgg_cuda") / "data" / "imagenet_labels.txt"
    return tuple(path.read_text(encoding="utf-8").splitlines())
