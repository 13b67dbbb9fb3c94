"""Checks of arrays that callers pass for results."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import describe, is_cupy, is_jax, is_torch, kind, unwrap


def unwrap_out(out: Any, x: Any, what: str) -> Any:
    """Return a writable NumPy or CuPy array that shares the memory of ``out``.

    ``x`` is the caller's input, ``what`` names ``out`` in errors. Raises ``TypeError`` if ``out``
    is not of the same kind as ``x``, ``ValueError`` if it is read-only.
    """
    if _library(out) != _library(x):
        raise TypeError(f"{what}: expected an array like x, {kind(x)}, got {kind(out)}")
    if is_jax(out):  # its DLPack does not mark it read-only
        raise ValueError(f"{what}: expected a writable array, got a read-only JAX array")
    if any(getattr(out, lazy, bool)() for lazy in ("is_neg", "is_conj")):
        raise ValueError(
            f"{what}: expected a tensor without PyTorch's lazy negation, got a view that negates "
            f"another tensor, {describe(out)}"
        )
    array, _ = unwrap(out, what)
    if is_cupy(array):
        # CuPy accepts read-only memory without marking it
        interface = {} if is_torch(out) else getattr(out, "__cuda_array_interface__", {})
        writable = not interface.get("data", (0, False))[1]
    else:
        writable = bool(array.flags.writeable)
    if writable:
        return array
    if not is_torch(out):
        raise ValueError(f"{what}: expected a writable array, got a read-only one")
    # DLPack before 1.0 cannot mark memory as writable, and NumPy assumes read-only
    bits = array.view(f"u{array.itemsize}")
    return np.asarray(_Writable(bits)).view(array.dtype)


def _library(x: object) -> str:
    """Return the library of array ``x``; a subclass belongs to the library of its base."""
    if isinstance(x, np.ndarray) and not is_cupy(x):
        return "numpy"
    return "torch" if is_torch(x) else type(x).__module__.partition(".")[0]


class _Writable:
    """The memory of ``array``, declared writable."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array  # kept alive
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
