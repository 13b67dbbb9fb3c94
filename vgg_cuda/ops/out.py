"""Where results go: an array of the caller's, checked to be one that may be written."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import describe, is_cupy, is_jax, is_torch, kind, unwrap


def unwrap_out(out: Any, x: Any, what: str) -> Any:
    """``out`` as a writable NumPy or CuPy array that shares its memory.

    ``x`` is the caller's input, whose kind it must have. Raises ``TypeError`` for another kind,
    ``ValueError`` where nothing can be written to it.
    """
    if _library(out) != _library(x):
        raise TypeError(f"{what}: expected x's kind of array, {kind(x)}, got {kind(out)}")
    if is_jax(out):  # whose DLPack does not say so
        raise ValueError(f"{what}: expected a writable array, JAX's are read-only")
    if any(getattr(out, lazy, bool)() for lazy in ("is_neg", "is_conj")):
        raise ValueError(
            f"{what}: expected a tensor that holds its values, got one that negates another's when "
            f"it is read, {describe(out)}"
        )
    array, _ = unwrap(out, what)
    if is_cupy(array):
        # CuPy takes read-only memory and forgets that it is
        interface = {} if is_torch(out) else getattr(out, "__cuda_array_interface__", {})
        writable = not interface.get("data", (0, False))[1]
    else:
        writable = bool(array.flags.writeable)
    if writable:
        return array
    if not is_torch(out):
        raise ValueError(f"{what}: expected a writable array, got a read-only one")
    # DLPack before 1.0 cannot say that it is writable
    bits = array.view(f"u{array.itemsize}")
    return np.asarray(_Writable(bits)).view(array.dtype)


def _library(x: object) -> str:
    """Whose array ``x`` is; a subclass is its base's, as results are."""
    if isinstance(x, np.ndarray) and not is_cupy(x):
        return "numpy"
    return "torch" if is_torch(x) else type(x).__module__.partition(".")[0]


class _Writable:
    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array  # kept alive
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
