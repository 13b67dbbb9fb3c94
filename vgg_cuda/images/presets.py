"""How an image becomes a network's input: named presets, in Pillow's own arithmetic.

A preset resizes, crops and then computes ``(pixel / divisor - center - mean) / std`` per channel
in float32, in the order of operations of the library it is named after, so that results agree to
the bit.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .decode import ImageError
from .resample import crop_offset, crop_window, is_panorama, resized_window, target_size
from .value_range import RangeWarning, warn_outside

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PRESETS", "RESAMPLE", "Preset", "RangeWarning", "as_preset", "get_preset"]

Triple = tuple[float, float, float]

RESAMPLE = ("nearest", "bilinear", "bicubic", "box", "lanczos", "hamming")
MAX_SIDE = 8192  # that a preset may ask for
MAX_PIXELS = 2**27  # of a resized image


@dataclass(frozen=True)
class Preset:
    """One way of preparing images.

    ``resize`` is the length of the shorter side, or (height, width), or None to keep the size;
    ``crop`` the side of a central square, or None; ``resample`` one of Pillow's filters, all of
    them antialiased but "nearest"; ``channels`` "RGB" or "BGR", the order in which ``mean`` and
    ``std`` are given and the network reads them; ``center`` is taken off after the division: a
    divisor of 127.5 and a center of 1 make pixels run from -1 to 1. Raises ``ValueError`` for
    anything else.
    """

    name: str
    resize: int | tuple[int, int] | None = 256
    crop: int | None = 224
    resample: str = "bilinear"
    channels: str = "RGB"
    divisor: float = 255.0
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    center: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ValueError(f"preset: name: expected a string, got {self.name!r}")
        sizes = self.resize if isinstance(self.resize, tuple) else (self.resize,)
        if len(sizes) > 2 or any(s is not None and not _is_size(s) for s in (*sizes, self.crop)):
            raise ValueError(
                f"preset {self.name!r}: resize and crop: expected sizes of 1 to {MAX_SIDE}, got "
                f"{self.resize!r} and {self.crop!r}"
            )
        if self.resample not in RESAMPLE:
            raise ValueError(
                f"preset {self.name!r}: resample: expected one of {', '.join(RESAMPLE)}, "
                f"got {self.resample!r}"
            )
        if self.channels not in ("RGB", "BGR"):
            raise ValueError(
                f"preset {self.name!r}: channels: expected RGB or BGR, got {self.channels!r}"
            )
        scale = (self.divisor, self.center)
        for what, values in (("mean", self.mean), ("std", self.std), ("divisor, center", scale)):
            if not all(isinstance(v, (int, float)) and _is_float32(v) for v in values):
                raise ValueError(f"preset {self.name!r}: {what}: expected numbers, got {values!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all((*self.std, self.divisor)):
            raise ValueError(
                f"preset {self.name!r}: expected 3 means and 3 standard deviations, none of the "
                f"latter 0, got {self.mean!r} and {self.std!r}"
            )

    def __call__(self, image: Image | NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """An RGB Pillow image, or a float array [H,W,3], -> float32 [H,W,3] for the network.

        Float pixels are RGB in ``pixel_range``; they are resized without rounding to 8 bits.
        Other values warn once (:class:`RangeWarning`) and are used as they are. Raises
        ``TypeError`` for another array, ``ImageError`` for NaN, infinity, and where the resized
        image were larger than any memory is worth (a panorama that no crop cuts).
        """
        if isinstance(image, np.ndarray):
            return self._standardize(self._from_floats(image))
        return self.normalize(np.asarray(self.resized(image)))

    @property
    def pixel_range(self) -> tuple[float, float]:
        """Darkest and lightest value of a float image: (0, 1), (0, 255) or (-1, 1)."""
        low, high = sorted((0.0 - self.center, 255 / self.divisor - self.center))
        return low, high

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest value of an input made of pixels 0 to 255."""
        scale = list(zip(self.mean, self.std, strict=True))
        ends = [(pixel - mean) / std for pixel in self.pixel_range for mean, std in scale]
        return min(ends), max(ends)

    def check_range(self, x: Any, *, stacklevel: int = 2) -> None:
        """Warns, once per preset, if x holds what this preset would hardly have made.

        x [N,H,W,3] (any shape), floating point: preprocessed inputs. Only arrays in host memory
        are looked at. Values may lie a tenth of the range outside, or 6, whichever is more:
        noise in units of the standard deviation is no mistake, raw pixels are one.
        """
        if isinstance(x, np.ndarray):
            low, high = self.input_range
            slack = max((high - low) / 10, 6.0)
            meaning = f"pixels of 0 to 255 prepared by preset {self.name!r}"
            warn_outside(("x", self), x, (low, high), slack, meaning, stacklevel=stacklevel + 1)

    def resized(self, image: Image) -> Image:
        """The image at the network's input size; mode "RGB" or "F", which is kept."""
        from PIL.Image import Resampling

        size = image.size if self.resize is None else target_size(self.resize, *image.size)
        crop = self.crop
        if size == image.size:
            pass
        elif crop is not None and is_panorama(image.size, size, crop):
            (left, right), (top, bottom) = (crop_window(length, crop) for length in size)
            image = resized_window(image, size, (left, top, right, bottom), self.resample)
        elif crop is None and isinstance(self.resize, int) and size[0] * size[1] > MAX_PIXELS:
            raise ImageError(
                f"{image.width} x {image.height} pixels become {size[0]} x {size[1]} in preset "
                f"{self.name!r}, which has no crop; expected at most {MAX_PIXELS:,}"
            )
        else:
            image = image.resize(size, Resampling[self.resample.upper()])
        if crop is None or image.size == (crop, crop):
            return image
        left, top = (crop_offset(length, crop) for length in image.size)
        return image.crop((left, top, left + crop, top + crop))  # black outside

    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [...,3] -> float32 [...,3] in the network's channel order and range."""
        if self.center:  # LPIPS' im2tensor: in float64, rounded once; here once per grey level
            levels = np.arange(256) / self.divisor - self.center
            return self._standardize(levels.astype(np.float32)[pixels])
        x = pixels.astype(np.float32)
        x /= np.float32(self.divisor)
        return self._standardize(x)

    def _standardize(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(x - mean) / std, in place; x RGB [...,3]."""
        if self.channels == "BGR":
            x = np.ascontiguousarray(x[..., ::-1])
        x -= np.array(self.mean, np.float32)
        x /= np.array(self.std, np.float32)
        return x

    def _from_floats(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """The float image [H,W,3] at the network's input size, a new array."""
        from PIL import Image

        if pixels.dtype.kind != "f" or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise TypeError(
                f"image: expected a float array [H, W, 3], got dtype {pixels.dtype} and shape "
                f"{pixels.shape}"
            )
        if not np.isfinite(pixels).all():
            raise ImageError("image: the array holds NaN or infinite values")
        low, high = self.pixel_range
        meaning = f"float pixels of preset {self.name!r}"
        warn_outside(("image", self), pixels, (low, high), (high - low) / 100, meaning)
        planes = (np.ascontiguousarray(pixels[..., c], np.float32) for c in range(3))
        return np.stack([np.asarray(self.resized(Image.fromarray(p))) for p in planes], axis=-1)

    def to_dict(self) -> dict[str, Any]:
        """The preset as JSON-ready values; a center of 0 is left out, as older files do."""
        return {k: v for k, v in asdict(self).items() if k != "center" or v}

    @classmethod
    def from_dict(cls, values: Any) -> Preset:
        """The preset that ``to_dict`` gave. Raises ``ValueError`` for unknown or odd values."""
        known = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or "name" not in values or not values.keys() <= known:
            raise ValueError(
                f"preset: expected an object with a name and {', '.join(sorted(known - {'name'}))}"
                f", got {values!r}"
            )
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        try:
            return cls(**given)
        except TypeError as error:
            raise ValueError(f"preset: {error}") from error


def _is_float32(value: float) -> bool:
    """Whether ``value`` is 0 or neither vanishes nor overflows in float32."""
    limits = np.finfo(np.float32)
    return value == 0 or float(limits.tiny) <= abs(value) <= float(limits.max)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIDE


_CAFFE_MEAN = (103.939, 116.779, 123.68)  # BGR
_UNIT: Triple = (1.0, 1.0, 1.0)

PRESETS = {
    preset.name: preset
    for preset in (
        # torchvision's ImageClassification transform: Resize, CenterCrop, ToTensor, Normalize
        Preset("torchvision"),
        # timm's transforms_imagenet_eval: scale_size = floor(img_size / crop_pct), then the same
        Preset("timm", resize=math.floor(224 / 0.875)),
        # keras.utils.load_img(target_size=(224, 224)), then applications.vgg16.preprocess_input
        Preset("keras", (224, 224), None, "nearest", "BGR", 1.0, _CAFFE_MEAN, _UNIT),
        # Simonyan and Zisserman's evaluation at one scale and one central crop
        Preset("caffe", 256, 224, "bilinear", "BGR", 1.0, _CAFFE_MEAN, _UNIT),
        # torchvision's VGG16_Weights.IMAGENET1K_FEATURES
        Preset("features", mean=(0.48235, 0.45882, 0.40784), std=(1 / 255, 1 / 255, 1 / 255)),
        # lpips.im2tensor, then the ScalingLayer: what LPIPS' VGG sees
        Preset(
            *("lpips", None, None, "bilinear", "RGB", 127.5),
            mean=(-0.030, -0.088, -0.188),
            std=(0.458, 0.448, 0.450),
            center=1.0,
        ),
    )
}


def get_preset(name: str) -> Preset:
    """The preset called ``name``. Raises ``ValueError`` listing the valid ones."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def as_preset(preset: str | Preset) -> Preset:
    """``preset``, or the one of that name. Raises ``TypeError`` for neither."""
    if isinstance(preset, Preset):
        return preset
    if not isinstance(preset, str):
        raise TypeError(f"preset: expected a name or a Preset, got {preset!r}")
    return get_preset(preset)
