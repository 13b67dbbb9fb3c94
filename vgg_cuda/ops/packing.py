"""Checks of weights and biases, and their packing for a backend."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import as_float32, describe, dtype_name, is_cupy, require_float, unwrap
from ..backends import (
    Array,
    Backend,
    PackedAffine,
    PackedConv3x3,
    PackedLinear,
    is_backend,
    of_array,
)


def pack_conv3x3(
    backend: Backend, w: Any, bias: Any, *, in_channels: int | None = None, dtype: Any = None
) -> PackedConv3x3:
    """Pack w [K,3,3,C] (KRSC) and bias [K] (None for zeros) for ``ops.conv3x3`` on ``backend``.

    w and bias are floating point, in host memory or on the backend's GPU. ``dtype`` is the
    precision of the computation, by default the backend's first. Raises ``ValueError`` for shapes,
    ``TypeError`` for dtypes and array kinds.
    """
    _check_backend(backend, "pack_conv3x3")
    raw = check_conv3x3(w, bias, in_channels, backend.device)
    return backend.pack_conv3x3(raw.w, raw.bias, _precision(backend, dtype, "conv3x3"))


def pack_linear(
    backend: Backend, w: Any, bias: Any, *, in_features: int | None = None, dtype: Any = None
) -> PackedLinear:
    """Pack w [K,C] and bias [K] for ``ops.linear`` on ``backend``; see :func:`pack_conv3x3`."""
    _check_backend(backend, "pack_linear")
    raw = check_linear(w, bias, in_features, backend.device)
    return backend.pack_linear(raw.w, raw.bias, _precision(backend, dtype, "linear"))


def pack_affine(backend: Backend, scale: Any, shift: Any, *, dtype: str) -> PackedAffine:
    """Pack scale [C] and shift [C] for a network's forwards in ``dtype``."""
    scale, shift, _ = check_affine(scale, shift, len(scale), backend.device)
    return backend.pack_affine(scale, shift, dtype)


class Parameters(NamedTuple):
    """w and bias: C-contiguous float32 in host memory, or unchanged on a GPU.

    ``sources`` are the caller's arrays by name, as NumPy or CuPy arrays.
    """

    w: Array
    bias: Array
    sources: dict[str, Array]


def check_conv3x3(
    w: Any, bias: Any, in_channels: int | None, device: str, op: str = "conv3x3", number: str = ""
) -> Parameters:
    """Check w [K,3,3,C] and bias [K]; ``number`` is "1" for w1 and bias1 of ``op``."""
    w, source = _parameter(w, f"{op}: w{number}", device)
    expected = (w.shape[0] if w.ndim else 0, 3, 3, in_channels or (w.shape[-1] if w.ndim else 0))
    if w.shape != expected or 0 in w.shape:
        shown = ", ".join(str(n or name) for n, name in zip(expected, "KRSC", strict=True))
        raise ValueError(f"{op}: w{number}: expected [{shown}] (KRSC), got {w.shape}")
    bias, bias_source = _bias(bias, w.shape[0], op, device, number)
    return Parameters(w, bias, {f"w{number}": source, f"bias{number}": bias_source})


def check_linear(w: Any, bias: Any, in_features: int | None, device: str) -> Parameters:
    """Check w [K,C] and bias [K]."""
    w, source = _parameter(w, "linear: w", device)
    expected_c = in_features if in_features is not None else w.shape[-1] if w.ndim else 0
    if w.ndim != 2 or w.shape[1] != expected_c or 0 in w.shape:
        raise ValueError(f"linear: w: expected [K, {expected_c or 'C'}], got {w.shape}")
    bias, bias_source = _bias(bias, w.shape[0], "linear", device)
    return Parameters(w, bias, {"w": source, "bias": bias_source})


def check_affine(
    scale: Any, shift: Any, channels: int, device: str
) -> tuple[Array, Array, dict[str, Array]]:
    """Check scale [C] and shift [C]; return them, and the caller's arrays by name."""
    found, sources = [], {}
    for name, given in (("scale", scale), ("shift", shift)):
        array, sources[name] = _parameter(given, f"affine: {name}", device)
        if array.shape != (channels,):
            raise ValueError(f"affine: {name}: expected [{channels}], got {array.shape}")
        found.append(array)
    return found[0], found[1], sources


def is_packed(w: Any, op: str, what: str = "") -> bool:
    """Return whether ``w`` is packed for ``op``; raise ``TypeError`` if packed for another.

    ``what`` names w in the error, by default "{op}: w".
    """
    kinds = {"conv3x3": "in_channels", "linear": "in_features"}
    for kind, attribute in kinds.items():
        if hasattr(w, attribute) and kind != op:
            expected = f"{what or f'{op}: w'}: expected an array or pack_{op}'s result"
            raise TypeError(f"{expected}, got pack_{kind}'s")
    return hasattr(w, kinds[op])


def memory_of(packed: Any, number: str = "") -> dict[str, Array]:
    """Return the arrays of packed weights by name; they may be arrays of the caller."""
    return {f"{k}{number}": getattr(packed, k) for k in ("w", "bias") if hasattr(packed, k)}


def check_packed(
    op: str, packed: Any, bias: Any, backend: Backend, dtype: str, number: str = ""
) -> None:
    """Raise an error if ``packed`` is for another device or dtype, or ``bias`` is not None."""
    if bias is not None:
        what = f"{op}: bias{number}"
        raise ValueError(f"{what}: expected None for packed weights, got {describe(bias)}")
    if getattr(packed, "device", None) != backend.device:
        raise ValueError(
            f"{op}: w{number}: expected weights packed for {backend.device}, got "
            f"{describe(packed)} for {getattr(packed, 'device', 'no device')}"
        )
    if packed.dtype != dtype:
        what = f"{op}: w{number}"
        raise TypeError(f"{what}: expected weights packed as {dtype}, got {packed.dtype}")


def _parameter(x: Any, what: str, device: str) -> tuple[Array, Array]:
    """Return ``x`` as in :class:`Parameters`, and the caller's array."""
    # NumPy reads other objects: lists, and tensors of files
    if hasattr(x, "__dlpack__") or hasattr(x, "__cuda_array_interface__"):
        x, _ = unwrap(x, what)
    if not is_cupy(x):
        source = np.asarray(x)
        return as_float32(source, what), source
    require_float(x, what)
    here = of_array(x).device
    if here != device:
        raise ValueError(
            f"{what}: expected an array in host memory or on {device}, got one on {here}"
        )
    return x, x  # packing casts it, on its device and the stream of the call


def _bias(bias: Any, k: int, op: str, device: str, number: str = "") -> tuple[Array, Array]:
    if bias is None:
        zeros = np.zeros(k, np.float32)
        return zeros, zeros
    bias, source = _parameter(bias, f"{op}: bias{number}", device)
    if bias.shape != (k,):
        raise ValueError(f"{op}: bias{number}: expected [{k}], got {bias.shape}")
    return bias, source


def _check_backend(backend: Any, op: str) -> None:
    if not is_backend(backend):
        raise TypeError(
            f"{op}: backend: expected a backend from vgg_cuda.backends.get_backend(), got "
            f"{backend!r}"
        )


def _precision(backend: Backend, dtype: Any, op: str) -> str:
    name = backend.precisions[0] if dtype is None else dtype_name(dtype)
    if name not in backend.precisions:
        known = " or ".join(backend.precisions)
        raise TypeError(f"{op}: dtype: expected {known} on {backend.device}, got {name}")
    return name
