"""What a model is called with: arrays of images checked, and brought to its device."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from . import ops
from .arrays import Restore, describe, dtype_name, is_cupy, numpy_dtype, require_float, unwrap
from .backends import Array, Backend
from .configs import IN_CHANNELS, MIN_SIZE

MOST_PIXELS = 2**31 - 1025  # of a batch: kernels count them in int32


def check_images(x: Any, layout: str, backend: Backend) -> tuple[Array, Restore]:
    """x [N,H,W,3], or [N,3,H,W] in ``layout`` "NCHW", as NumPy or CuPy array; the way back.

    Floating point or uint8. Raises ``ValueError`` for shapes, ``TypeError`` for dtypes, array kinds
    and arrays on a GPU where ``backend`` is on none.
    """
    if layout not in ("NHWC", "NCHW"):
        raise ValueError(f"unknown layout {layout!r}: expected NHWC or NCHW")
    array, restore = unwrap(x, "x")
    if array.dtype != np.uint8:
        require_float(array, "x")
    if backend.name != "cuda" and is_cupy(array):
        raise TypeError(
            f"x: expected an array in host memory (the model is on {backend.device}), got "
            f"{describe(x)}"
        )
    channels = 3 if layout == "NHWC" else 1
    if array.ndim != 4 or array.shape[channels] != IN_CHANNELS:
        expected = "[N, H, W, 3] (NHWC)" if layout == "NHWC" else "[N, 3, H, W] (NCHW)"
        other = "NCHW" if layout == "NHWC" else "NHWC"
        swapped = array.ndim == 4 and array.shape[4 - channels] == IN_CHANNELS
        hint = f'; pass layout="{other}" if that is its layout' if swapped else ""
        raise ValueError(f"x: expected {expected}, got {tuple(array.shape)}{hint}")
    height, width = array.shape[1:3] if layout == "NHWC" else array.shape[2:]
    if min(height, width) < MIN_SIZE:
        raise ValueError(
            f"x: expected H and W >= {MIN_SIZE} (five pools halve them), "
            f"got H = {height} and W = {width}"
        )
    return array, restore


def check_images_to_come(
    shape: Any, dtype: Any, dtypes: Sequence[str], what: str
) -> tuple[tuple[int, ...], str]:
    """The shape [N,H,W,3] and the dtype's name of images that a model will be called with.

    Raises ``ValueError`` for a shape that is none and for a dtype that is not one of ``dtypes``.
    """
    try:
        sizes = tuple(index(size) for size in shape)
    except TypeError:
        sizes = ()
    if len(sizes) != 4 or sizes[3] != IN_CHANNELS or sizes[0] < 1 or min(sizes[1:3]) < MIN_SIZE:
        raise ValueError(
            f"{what}: shape: expected (N, H, W, 3) with N >= 1 and H, W >= {MIN_SIZE}, "
            f"got {shape!r}"
        )
    most = MOST_PIXELS // (sizes[1] * sizes[2])
    if sizes[0] > most:
        raise ValueError(
            f"{what}: shape: expected at most N = {most} images of {sizes[1]} x {sizes[2]} in one "
            f"forward (2^31 pixels), got N = {sizes[0]}"
        )
    name = dtype_name(dtype)
    if name not in dtypes:
        known = " or ".join(dict.fromkeys(dtypes))
        raise ValueError(f"{what}: dtype: expected {known}, got {name}")
    return sizes, name


def batch_on(backend: Backend, x: Array, layout: str, dtype: str) -> Array:
    """A batch in NHWC on the device, as a first convolution that computes in ``dtype`` reads it."""
    if layout == "NHWC":
        return backend.as_images(x, dtype)
    if is_cupy(x) and x.dtype.name in backend.dtypes:
        x = backend.asarray(x, x.dtype.name)
        return ops.convert(x, numpy_dtype(dtype), source="NCHW", device=backend)
    return backend.as_images(x.transpose(0, 2, 3, 1), dtype)


def check_dtype(backend: Backend, dtype: Any) -> str:
    """The name of a precision that ``backend`` computes in, by default its first.

    Raises ``ValueError`` for another.
    """
    if dtype is None:
        return backend.precisions[0]
    name = dtype_name(dtype)
    if name not in backend.precisions:
        known = " or ".join(backend.precisions)
        advice = ""
        if backend.name == "cpu" and name in ("float16", "bfloat16", "tf32"):
            advice = f'; GPUs and device "emulator" compute in {name}'
        raise ValueError(f"unknown dtype {name!r} on {backend.device}: expected {known}{advice}")
    return name
