"""VGG-11/13/16/19 inference on hand-written CUDA kernels, with a NumPy backend."""

from __future__ import annotations

from importlib.metadata import version as _version

from . import configs, layers, ops
from .preprocess import PRESETS, Preset
from .vgg import VGG, Prediction

__version__ = _version("vgg-cuda")

__all__ = ["PRESETS", "VGG", "Prediction", "Preset", "__version__", "configs", "layers", "ops"]
