"""Arrays from elsewhere: what kind one is, and how a result goes back as the same kind.

The protocols are DLPack (https://dmlc.github.io/dlpack), the Python array API's ``from_dlpack``
and ``__cuda_array_interface__``; nothing is imported that the caller has not imported already,
except CuPy for an array on a GPU.
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
"""Turns a backend's array into the caller's kind."""


def is_cupy(x: object) -> bool:
    """Whether ``x`` is a CuPy array."""
    return type(x).__module__.partition(".")[0] == "cupy"


def is_torch(x: object) -> bool:
    """Whether ``x`` is a PyTorch tensor (or one of its other objects)."""
    return any(base.__module__.partition(".")[0] == "torch" for base in type(x).__mro__)


def is_jax(x: object) -> bool:
    """Whether ``x`` is a JAX array, which nobody may write to."""
    return type(x).__module__.partition(".")[0] in ("jax", "jaxlib")


def describe(x: object) -> str:
    """``x`` for an error message: its kind, and its dtype and shape where it has them."""
    with contextlib.suppress(Exception):  # another library's array may have none, or fail to say
        shape: Any = x.shape  # type: ignore[attr-defined]
        return f"{kind(x)} of dtype {getattr(x, 'dtype', None)} and shape {tuple(shape)}"
    return kind(x)


def kind(x: object) -> str:
    """The type of ``x``, as "numpy.ndarray"."""
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")


def unwrap(x: Any, what: str) -> tuple[Any, Restore]:
    """``x`` as a NumPy or CuPy array that shares its memory, and the way back to its kind.

    An array with ``__cuda_array_interface__`` alone comes back as CuPy's. Raises ``TypeError`` for
    anything that is no array, or one whose memory cannot be shared.
    """
    if is_cupy(x):
        return x, lambda y: y
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{what}: expected an array without a mask, got {describe(x)}")
    if isinstance(x, np.ndarray):
        return np.asarray(x), lambda y: y
    namespace = _namespace(x)
    array = not isinstance(x, type)  # a class has its arrays' methods, too
    if not (array and hasattr(x, "__dlpack__") and hasattr(namespace, "from_dlpack")):
        if array and hasattr(x, "__cuda_array_interface__"):
            return _from_cuda_array_interface(x, what), lambda y: y
        raise TypeError(
            f"{what}: expected an array (NumPy, CuPy, or one with __dlpack__ such as PyTorch's "
            f"or JAX's, or __cuda_array_interface__), got {describe(x)}"
        )
    if getattr(x, "requires_grad", False):
        raise TypeError(f"{what}: requires grad; pass {what.rpartition(' ')[2]}.detach()")
    for resolve in ("resolve_neg", "resolve_conj"):  # PyTorch's lazy signs, which DLPack drops
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
    if str(x.dtype).rpartition(".")[2] == "bfloat16":
        bfloat16 = _bfloat16(what)
        with _sharing(x, what):
            return from_dlpack(x.view(namespace.int16)).view(bfloat16), restore
    with _sharing(x, what):
        return from_dlpack(x), restore


@contextlib.contextmanager
def _sharing(x: Any, what: str) -> Iterator[None]:
    """Whatever x's library raises in here becomes a ``TypeError`` that says what was tried."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise TypeError(f"{what}: cannot share {describe(x)}: {error}") from error


def _restore(namespace: Any, y: Any) -> Any:
    """``y`` as an array of ``namespace``; NumPy and CuPy take bfloat16 through DLPack as bits only.

    Raises ``TypeError`` where that library holds no such dtype, as JAX float64 by default.
    """
    if y.dtype.name == "bfloat16" and hasattr(namespace, "bfloat16"):
        return namespace.from_dlpack(y.view(np.int16)).view(namespace.bfloat16)
    result = namespace.from_dlpack(y)
    if str(result.dtype).rpartition(".")[2] != y.dtype.name:
        advice = "; set jax_enable_x64" if is_jax(result) and y.dtype.name == "float64" else ""
        raise TypeError(
            f"{namespace.__name__} cannot hold a result of {y.dtype.name}: it made {result.dtype} "
            f"of it{advice}"
        )
    return result


