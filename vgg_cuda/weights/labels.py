"""The names of ImageNet's classes, for networks whose files bring none."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources


@lru_cache(maxsize=1)
def imagenet_labels() -> tuple[str, ...]:
    """The 1000 classes of ILSVRC 2012 in the order of torchvision's networks, all different.

    The names are WordNet's, the first or best known one of each class. Russakovsky et al.,
    "ImageNet Large Scale Visual Recognition Challenge", 2015.
    """
    path = resources.files("vgg_cuda") / "data" / "imagenet_labels.txt"
    return tuple(path.read_text(encoding="utf-8").splitlines())
