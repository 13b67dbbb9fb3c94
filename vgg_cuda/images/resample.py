"""Sizes and offsets of resizing and cropping, and the resizing of a window of an image.

An image of 20000 x 3 pixels, resized to a shorter side of 256, has 1.7 million x 256 pixels, of
which a crop keeps 224 x 224. ``resized_window`` computes only these, with the arithmetic of
Pillow's ``Resample.c``: positions and weights in float64, the horizontal pass first, 22-bit
fixed-point weights, and a rounding to 8 bits after each pass. The result is bit-identical to
``image.resize(size).crop(window)`` if the height does not shrink. If it does, Pillow 12.2 and later
may run the vertical pass first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

Floats = NDArray[np.float64]
PRECISION_BITS = 22  # of a weight; with 8 bits of a pixel and 2 for overshoot they fill 32 bits
PANORAMA = 64  # an image that resizes to more than this many crops is resized inside the crop only


def target_size(resize: int | tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Return width and height after resizing; the longer side is truncated, as in torchvision."""
    if isinstance(resize, tuple):
        return resize[1], resize[0]
    if width <= height:
        return resize, int(resize * height / width)
    return int(resize * width / height), resize


def crop_offset(length: int, crop: int) -> int:
    """Return the offset of a central crop; negative if the crop is longer than the image.

    Halves are rounded to even, and truncated when padding, as in torchvision's CenterCrop.
    """
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)


def is_panorama(source: tuple[int, int], size: tuple[int, int], crop: tuple[int, int]) -> bool:
    """Return whether the resized image is far larger than its crop, and larger than the source.

    Sizes are (width, height).
    """
    pixels = size[0] * size[1]
    larger = pixels > source[0] * source[1] and size[1] >= source[1]
    return larger and pixels > PANORAMA * crop[0] * crop[1]


def crop_window(length: int, crop: int) -> tuple[int, int]:
    """Return begin and end of the part of ``length`` that a central crop keeps."""
    begin = max(crop_offset(length, crop), 0)
    return begin, min(begin + crop, length)


def _box(x: Floats) -> Floats:
    return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)


def _bilinear(x: Floats) -> Floats:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _hamming(x: Floats) -> Floats:
    a, b = float(np.float32(0.54)), float(np.float32(0.46))  # float constants in Pillow
    return np.where(np.abs(x) < 1.0, np.sinc(x) * (a + b * np.cos(np.pi * x)), 0.0)


def _bicubic(x: Floats) -> Floats:
    x, a = np.abs(x), -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _lanczos(x: Floats) -> Floats:
    return np.where((x >= -3.0) & (x < 3.0), np.sinc(x) * np.sinc(x / 3), 0.0)


FILTERS: dict[str, tuple[float, Callable[[Floats], Floats]]] = {  # name: (support, weight function)
    "box": (0.5, _box),
    "bilinear": (1.0, _bilinear),
    "hamming": (1.0, _hamming),
    "bicubic": (2.0, _bicubic),
    "lanczos": (3.0, _lanczos),
}


def resized_window(
    image: Image, size: tuple[int, int], window: tuple[int, int, int, int], resample: str
) -> Image:
    """Return ``image.resize(size, resample).crop(window)``, computing the window only.

    ``image`` has mode "RGB" or "F", ``size`` is (width, height), ``window`` is (left, top, right,
    bottom) inside ``size``, and ``resample`` is a key of ``FILTERS`` or "nearest". Results of
    "box", "bilinear" and "bicubic" are bit-identical to Pillow's. "hamming" and "lanczos" may
    round differently because NumPy's sine differs from the C library's, and "nearest" because
    Pillow accumulates its steps.
    """
    from PIL import Image

    left, top, right, bottom = window
    columns, column_weights = _taps(image.width, size[0], left, right, resample)
    rows, row_weights = _taps(image.height, size[1], top, bottom, resample)
    x0, x1 = int(columns.min()), int(columns.max()) + 1
    y0, y1 = int(rows.min()), int(rows.max()) + 1
    pixels = np.asarray(image.crop((x0, y0, x1, y1)))
    pixels = _pass(pixels.swapaxes(0, 1), columns - x0, column_weights).swapaxes(0, 1)
    return Image.fromarray(np.ascontiguousarray(_pass(pixels, rows - y0, row_weights)))


def _taps(
    source: int, target: int, first: int, last: int, resample: str
) -> tuple[NDArray[np.int64], Floats]:
    """Return source indices [n, taps] and weights [n, taps] of the outputs ``first`` to ``last``.

    One axis of ``source`` pixels is resized to ``target`` pixels. Unused taps have a weight of 0.
    """
    scale = source / target
    center = (np.arange(first, last) + 0.5) * scale
    if resample == "nearest":
        return center.astype(np.int64)[:, None], np.ones((len(center), 1))
    support, weight = FILTERS[resample]
    stretch = max(scale, 1.0)  # antialiasing: shrinking an image widens the filter
    support *= stretch
    begin = np.maximum((center - support + 0.5).astype(np.int64), 0)
    end = np.minimum((center + support + 0.5).astype(np.int64), source)
    index = begin[:, None] + np.arange(math.ceil(support) * 2 + 1)
    weights = weight((index - center[:, None] + 0.5) * (1.0 / stretch))
    weights[index >= end[:, None]] = 0.0
    total = np.cumsum(weights, axis=1)[:, -1:]  # sequential, as Pillow's loop
    return np.minimum(index, source - 1), weights / np.where(total == 0.0, 1.0, total)


def _pass(pixels: NDArray[Any], index: NDArray[np.int64], weights: Floats) -> NDArray[Any]:
    """Return weighted sums [n, ...] along axis 0 of ``pixels`` [m, ...], uint8 or float32."""
    shape = (len(index), *(1,) * (pixels.ndim - 1))
    eight_bits = pixels.dtype == np.uint8
    total: NDArray[Any]
    if eight_bits:
        weights = weights * (1 << PRECISION_BITS)
        weights = np.trunc(np.where(weights < 0, weights - 0.5, weights + 0.5))
        total = np.full((len(index), *pixels.shape[1:]), 1 << (PRECISION_BITS - 1), np.int32)
    else:
        total = np.zeros((len(index), *pixels.shape[1:]))
    for tap, weight in enumerate(weights.T.astype(total.dtype)):
        total += pixels[index[:, tap]].astype(total.dtype) * weight.reshape(shape)
    if eight_bits:
        return (total >> PRECISION_BITS).clip(0, 255).astype(np.uint8)
    return total.astype(np.float32)