def gpu_of(x: Any) -> int | None:
    """The GPU that another library's ``x`` shares through DLPack; None for all else."""
    if is_cupy(x) or isinstance(x, (np.ndarray, type)):
        return None
    with contextlib.suppress(Exception):  # ``unwrap`` says what is wrong
        device_type, index = x.__dlpack_device__()
        return int(index) if int(device_type) in DLPACK_GPU else None
    return None


def _bfloat16(what: str) -> np.dtype[Any]:
    try:
        return numpy_dtype("bfloat16")
    except ImportError:
        raise TypeError(f"{what}: bfloat16 needs ml_dtypes: pip install ml_dtypes") from None


def _from_cuda_array_interface(x: Any, what: str) -> Any:
    cupy = import_cupy(what)
    if x.__cuda_array_interface__.get("mask") is not None:
        raise TypeError(f"{what}: expected an array without a mask, got {describe(x)}")
    with _sharing(x, what):
        return cupy.asarray(x)  # waits for the stream that the interface names, as it demands


def import_cupy(what: str) -> Any:
    """CuPy, which an array on a GPU needs; ``TypeError`` where there is none."""
    try:
        return importlib.import_module("cupy")
    except ImportError:
        raise TypeError(
            f"{what}: got an array on a CUDA device; that needs CuPy: "
            'pip install "vgg-cuda[cuda13]"'
        ) from None


def _namespace(x: Any) -> Any:
    """The module with x's ``from_dlpack``; a subclass's is its base's."""
    with contextlib.suppress(Exception):  # JAX's random keys have one that raises
        return x.__array_namespace__()
    modules = (sys.modules.get(base.__module__.partition(".")[0]) for base in type(x).__mro__)
    return next((module for module in modules if hasattr(module, "from_dlpack")), None)


def address(x: Any) -> int:
    """Where the first element of a NumPy or CuPy array is."""
    return int(x.data.ptr if is_cupy(x) else x.__array_interface__["data"][0])


def overlap(x: Any, y: Any) -> bool:
    """Whether two NumPy or CuPy arrays have bytes in common; of CuPy's: lie in one another."""
    if is_cupy(x) != is_cupy(y) or not x.nbytes or not y.nbytes:
        return False
    if not is_cupy(x):
        return bool(np.shares_memory(x, y))
    (start_x, end_x), (start_y, end_y) = _bounds(x), _bounds(y)
    return start_x < end_y and start_y < end_x


def _bounds(x: Any) -> tuple[int, int]:
    """The addresses of x's first byte and behind its last, whatever its strides."""
    steps = [(n - 1) * stride for n, stride in zip(x.shape, x.strides, strict=True)]
    start = address(x)
    return (
        start + sum(step for step in steps if step < 0),
        start + sum(step for step in steps if step > 0) + int(x.itemsize),
    )


def numpy_dtype(name: Any) -> np.dtype[Any]:
    """The NumPy dtype called ``name``, or of what is computed in it.

    "bfloat16" is ``ml_dtypes``'; "tf32" products have float32 factors and results.
    """
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    elif name == "tf32":
        name = "float32"
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def dtype_name(dtype: Any) -> str:
    """The name of a dtype of any library, or of its name: ``torch.float16`` is "float16".

    What is no dtype is given back as text.
    """
    if isinstance(dtype, str):
        return dtype
    with contextlib.suppress(TypeError):
        return str(np.dtype(dtype).name)
    return str(dtype).rpartition(".")[2]


def is_float(x: Any) -> bool:
    """Whether ``x`` is of a real floating-point dtype."""
    return getattr(x.dtype, "kind", "") == "f" or x.dtype.name == "bfloat16"


def require_float(x: Any, what: str) -> None:
    """Raises ``TypeError`` where ``x`` is not of a real floating-point dtype."""
    if not is_float(x):
        raise TypeError(
            f"{what}: expected a floating-point array (float32, float16, bfloat16, float64), "
            f"got dtype {x.dtype}"
        )


def as_float32(x: Any, what: str) -> NDArray[np.float32]:
    """A host array of any real floating-point dtype as C-contiguous float32."""
    array = np.asarray(x)
    require_float(array, what)
    with np.errstate(over="ignore"):  # beyond float32 is infinite
        return np.asarray(array, np.float32, order="C")
