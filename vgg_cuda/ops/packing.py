"""Weights and biases from the caller, checked and laid out once for a backend."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import as_float32, describe, dtype_name, is_cupy, require_float, unwrap
from ..backends import Array, Backend, PackedConv3x3, PackedLinear, is_backend, of_array


def pack_conv3x3(
    backend: Backend, w: Any, bias: Any, *, in_channels: int | None = None, dtype: Any = None
) -> PackedConv3x3:
    """w [K,3,3,C] (KRSC) and bias [K] (None: zeros), checked and laid out for ``backend``.

    Floating point, in host memory or on the backend's GPU; ``dtype`` is the precision that is
    computed in, by default the backend's first. Raises ``ValueError`` for shapes, ``TypeError`` for
    dtypes and array kinds.
    """
    _require_backend(backend, "pack_conv3x3")
    given = check_conv3x3(w, bias, in_channels, backend.device)
    return backend.pack_conv3x3(given.w, given.bias, _dtype(backend, dtype, "conv3x3"))


def pack_linear(
    backend: Backend, w: Any, bias: Any, *, in_features: int | None = None, dtype: Any = None
) -> PackedLinear:
    """w [K,C] and bias [K] (None: zeros), laid out for ``backend``; as :func:`pack_conv3x3`."""
    _require_backend(backend, "pack_linear")
    given = check_linear(w, bias, in_features, backend.device)
    return backend.pack_linear(given.w, given.bias, _dtype(backend, dtype, "linear"))


class Parameters(NamedTuple):
    """w and bias: C-contiguous float32 in host memory, or as they are on a GPU.

    ``given``: the caller's own memory by name, as NumPy or CuPy arrays.
    """

    w: Array
    bias: Array
    given: dict[str, Array]


def check_conv3x3(
    w: Any, bias: Any, in_channels: int | None, device: str, op: str = "conv3x3", number: str = ""
) -> Parameters:
    """w [K,3,3,C] and bias [K], or what is wrong with them.

    ``number``: of them, where ``op`` has several convolutions: "1" for w1.
    """
    w, given = _parameter(w, f"{op}: w{number}", device)
    expected = (w.shape[0] if w.ndim else 0, 3, 3, in_channels or (w.shape[-1] if w.ndim else 0))
    if w.shape != expected or 0 in w.shape:
        shown = ", ".join(str(n or name) for n, name in zip(expected, "KRSC", strict=True))
        raise ValueError(f"{op}: w{number}: expected [{shown}] (KRSC), got {w.shape}")
    bias, given_bias = _bias(bias, w.shape[0], op, device, number)
    return Parameters(w, bias, {f"w{number}": given, f"bias{number}": given_bias})


def check_linear(w: Any, bias: Any, in_features: int | None, device: str) -> Parameters:
    """w [K,C] and bias [K], or what is wrong with them."""
    w, given = _parameter(w, "linear: w", device)
    expected_c = in_features if in_features is not None else w.shape[-1] if w.ndim else 0
    if w.ndim != 2 or w.shape[1] != expected_c or 0 in w.shape:
        raise ValueError(f"linear: w: expected [K, {expected_c or 'C'}], got {w.shape}")
    bias, given_bias = _bias(bias, w.shape[0], "linear", device)
    return Parameters(w, bias, {"w": given, "bias": given_bias})


def is_packed(w: Any, op: str, what: str = "") -> bool:
    """Whether ``w`` is packed for ``op``; raises ``TypeError`` where it is for another.

    ``what`` it is called, by default "{op}: w".
    """
    kinds = {"conv3x3": "in_channels", "linear": "in_features"}
    for kind, attribute in kinds.items():
        if hasattr(w, attribute) and kind != op:
            expected = f"{what or f'{op}: w'}: expected an array or pack_{op}'s result"
            raise TypeError(f"{expected}, got pack_{kind}'s")
    return hasattr(w, kinds[op])


def memory_of(packed: Any, number: str = "") -> dict[str, Array]:
    """Arrays of packed weights, which may be the caller's own, by name."""
    known = {f"{name}{number}": getattr(packed, name, None) for name in ("w", "bias")}
    return {name: array for name, array in known.items() if array is not None}


def check_packed(
    op: str, packed: Any, bias: Any, backend: Backend, dtype: str, number: str = ""
) -> None:
    """Raises where ``packed`` weights are another device's or dtype's, or ``bias`` is given."""
    if bias is not None:
        what = f"{op}: bias{number}"
        raise ValueError(f"{what}: expected None beside packed weights, which hold theirs")
    if getattr(packed, "device", None) != backend.device:
        raise ValueError(
            f"{op}: w{number}: expected weights packed for {backend.device}, got "
            f"{describe(packed)} for {getattr(packed, 'device', 'no device')}"
        )
    if packed.dtype != dtype:
        what = f"{op}: w{number}"
        raise TypeError(f"{what}: expected weights packed as {dtype}, got {packed.dtype}")


def _parameter(x: Any, what: str, device: str) -> tuple[Array, Array]:
    """As ``Parameters`` hold it, and the caller's own."""
    # what has neither protocol, a list or a file's tensor, is read by NumPy
    if hasattr(x, "__dlpack__") or hasattr(x, "__cuda_array_interface__"):
        x, _ = unwrap(x, what)
    if not is_cupy(x):
        given = np.asarray(x)
        return as_float32(given, what), given
    require_float(x, what)
    here = of_array(x).device
    if here != device:
        raise ValueError(
            f"{what}: expected an array in host memory or on {device}, got one on {here}"
        )
    return x, x  # cast where it is packed, on its device and the stream of the call


def _bias(bias: Any, k: int, op: str, device: str, number: str = "") -> tuple[Array, Array]:
    if bias is None:
        zeros = np.zeros(k, np.float32)
        return zeros, zeros
    bias, given = _parameter(bias, f"{op}: bias{number}", device)
    if bias.shape != (k,):
        raise ValueError(f"{op}: bias{number}: expected [{k}], got {bias.shape}")
    return bias, given


def _require_backend(backend: Any, op: str) -> None:
    if not is_backend(backend):
        raise TypeError(
            f"{op}: backend: expected what vgg_cuda.backends.get_backend() returns, got {backend!r}"
        )


def _dtype(backend: Backend, dtype: Any, op: str) -> str:
    name = backend.precisions[0] if dtype is None else dtype_name(dtype)
    if name not in backend.precisions:
        known = " or ".join(backend.precisions)
        raise TypeError(f"{op}: dtype: expected {known} on {backend.device}, got {name}")
    return name
