"""How an image becomes a network's input: named presets, in Pillow's own arithmetic.

A preset resizes, crops and then computes ``(pixel / divisor - mean) / std`` per channel in
float32, in torchvision's order of operations, so that results agree to the bit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

Triple = tuple[float, float, float]

RESAMPLE = ("nearest", "bilinear", "bicubic", "box", "lanczos", "hamming")


@dataclass(frozen=True)
class Preset:
    """One way of preparing images.

    ``resize`` is the length of the shorter side, or (height, width), or None to keep the size;
    ``crop`` the side of a central square, or None; ``resample`` one of Pillow's filters, all of
    them antialiased but "nearest"; ``channels`` "RGB" or "BGR", the order in which ``mean`` and
    ``std`` are given and the network reads them. Raises ``ValueError`` for anything else.
    """

    name: str
    resize: int | tuple[int, int] | None = 256
    crop: int | None = 224
    resample: str = "bilinear"
    channels: str = "RGB"
    divisor: float = 255.0
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        sizes = self.resize if isinstance(self.resize, tuple) else (self.resize,)
        if len(sizes) > 2 or any(s is not None and not _is_size(s) for s in (*sizes, self.crop)):
            raise ValueError(
                f"preset {self.name!r}: resize and crop: expected sizes of 1 to 65535, got "
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
        for what, values in (("mean", self.mean), ("std", self.std), ("divisor", [self.divisor])):
            if not all(isinstance(v, (int, float)) and np.isfinite(v) for v in values):
                raise ValueError(f"preset {self.name!r}: {what}: expected numbers, got {values!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all((*self.std, self.divisor)):
            raise ValueError(
                f"preset {self.name!r}: expected 3 means and 3 standard deviations, none of the "
                f"latter 0, got {self.mean!r} and {self.std!r}"
            )

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """An RGB Pillow image -> float32 [H,W,3], ready for the network."""
        return self.normalize(np.asarray(self.resized(image)))

    def resized(self, image: Image) -> Image:
        """The image at the network's input size, as 8-bit RGB."""
        from PIL.Image import Resampling

        if self.resize is not None:
            width, height = _target(self.resize, *image.size)
            if (width, height) != image.size:
                image = image.resize((width, height), Resampling[self.resample.upper()])
        if self.crop is not None:
            width, height = image.size
            # torchvision's CenterCrop: Python's round, halves to even
            left, top = round((width - self.crop) / 2), round((height - self.crop) / 2)
            image = image.crop((left, top, left + self.crop, top + self.crop))
        return image

    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [...,3] -> float32 [...,3] in the network's channel order and range."""
        if self.channels == "BGR":
            pixels = pixels[..., ::-1]
        x = pixels.astype(np.float32)
        x /= np.float32(self.divisor)
        x -= np.array(self.mean, np.float32)
        x /= np.array(self.std, np.float32)
        return x

    def to_dict(self) -> dict[str, Any]:
        """The preset as JSON-ready values."""
        return asdict(self)

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


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535


def _target(resize: int | tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Width and height after resizing; the longer side is cut to an integer, as in torchvision."""
    if isinstance(resize, tuple):
        return resize[1], resize[0]
    if width <= height:
        return resize, int(resize * height / width)
    return int(resize * width / height), resize


PRESETS = {"torchvision": Preset("torchvision")}


def get_preset(name: str) -> Preset:
    """The preset called ``name``. Raises ``ValueError`` listing the valid ones."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
