"""Conversion of Keras' arguments, arrays and presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...images.presets import PRESETS, Preset

INACTIVE = (
    "ActivityRegularization", "AlphaDropout", "AugMix", "CutMix", "Dropout", "GaussianDropout",
    "GaussianNoise", "Identity", "InputLayer", "MixUp", "RandAugment", "RandomBrightness",
    "RandomColorDegeneration", "RandomColorJitter", "RandomContrast", "RandomElasticTransform",
    "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHue",
    "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation",
    "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom",
    "SpatialDropout1D", "SpatialDropout2D",
)  # fmt: skip
"""Layers without effect in ``predict``. AutoContrast, Equalization and others act there, too."""


def preset_for(first: str) -> Preset:
    """Return the preset of a model whose first convolution is called ``first``."""
    return PRESETS["keras"] if first == "block1_conv1" else PRESETS["unit"]


def data_format(config: Mapping[str, Any]) -> str:
    """Return a layer's data format: "channels_last" or "channels_first"."""
    return str(config.get("data_format") or "channels_last")


def pair(value: Any) -> Any:
    """Return a size per axis from Keras' spellings: a number, a list, a serialised tuple."""
    if isinstance(value, Mapping):
        value = value.get("items")
    return tuple(value) if isinstance(value, list) else (value, value)


def only(value: Any) -> Any:
    """Return the element of a list of one, such as the axis of a softmax; else ``value``."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def is_quantized(config: Mapping[str, Any]) -> bool:
    """Return whether a layer's dtype policy says that its weights are integers."""
    policy = config.get("dtype")
    quantized = isinstance(policy, Mapping) and str(policy.get("class_name")).startswith("Quant")
    return quantized or "_from_" in str(policy) or bool(config.get("quantization_config"))
