"""Arrays from elsewhere: what kind one is, and how a result goes back as the same kind.

The protocols are DLPack (https://dmlc.github.io/dlpack) and the Python array API's
``from_dlpack``; nothing is imported that the caller has not imported already.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

DLPACK_CPU = 1
DLPACK_CUDA = 2

Restore = Callable[[Any], Any]
"""Turns a backend's array into the caller's kind."""


def is_cupy(x: object) -> bool:
    """Whether ``x`` is a CuPy array."""
    return type(x).__module__.partition(".")[0] == "cupy"


def describe(x: object) -> str:
    """``x`` for an error message: its kind, and its dtype and shape where it has them."""
    kind = f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
    shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
    return kind if shape is None else f"{kind} of dtype {dtype} and shape {tuple(shape)}"


def unwrap(x: Any, what: str) -> tuple[Any, Restore]:
    """``x`` as a NumPy or CuPy array that shares its memory, and the way back to its kind.

    Raises ``TypeError`` for anything that is no array, or one whose memory cannot be shared.
    """
    if isinstance(x, np.ndarray):
        return x, lambda y: y
    if is_cupy(x):
        return x, lambda y: y
    namespace = _namespace(x)
    if not hasattr(x, "__dlpack__") or not hasattr(namespace, "from_dlpack"):
        raise TypeError(
            f"{what}: expected an array (NumPy, CuPy, or one with __dlpack__ such as PyTorch's "
            f"or JAX's), got {describe(x)}"
        )
    if getattr(x, "requires_grad", False):
        raise TypeError(f"{what}: got a tensor that requires grad; pass {what}.detach()")
    for resolve in ("resolve_neg", "resolve_conj"):  # PyTorch's lazy signs, which DLPack drops
        if hasattr(x, resolve):
            x = getattr(x, resolve)()
    try:
        device_type = int(x.__dlpack_device__()[0])
        if device_type == DLPACK_CPU:
            shared: Any = np.from_dlpack(x)
        elif device_type == DLPACK_CUDA:
            cupy = _cupy(what)
            shared = cupy.from_dlpack(x)
        else:
            raise TypeError(
                f"{what}: expected an array on the CPU or a CUDA device, got DLPack device type "
                f"{device_type}"
            )
    except (BufferError, RuntimeError, ValueError) as error:
        raise TypeError(f"{what}: cannot share {describe(x)} through DLPack: {error}") from error
    return shared, lambda y: namespace.from_dlpack(y)


def _cupy(what: str) -> Any:
    try:
        return importlib.import_module("cupy")
    except ImportError:
        raise TypeError(
            f"{what}: got an array on a CUDA device; that needs CuPy: "
            'pip install "vgg-cuda[cuda13]"'
        ) from None


def _namespace(x: Any) -> Any:
    """The module with x's ``from_dlpack``; a subclass's is its base's."""
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    modules = (sys.modules.get(kind.__module__.partition(".")[0]) for kind in type(x).__mro__)
    return next((module for module in modules if hasattr(module, "from_dlpack")), None)


def require_float(x: Any, what: str) -> None:
    """Raises ``TypeError`` where ``x`` is not of a real floating-point dtype."""
    if getattr(x.dtype, "kind", "") == "f" or x.dtype.name == "bfloat16":
        return
    hint = " (classify() takes uint8 images)" if x.dtype == np.uint8 else ""
    raise TypeError(
        f"{what}: expected a floating-point array (float32, float16, float64), "
        f"got dtype {x.dtype}{hint}"
    )


def as_float32(x: Any, what: str) -> NDArray[np.float32]:
    """A host array of any real floating-point dtype as C-contiguous float32."""
    array = np.asarray(x)
    require_float(array, what)
    return np.ascontiguousarray(array, dtype=np.float32)
