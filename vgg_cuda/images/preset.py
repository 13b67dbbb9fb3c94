"""A preset: the recipe that turns images into network inputs.

A preset resizes with Pillow, crops and computes ``(pixel / divisor - center - mean) / std`` per
channel in float32, in the order of the library that a preset is named after: to the same bits.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .decode import ImageError
from .resample import crop_offset, crop_window, is_panorama, resized_window, target_size
from .value_range import warn_outside

if TYPE_CHECKING:
    from PIL.Image import Image

Triple = tuple[float, float, float]

RESAMPLE = ("nearest", "bilinear", "bicubic", "box", "lanczos", "hamming")
MAX_SIDE = 8192  # largest size of a preset
MAX_PIXELS = 2**27  # of a resized image


@dataclass(frozen=True)
class Preset:
    """A recipe that turns an image into a network's input.

    - ``resize``: length of the shorter side, or (height, width), or None to keep the size.
    - ``crop``: side of a central square, or (height, width), or None.
    - ``resample``: one of :data:`RESAMPLE`, Pillow's filters; all but "nearest" are antialiased.
    - ``channels``: "RGB" or "BGR", the order of ``mean``, ``std`` and the network's channels.
    - ``divisor``, ``center``: a divisor of 127.5 and a center of 1 map pixels to -1 .. 1.

    Raises ``ValueError`` for other values.
    """

    name: str
    resize: int | tuple[int, int] | None = 256
    crop: int | tuple[int, int] | None = 224
    resample: str = "bilinear"
    channels: str = "RGB"
    divisor: float = 255.0
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    center: float = 0.0

    def __post_init__(self) -> None:
        def check(valid: bool, name: str, expected: str) -> None:
            if not valid:
                got = f"preset {self.name!r}: {name}: expected {expected}, got"
                raise ValueError(f"{got} {getattr(self, name)!r}")

        check(isinstance(self.name, str), "name", "a string")
        for name in ("resize", "crop"):
            value = getattr(self, name)
            sides = value if isinstance(value, tuple) else (value,) * 2
            valid = value is None or (len(sides) == 2 and all(map(_is_size, sides)))
            check(valid, name, f"sizes from 1 to {MAX_SIDE} or None")
        check(self.resample in RESAMPLE, "resample", f"one of {', '.join(RESAMPLE)}")
        check(self.channels in ("RGB", "BGR"), "channels", "RGB or BGR")
        for name in ("mean", "std"):
            value = getattr(self, name)
            check(isinstance(value, (tuple, list)) and len(value) == 3, name, "3 numbers")
            check(all(map(_is_float32, value)), name, "numbers in the range of float32")
        check(all(self.std), "std", "3 numbers, none of them 0")
        for name in ("divisor", "center"):
            check(_is_float32(getattr(self, name)), name, "a number in the range of float32")
        check(self.divisor != 0, "divisor", "a number other than 0")

    def __call__(self, image: Image | NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the network's input float32 [H,W,3] for one image.

        ``image`` is an RGB Pillow image, or a float array [H,W,3] of RGB pixels in
        ``pixel_range``, which is resized without rounding to 8 bits. Float pixels outside that
        range are used unchanged, after one :class:`RangeWarning` per preset.

        Raises ``TypeError`` for other arrays. Raises ``ImageError`` for NaN and infinity, and for
        a panorama that becomes too large because the preset has no crop.
        """
        if isinstance(image, np.ndarray):
            return self._standardize(self._from_floats(image))
        return self.normalize(np.asarray(self.resized(image)))

    @property
    def pixel_range(self) -> tuple[float, float]:
        """Values of black and white in a float image: (0, 1), (0, 255) or (-1, 1)."""
        low, high = sorted((0.0 - self.center, 255 / self.divisor - self.center))
        return low, high

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest value of a network input made from pixels 0 to 255."""
        scale = list(zip(self.mean, self.std, strict=True))
        ends = [(pixel - mean) / std for pixel in self.pixel_range for mean, std in scale]
        return min(ends), max(ends)

    def check_range(self, x: Any, *, stacklevel: int = 2) -> None:
        """Warn, once per preset, if x is unlikely to be an output of this preset.

        x is a floating-point array of preprocessed images, [N,H,W,3] or any other shape. Arrays
        outside host memory are not checked. Values may exceed ``input_range`` by a tenth of its
        width or by 6, whichever is larger: this accepts noise in units of the standard deviation
        and detects raw pixels.
        """
        if isinstance(x, np.ndarray):
            low, high = self.input_range
            slack = max((high - low) / 10, 6.0)
            meaning = f"pixels of 0 to 255 prepared by preset {self.name!r}"
            warn_outside(("x", self), x, (low, high), slack, meaning, stacklevel=stacklevel + 1)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of all network inputs; None if they depend on the image."""
        return self.cropped or (self.resize if isinstance(self.resize, tuple) else None)

    @property
    def cropped(self) -> tuple[int, int] | None:
        """Height and width of the central crop, None without one."""
        return (self.crop, self.crop) if isinstance(self.crop, int) else self.crop

    def resized(self, image: Image) -> Image:
        """Return the image at the network's input size, in its mode "RGB" or "F"."""
        from PIL.Image import Resampling

        size = image.size if self.resize is None else target_size(self.resize, *image.size)
        crop = self.cropped and self.cropped[::-1]  # width and height, as Pillow's sizes
        if size == image.size:
            pass
        elif crop is not None and is_panorama(image.size, size, crop):
            (left, right), (top, bottom) = map(crop_window, size, crop)
            image = resized_window(image, size, (left, top, right, bottom), self.resample)
        elif crop is None and isinstance(self.resize, int) and size[0] * size[1] > MAX_PIXELS:
            raise ImageError(
                f"expected at most {MAX_PIXELS:,} pixels after resizing, got {size[0]} x {size[1]} "
                f"from {image.width} x {image.height}: preset {self.name!r} has no crop"
            )
        else:
            image = image.resize(size, Resampling[self.resample.upper()])
        if crop is None or image.size == crop:
            return image
        left, top = map(crop_offset, image.size, crop)
        return image.crop((left, top, left + crop[0], top + crop[1]))  # Pillow pads with black

    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return pixels (uint8 RGB [...,3]) as float32 [...,3] in the network's channel order."""
        if self.center:  # as lpips.im2tensor: in float64, rounded once; computed per grey level
            levels = np.arange(256) / self.divisor - self.center
            return self._standardize(levels.astype(np.float32)[pixels])
        x = pixels.astype(np.float32)
        x /= np.float32(self.divisor)
        return self._standardize(x)

    def _standardize(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (x - mean) / std in the network's channel order; RGB x [...,3] may be modified."""
        if self.channels == "BGR":
            x = np.ascontiguousarray(x[..., ::-1])
        x -= np.array(self.mean, np.float32)
        x /= np.array(self.std, np.float32)
        return x

    def _from_floats(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Return the float image [H,W,3] at the network's input size, as a new array."""
        from PIL import Image

        if pixels.dtype.kind != "f" or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise TypeError(
                f"image: expected a float array [H, W, 3], got dtype {pixels.dtype} and shape "
                f"{pixels.shape}"
            )
        if not np.isfinite(pixels).all():
            raise ImageError("image: expected finite pixels, got NaN or infinity")
        low, high = self.pixel_range
        meaning = f"float pixels for preset {self.name!r}"
        warn_outside(("image", self), pixels, (low, high), (high - low) / 100, meaning)
        planes = (np.ascontiguousarray(pixels[..., c], np.float32) for c in range(3))
        return np.stack([np.asarray(self.resized(Image.fromarray(p))) for p in planes], axis=-1)

    def describe_size(self) -> str:
        """Return in words how images are resized: "resized to 224x224 (nearest)"."""
        crop = self.cropped and "centre crop {}x{}".format(*self.cropped)
        resize = None
        if isinstance(self.resize, tuple):
            resize = "resized to {}x{} ({})".format(*self.resize, self.resample)
        elif self.resize is not None:
            resize = f"shorter side resized to {self.resize} ({self.resample})"
        return ", ".join(filter(None, (resize, crop))) or "images keep their size"

    def describe_values(self) -> str:
        """Return in words how pixels become values: "RGB, pixels / 127.5 - 1"."""
        text = f"{self.channels}, pixels"
        text += f" / {self.divisor:g}" if self.divisor != 1 else ""
        text += f" - {self.center:g}" if self.center else ""
        text += f" - ({', '.join(f'{m:g}' for m in self.mean)})" if any(self.mean) else ""
        if set(self.std) != {1.0}:
            text += f", divided by ({', '.join(f'{s:.6g}' for s in self.std)})"
        return text if text.endswith(")") or "/" in text else f"{text} from 0 to 255"

    def to_dict(self) -> dict[str, Any]:
        """Return the preset as JSON-ready values; a center of 0 is left out, as in older files."""
        return {k: v for k, v in asdict(self).items() if k != "center" or v}

    @classmethod
    def from_dict(cls, values: Any) -> Preset:
        """Return the preset that ``to_dict`` described. Raises ``ValueError`` for other values."""
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


def _is_float32(value: object) -> bool:
    """Return whether ``value`` is a number that neither overflows nor underflows in float32."""
    limits = np.finfo(np.float32)
    if not isinstance(value, (int, float)):
        return False
    return value == 0 or float(limits.tiny) <= abs(value) <= float(limits.max)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIDE
