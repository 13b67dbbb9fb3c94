"""Checks of a model's inputs, and their transfer to its device."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from .. import ops
from ..arrays import Restore, describe, dtype_name, is_cupy, numpy_dtype, require_float, unwrap
from ..backends import Array, Backend
from ..configs import IN_CHANNELS, Config
from ..images.normalization import Normalization

MAX_PIXELS = 2**31 - 1025  # of a batch; kernels count pixels in int32


def check_images(x: Any, layout: str, backend: Backend, config: Config) -> tuple[Array, Restore]:
    """Return images x as a NumPy or CuPy array, and the function that restores x's kind.

    x is [N,H,W,C], or [N,C,H,W] for ``layout`` "NCHW", with sizes and channels that ``config``
    accepts: floating point, or uint8 RGB pixels. Raises ``ValueError`` for shapes, ``TypeError``
    for dtypes, array kinds, and arrays on a GPU unless ``backend`` is on a GPU.
    """
    if layout not in ("NHWC", "NCHW"):
        raise ValueError(f"layout: expected NHWC or NCHW, got {layout!r}")
    array, restore = unwrap(x, "x")
    C = config.in_channels
    if array.dtype != np.uint8 or C != IN_CHANNELS:
        require_float(array, "x")
    if backend.name != "cuda" and is_cupy(array):
        raise TypeError(
            f"x: expected an array in host memory, because the model is on {backend.device}, got "
            f"{describe(x)}"
        )
    channels = 3 if layout == "NHWC" else 1
    if array.ndim != 4 or array.shape[channels] != C:
        expected = f"[N, H, W, {C}] (NHWC)" if layout == "NHWC" else f"[N, {C}, H, W] (NCHW)"
        other = "NCHW" if layout == "NHWC" else "NHWC"
        swapped = array.ndim == 4 and array.shape[4 - channels] == C
        hint = f'; pass layout="{other}" for arrays in that layout' if swapped else ""
        raise ValueError(f"x: expected {expected}, got {tuple(array.shape)}{hint}")
    height, width = array.shape[1:3] if layout == "NHWC" else array.shape[2:]
    if wrong := config.wrong_size(height, width):
        raise ValueError(f"x: {wrong}")
    return array, restore


def check_image_spec(
    shape: Any, dtype: Any, dtypes: Sequence[str], what: str, config: Config
) -> tuple[tuple[int, ...], str]:
    """Return the shape [N,H,W,C] and the dtype's name of images for a later call.

    ``what`` names the operation in errors. Raises ``ValueError`` for a bad shape, and for a dtype
    that is not one of ``dtypes``.
    """
    try:
        sizes = tuple(index(size) for size in shape)
    except TypeError:
        sizes = ()
    C, low = config.in_channels, config.min_size
    if len(sizes) != 4 or sizes[3] != C or sizes[0] < 1 or min(sizes[1:3]) < low:
        raise ValueError(
            f"{what}: shape: expected (N, H, W, {C}) with N >= 1 and H, W >= {low}, got {shape!r}"
        )
    if wrong := config.wrong_size(*sizes[1:3]):
        raise ValueError(f"{what}: shape: {wrong}")
    limit = MAX_PIXELS // (sizes[1] * sizes[2])
    if sizes[0] > limit:
        raise ValueError(
            f"{what}: shape: expected at most N = {limit} images of {sizes[1]} x {sizes[2]} in one "
            f"forward (2^31 pixels), got N = {sizes[0]}"
        )
    name = dtype_name(dtype)
    if name not in dtypes:
        known = " or ".join(dict.fromkeys(dtypes))
        raise ValueError(f"{what}: dtype: expected {known}, got {name}")
    return sizes, name


def normalized(normalization: Normalization | None, x: Array, layout: str) -> Array:
    """Return images x in ``layout`` after a network's input layers; uint8 pixels are unchanged.

    The result is float32, on the device of x.
    """
    if normalization is None or x.dtype == np.uint8:
        return x
    return normalization(x, layout.index("C"))


def batch_on(backend: Backend, x: Array, layout: str, dtype: str) -> Array:
    """Return a batch in NHWC on the device, for a first convolution in precision ``dtype``."""
    if layout == "NCHW":
        if is_cupy(x) and x.dtype.name in backend.dtypes:
            x = backend.asarray(x, x.dtype.name)
            return ops.convert(x, numpy_dtype(dtype), source="NCHW", device=backend)
        x = x.transpose(0, 2, 3, 1)
    # only images with three channels are read in dtypes other than the precision
    images = x.shape[3] == IN_CHANNELS
    return backend.as_images(x, dtype) if images else backend.asarray(x, numpy_dtype(dtype))


def check_dtype(backend: Backend, dtype: Any) -> str:
    """Return the name of a precision of ``backend``, by default its first.

    Raises ``ValueError`` for any other ``dtype``.
    """
    if dtype is None:
        return backend.precisions[0]
    name = dtype_name(dtype)
    if name not in backend.precisions:
        known = " or ".join(backend.precisions)
        advice = ""
        if backend.name == "cpu" and name in ("float16", "bfloat16", "tf32"):
            advice = f'; GPUs and device "emulator" compute in {name}'
        raise ValueError(f"dtype: expected {known} on {backend.device}, got {name!r}{advice}")
    return name
