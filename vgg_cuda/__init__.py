"""VGG-11/13/16/19 inference on hand-written CUDA kernels, with a NumPy backend for CPUs."""

from __future__ import annotations

from . import startup  # noqa: F401 (first: it handles Ctrl-C during the other imports)

# isort: split
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

from . import configs, layers, ops
from .images.batches import ImageError
from .images.presets import PRESETS, Preset, RangeWarning
from .predictions import Prediction
from .system.cpus import get_num_threads, set_num_threads
from .system.notices import DeviceWarning, FallbackWarning
from .verification import verify
from .vgg import VGG
from .weights import AssumedWarning, DroppedWarning, WeightsError
from .weights.chain.layers import UnsupportedError

if TYPE_CHECKING:
    from .interop.keras import from_keras as from_keras
    from .interop.torch_module import from_torch as from_torch

__version__ = _version("vgg-cuda")

_INTEROP = {"from_keras": "keras", "from_torch": "torch_module"}
"""Functions imported on first access, each with its module in ``interop``; not part of ``*``."""

__all__ = [
    "PRESETS",
    "VGG",
    "AssumedWarning",
    "DeviceWarning",
    "DroppedWarning",
    "FallbackWarning",
    "ImageError",
    "Prediction",
    "Preset",
    "RangeWarning",
    "UnsupportedError",
    "WeightsError",
    "__version__",
    "configs",
    "get_num_threads",
    "layers",
    "ops",
    "set_num_threads",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _INTEROP:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".interop.{_INTEROP[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_INTEROP})
