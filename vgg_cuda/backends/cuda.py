"""The CUDA backend: CuPy holds the arrays, the extension's kernels compute.

Work is enqueued on CuPy's current stream of the device; only ``to_numpy`` waits for it.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _C
from ..arrays import describe, is_cupy, numpy_dtype
from .kernels import KernelBackend

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

Array = Any
"""A ``cupy.ndarray``."""

OLDEST_COMPUTE_CAPABILITY = (8, 0)


def why_unavailable(index: int = 0) -> str | None:
    """Why GPU ``index`` of this machine cannot be used, in words for a user; None where it can.

    The driver is asked for first, then the GPU, then CuPy.
    """
    info = _C.device_info()
    if not info["available"]:
        return info["reason"]
    if index >= len(info["devices"]):
        count = len(info["devices"])
        return f"no GPU {index}: {count} {'is' if count == 1 else 'are'} visible"
    device = info["devices"][index]
    capability = device["compute_capability"]
    if capability < OLDEST_COMPUTE_CAPABILITY:
        sm = "sm_{}{}".format(*capability)
        return f"GPU {device['name']} is {sm}; vgg_cuda needs sm_80 or later"
    try:
        import cupy  # noqa: F401
    except ImportError:
        return 'CuPy is not installed: pip install "vgg-cuda[cuda13]"'
    return None


def _arch_of(index: int, name: str | None) -> _C.Arch:
    """What is planned for: the GPU itself, or another whose kernels it can run."""
    device = _C.device_info()["devices"][index]
    major, minor = device["compute_capability"]
    if name is None:
        return _C.device_arch(major, minor, device["sm_count"])
    arch = _C.arch(name)
    if not _C.can_run(arch, major, minor):
        runs = [known for known in _C.arch_names() if _C.can_run(_C.arch(known), major, minor)]
        raise ValueError(
            f"arch {name!r}: {device['name']} is sm_{major}{minor} and cannot run it; "
            f"expected one of {', '.join(runs)}"
        )
    return arch


def _dtypes() -> tuple[str, ...]:
    # CuPy 14 holds bfloat16 where ml_dtypes is installed, whose dtype it is.
    import cupy

    if int(cupy.__version__.split(".")[0]) >= 14 and importlib.util.find_spec("ml_dtypes"):
        return ("float16", "float32", "bfloat16")
    return ("float16", "float32")


class CudaBackend(KernelBackend):
    """The operations of a VGG on GPU ``index``; see ``backends/base.py`` for what each does.

    ``arch`` names the GPU to plan for, by default this one. Raises RuntimeError, with
    ``why_unavailable(index)``, where that GPU cannot be used, ValueError where it cannot run what
    is planned for ``arch``.
    """

    name = "cuda"

    def __init__(self, index: int = 0, arch: str | None = None) -> None:
        reason = why_unavailable(index)
        if reason is not None:
            raise RuntimeError(reason)
        import cupy

        super().__init__(_arch_of(index, arch))
        self._cupy = cupy
        self._index = index
        self.device = f"cuda:{index}"
        self.dtypes = _dtypes()

    def active(self) -> contextlib.AbstractContextManager[Any]:
        device: contextlib.AbstractContextManager[Any] = self._cupy.cuda.Device(self._index)
        return device

    @contextlib.contextmanager
    def on_stream(self, stream: Any) -> Iterator[None]:
        """Makes ``stream`` the current one.

        It is a stream of CuPy or PyTorch, an object with ``__cuda_stream__``, or an address.
        """
        if stream is None:
            yield
            return
        pointer = _stream_address(stream)
        cuda = self._cupy.cuda
        here = stream if is_cupy(stream) else _wrap_stream(cuda, pointer, self._index)
        with self.active(), here:
            yield

    def asarray(self, x: Any, dtype: DTypeLike) -> Array:
        """X as a C-contiguous CuPy array of ``dtype`` on this GPU.

        NumPy arrays are cast on the host, so that only the result crosses the bus; arrays of
        other GPUs are copied to this one.
        """
        cupy, dtype = self._cupy, numpy_dtype(dtype)
        if not isinstance(x, cupy.ndarray) and not hasattr(x, "__cuda_array_interface__"):
            with np.errstate(over="ignore"):  # beyond float16 is infinite
                host = np.ascontiguousarray(x, dtype=dtype).reshape(np.shape(x))
            with self.active():
                return cupy.asarray(host)
        source = x if isinstance(x, cupy.ndarray) else cupy.asarray(x)
        with self.active():
            if source.device.id != self._index:
                source = self._copy_from_other_gpu(source)
            return cupy.ascontiguousarray(source.astype(dtype, copy=False))

    def as_images(self, x: Any, dtype: str) -> Array:
        # float32 from the host is cast there: half as much crosses the bus
        read = ("uint8", "float32", dtype) if is_cupy(x) else ("uint8",)
        return self.asarray(x, x.dtype.name if x.dtype.name in read else dtype)

    def _copy_from_other_gpu(self, x: Array) -> Array:
        cuda = self._cupy.cuda
        with x.device:
            written = cuda.get_current_stream().record()
        cuda.get_current_stream().wait_event(written)
        return x.copy()

    def synchronize(self) -> None:
        """Returns when everything enqueued on the GPU so far is done."""
        with self._cupy.cuda.Device(self._index) as device:
            device.synchronize()

    def to_numpy(self, x: Array) -> NDArray[Any]:
        """X in host memory, after the work that produces it has finished."""
        with self.active():
            host: NDArray[Any] = self._cupy.asnumpy(x)
        return host

    def executor(self) -> _C.Cuda:
        return _C.Cuda(self._cupy.cuda.get_current_stream().ptr)

    def counters(self, executor: Any, plan: _C.Plan) -> dict[str, int]:
        return {}

    def new_array(self, shape: tuple[int, ...], dtype: str) -> Array:
        return self._cupy.empty(shape, numpy_dtype(dtype))

    def free_bytes(self, needed: int) -> int | None:
        """The driver's free memory and the pool's; the driver is asked where the pool has less."""
        pool = self._cupy.get_default_memory_pool()
        pooled = int(pool.free_bytes())
        if needed <= pooled:
            return None
        free = int(self._cupy.cuda.runtime.memGetInfo()[0]) + pooled
        limit = int(pool.get_limit())
        return min(free, limit - int(pool.used_bytes())) if limit else free


def _stream_address(stream: Any) -> int:
    if isinstance(stream, int) and not isinstance(stream, bool):
        return stream
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:  # (version, address); a property in the protocol's first drafts
        return int((protocol() if callable(protocol) else protocol)[1])
    for attribute in ("ptr", "cuda_stream"):  # CuPy's, PyTorch's
        pointer = getattr(stream, attribute, None)
        if isinstance(pointer, int):
            return pointer
    raise TypeError(
        "stream: expected a stream of CuPy or PyTorch, an object with __cuda_stream__, or an "
        f"address, got {describe(stream)}"
    )


class _Stream:
    """The protocol that ``Stream.from_external`` of CuPy 14 takes."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._pointer


def _wrap_stream(cuda: Any, pointer: int, index: int) -> Any:
    if hasattr(cuda.Stream, "from_external"):
        return cuda.Stream.from_external(_Stream(pointer))
    return cuda.ExternalStream(pointer, index)
