"""Operands rounded to a device's dtype, and the real numbers that round to a result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import numpy_dtype
from ..images.presets import Preset

Float64 = NDArray[np.float64]


def as_operand(x: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return x rounded to ``dtype``, as an operand of a product; overflow gives infinity.

    "tf32" is float32 rounded to 10 fraction bits, ties away from zero (PTX ISA, cvt.rna).
    """
    with np.errstate(over="ignore"):
        if dtype != "tf32":
            return x.astype(numpy_dtype(dtype), copy=False)
        exact = np.ascontiguousarray(x, np.float32)
    bits = (exact.view(np.uint32) + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(exact), bits.view(np.float32), exact)


def normalized(pixels: NDArray[np.uint8], preset: Preset) -> NDArray[np.float32]:
    """Return pixels [...,3] normalized as in csrc/kernels/sm80/first.cuh, by one fma."""
    ordered = pixels[..., ::-1] if preset.channels == "BGR" else pixels
    scale = np.array([1 / (preset.divisor * std) for std in preset.std], np.float32)
    shift = -(preset.center + np.array(preset.mean)) / np.array(preset.std)
    # exact in float64, then rounded once, as a fused multiply-add is
    y = ordered.astype(np.float64) * scale + shift.astype(np.float32)
    return np.asarray(y, np.float32)


def normalized_exactly(pixels: NDArray[np.uint8], preset: Preset) -> Float64:
    """Return pixels [...,3] normalized in float64."""
    ordered = pixels[..., ::-1] if preset.channels == "BGR" else pixels
    centered = ordered / preset.divisor - preset.center - np.array(preset.mean)
    return np.asarray(centered / np.array(preset.std), np.float64)


def rounded_from(y: NDArray[Any]) -> tuple[Float64, Float64]:
    """Return (low, high), between which all real numbers that round to y lie; NaN for NaN.

    The dtypes follow IEEE 754: adjacent magnitudes are adjacent integers.
    """
    unsigned = np.dtype(f"u{y.dtype.itemsize}")
    bits = np.ascontiguousarray(y).view(unsigned)
    sign = unsigned.type(1 << (8 * unsigned.itemsize - 1))
    magnitude = bits & ~sign

    def value(of: NDArray[Any]) -> Float64:
        with np.errstate(invalid="ignore"):
            return np.asarray(of.astype(unsigned, copy=False).view(y.dtype), np.float64)

    here = value(magnitude)
    infinity = np.isinf(here)
    below = value(np.maximum(magnitude, 1) - unsigned.type(1))
    before = value(np.maximum(magnitude, 2) - unsigned.type(2))
    with np.errstate(invalid="ignore"):
        above = value(magnitude + unsigned.type(~np.isnan(here)))
        above = np.where(np.isinf(above), 2 * here - below, above)  # the number after the largest
        low = np.where(infinity, below + (below - before) / 2, (below + here) / 2)
        high = np.where(infinity, np.inf, (here + above) / 2)
    low = np.where(magnitude == 0, -high, low)
    negative = (bits & sign).astype(bool)
    return np.where(negative, -high, low), np.where(negative, -low, high)
