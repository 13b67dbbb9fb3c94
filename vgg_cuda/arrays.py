"""Arrays of any library: their kind, and how results are returned as the same kind.

Memory is shared through DLPack (https://dmlc.github.io/dlpack), the Python array API's
``from_dlpack``, and ``__cuda_array_interface__``. Only libraries that the caller has imported are
used, and CuPy for arrays on a GPU.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

# dlpack.h's device types
DLPACK_HOST = (1, 3)  # kDLCPU; kDLCUDAHost: pinned
DLPACK_GPU = (2, 13)  # kDLCUDA; kDLCUDAManaged

Restore = Callable[[Any], Any]
"""Function from a backend's array to one of the caller's kind."""


def is_cupy(x: object) -> bool:
    """Return whether ``x`` is a CuPy array."""
    return type(x).__module__.partition(".")[0] == "cupy"


def is_torch(x: object) -> bool:
    """Return whether ``x`` is a PyTorch tensor (or another object of PyTorch)."""
    return any(base.__module__.partition(".")[0] == "torch" for base in type(x).__mro__)


def is_jax(x: object) -> bool:
    """Return whether ``x`` is a JAX array; JAX arrays are read-only."""
    return type(x).__module__.partition(".")[0] in ("jax", "jaxlib")


def describe(x: object) -> str:
    """Describe ``x`` for an error message: its kind, and its dtype and shape if it has them."""
    with contextlib.suppress(Exception):  # properties of another library's array may raise
        shape: Any = x.shape  # type: ignore[attr-defined]
        return f"{kind(x)} of dtype {getattr(x, 'dtype', None)} and shape {tuple(shape)}"
    return kind(x)


def kind(x: object) -> str:
    """Return the qualified name of the type of ``x``, such as "numpy.ndarray"."""
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")


def unwrap(x: Any, what: str) -> tuple[Any, Restore]:
    """Return a NumPy or CuPy array that shares the memory of ``x``, and its :data:`Restore`.

    ``what`` names ``x`` in errors. Arrays with only ``__cuda_array_interface__`` are restored as
    CuPy arrays. Raises ``TypeError`` if ``x`` is not an array or cannot share its memory.
    """
    if is_cupy(x):
        return x, lambda y: y
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{what}: expected an array without a mask, got {describe(x)}")
    if isinstance(x, np.ndarray):
        return np.asarray(x), lambda y: y
    namespace = _namespace(x)
    array = not isinstance(x, type)  # an array class has the methods, too
    if not (array and hasattr(x, "__dlpack__") and hasattr(namespace, "from_dlpack")):
        if array and hasattr(x, "__cuda_array_interface__"):
            return _from_cuda_array_interface(x, what), lambda y: y
        raise TypeError(
            f"{what}: expected an array (NumPy, CuPy, or one with __dlpack__ such as PyTorch's "
            f"or JAX's, or __cuda_array_interface__), got {describe(x)}"
        )
    if getattr(x, "requires_grad", False):
        name = what.rpartition(" ")[2]
        raise TypeError(
            f"{what}: expected a tensor that does not require grad, got one that does; pass "
            f"{name}.detach()"
        )
    for resolve in ("resolve_neg", "resolve_conj"):  # PyTorch's lazy negation, which DLPack drops
        if hasattr(x, resolve):
            x = getattr(x, resolve)()
    with _sharing(x, what):
        device_type = int(x.__dlpack_device__()[0])
    if device_type in DLPACK_HOST:
        from_dlpack: Callable[[Any], Any] = np.from_dlpack
    elif device_type in DLPACK_GPU:
        from_dlpack = import_cupy(what).from_dlpack
    else:
        raise TypeError(
            f"{what}: expected an array on the CPU or a CUDA device, got DLPack device type "
            f"{device_type}"
        )
    restore = partial(_restore, namespace)
    if str(x.dtype).rpartition(".")[2] != "bfloat16":
        with _sharing(x, what):
            return from_dlpack(x), restore
    try:
        bfloat16 = numpy_dtype("bfloat16")
    except ImportError:
        raise TypeError(f"{what}: bfloat16 needs ml_dtypes: pip install ml_dtypes") from None
    with _sharing(x, what):
        return from_dlpack(x.view(namespace.int16)).view(bfloat16), restore


@contextlib.contextmanager
def _sharing(x: Any, what: str) -> Iterator[None]:
    """Turn any error of the library of ``x`` inside the block into a ``TypeError``."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise TypeError(f"{what}: cannot share {describe(x)}: {error}") from error


