"""Presets by name, and their adaptation to the image size of a network."""

from __future__ import annotations

import math

from .fitting import fitted
from .preset import MAX_SIDE, RESAMPLE, Preset, Triple
from .preset_files import read_preset
from .value_range import RangeWarning

__all__ = [
    "MAX_SIDE",
    "PRESETS",
    "RESAMPLE",
    "Preset",
    "RangeWarning",
    "as_preset",
    "fitted",
    "get_preset",
]

_CAFFE_MEAN = (103.939, 116.779, 123.68)  # BGR
_UNIT: Triple = (1.0, 1.0, 1.0)
_ZERO: Triple = (0.0, 0.0, 0.0)
_LOAD_IMG = ((224, 224), None, "nearest", "RGB")  # keras.utils.load_img(target_size=(224, 224))

PRESETS = {
    preset.name: preset
    for preset in (
        # torchvision's ImageClassification transform: Resize, CenterCrop, ToTensor, Normalize
        Preset("torchvision"),
        # timm's transforms_imagenet_eval: scale_size = floor(img_size / crop_pct), then as above
        Preset("timm", resize=math.floor(224 / 0.875)),
        # keras.utils.load_img(target_size=(224, 224)), then applications.vgg16.preprocess_input
        Preset("keras", (224, 224), None, "nearest", "BGR", 1.0, _CAFFE_MEAN, _UNIT),
        # Simonyan and Zisserman's evaluation at a single scale with one central crop
        Preset("caffe", 256, 224, "bilinear", "BGR", 1.0, _CAFFE_MEAN, _UNIT),
        # torchvision's VGG16_Weights.IMAGENET1K_FEATURES
        Preset("features", mean=(0.48235, 0.45882, 0.40784), std=(1 / 255, 1 / 255, 1 / 255)),
        # lpips.im2tensor, then LPIPS' ScalingLayer
        Preset(
            *("lpips", None, None, "bilinear", "RGB", 127.5),
            mean=(-0.030, -0.088, -0.188),
            std=(0.458, 0.448, 0.450),
            center=1.0,
        ),
        # load_img, then a division by 255, as most Keras models are trained
        Preset("unit", *_LOAD_IMG, 255.0, _ZERO, _UNIT),
        # load_img, then keras.applications' preprocess_input in its mode "tf", to one rounding
        Preset("tf", *_LOAD_IMG, 127.5, _ZERO, _UNIT, 1.0),
        # load_img alone, for networks that normalize pixels themselves
        Preset("pixels", *_LOAD_IMG, 1.0, _ZERO, _UNIT),
    )
}


def get_preset(name: str) -> Preset:
    """Return the preset called ``name``. Raises ``ValueError`` for unknown names."""
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise ValueError(f"preset: expected one of {known}, or a .json file, got {name!r}")
    return PRESETS[name]


def as_preset(preset: str | Preset, size: tuple[int, int] | None = None) -> Preset:
    """Return ``preset`` itself, or the preset of that name fitted to images of ``size`` (H, W).

    A name that ends in .json is the path of a file (see :func:`.preset_files.read_preset`). Raises
    ``ValueError`` for unknown names and files of other content, ``TypeError`` for other objects.
    """
    if isinstance(preset, Preset):
        return preset
    if not isinstance(preset, str):
        raise TypeError(f"preset: expected a name or a Preset, got {preset!r}")
    if preset.lower().endswith(".json"):
        return read_preset(preset, size)
    return fitted(get_preset(preset), size)
