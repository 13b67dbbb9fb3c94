"""VGG-11/13/16/19 inference on hand-written CUDA kernels, with a NumPy backend."""

from __future__ import annotations

from importlib.metadata import version as _version

from . import configs, layers, ops
from .images import ImageError
from .preprocess import PRESETS, Preset, RangeWarning
from .verification import verify
from .vgg import VGG, Prediction
from .weights import WeightsError

__version__ = _version("vgg-cuda")

__all__ = [
    "PRESETS",
    "VGG",
    "ImageError",
    "Prediction",
    "Preset",
    "RangeWarning",
    "WeightsError",
    "__version__",
    "configs",
    "layers",
    "ops",
    "verify",
]