def _restore(namespace: Any, y: Any) -> Any:
    """Return ``y`` as an array of ``namespace``.

    bfloat16 is passed as int16, because DLPack in NumPy and CuPy lacks it. Raises ``TypeError`` if
    the library lacks the dtype of ``y``: JAX has no float64 by default.
    """
    if y.dtype.name == "bfloat16" and hasattr(namespace, "bfloat16"):
        return namespace.from_dlpack(y.view(np.int16)).view(namespace.bfloat16)
    result = namespace.from_dlpack(y)
    if str(result.dtype).rpartition(".")[2] != y.dtype.name:
        advice = "; set jax_enable_x64" if is_jax(result) and y.dtype.name == "float64" else ""
        raise TypeError(
            f"{namespace.__name__} cannot hold a result of {y.dtype.name}: it converts it to "
            f"{result.dtype}{advice}"
        )
    return result


def gpu_of(x: Any) -> int | None:
    """Return the GPU index of another library's ``x`` by DLPack; None for any other ``x``."""
    if is_cupy(x) or isinstance(x, (np.ndarray, type)):
        return None
    with contextlib.suppress(Exception):  # ``unwrap`` reports what is wrong
        device_type, index = x.__dlpack_device__()
        return int(index) if int(device_type) in DLPACK_GPU else None
    return None


def _from_cuda_array_interface(x: Any, what: str) -> Any:
    cupy = import_cupy(what)
    if x.__cuda_array_interface__.get("mask") is not None:
        raise TypeError(f"{what}: expected an array without a mask, got {describe(x)}")
    with _sharing(x, what):
        return cupy.asarray(x)  # waits for the interface's stream, as the protocol requires


def import_cupy(what: str) -> Any:
    """Import CuPy for an array on a GPU; raise ``TypeError`` if it is not installed."""
    try:
        return importlib.import_module("cupy")
    except ImportError:
        raise TypeError(
            f"{what}: arrays on a CUDA device need CuPy: "
            'pip install ".[cuda13]" in a clone of vgg_cuda'
        ) from None


def _namespace(x: Any) -> Any:
    """Return the module that defines ``from_dlpack`` for ``x`` or a base class of it."""
    with contextlib.suppress(Exception):  # raises for JAX's random keys
        return x.__array_namespace__()
    modules = (sys.modules.get(base.__module__.partition(".")[0]) for base in type(x).__mro__)
    return next((module for module in modules if hasattr(module, "from_dlpack")), None)


def address(x: Any) -> int:
    """Return the address of the first element of a NumPy or CuPy array."""
    return int(x.data.ptr if is_cupy(x) else x.__array_interface__["data"][0])


def overlap(x: Any, y: Any) -> bool:
    """Return whether two NumPy arrays share bytes, or the address ranges of CuPy arrays overlap."""
    if is_cupy(x) != is_cupy(y) or not x.nbytes or not y.nbytes:
        return False
    if not is_cupy(x):
        return bool(np.shares_memory(x, y))
    (start_x, end_x), (start_y, end_y) = _bounds(x), _bounds(y)
    return start_x < end_y and start_y < end_x


def _bounds(x: Any) -> tuple[int, int]:
    """Return the addresses of the first byte of ``x`` and of the one behind its last byte."""
    steps = [(n - 1) * stride for n, stride in zip(x.shape, x.strides, strict=True)]
    start = address(x)
    return (
        start + sum(step for step in steps if step < 0),
        start + sum(step for step in steps if step > 0) + int(x.itemsize),
    )


def numpy_dtype(name: Any) -> np.dtype[Any]:
    """Return the NumPy dtype of arrays in the dtype or precision ``name``.

    "bfloat16" is a dtype of ``ml_dtypes``; arrays for the precision "tf32" are float32.
    """
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    elif name == "tf32":
        name = "float32"
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def dtype_name(dtype: Any) -> str:
    """Return the name of a dtype of any library, or of a name: "float16" for ``torch.float16``.

    Other objects are returned as text.
    """
    if isinstance(dtype, str):
        return dtype
    with contextlib.suppress(TypeError):
        return str(np.dtype(dtype).name)
    return str(dtype).rpartition(".")[2]


def is_float(x: Any) -> bool:
    """Return whether ``x`` has a real floating-point dtype."""
    return getattr(x.dtype, "kind", "") == "f" or x.dtype.name == "bfloat16"


def require_float(x: Any, what: str) -> None:
    """Raise ``TypeError`` if ``x`` has no real floating-point dtype."""
    if not is_float(x):
        raise TypeError(
            f"{what}: expected a floating-point array (float32, float16, bfloat16, float64), "
            f"got dtype {x.dtype}"
        )


def as_float32(x: Any, what: str) -> NDArray[np.float32]:
    """Return a host array of any real floating-point dtype as C-contiguous float32."""
    array = np.asarray(x)
    require_float(array, what)
    with np.errstate(over="ignore"):  # values beyond float32 become infinite
        return np.asarray(array, np.float32, order="C")
