"""The CUDA backend: CuPy holds the arrays, the extension's kernels compute.

Work is enqueued on CuPy's current stream of the device, which for PyTorch's tensors ``streams.py``
has made PyTorch's; only ``to_numpy`` waits for it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import threading
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _C
from ..arrays import is_cupy, numpy_dtype
from . import streams
from .kernels import KernelBackend
from .operations import Spec

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

Array = Any
"""A ``cupy.ndarray``."""

OLDEST_COMPUTE_CAPABILITY = (8, 0)

# CUDA lets nobody wait for a GPU while a stream of it captures.
_capturing = threading.RLock()


@cache
def _described(query: Callable[[], _C.DeviceInfo]) -> _C.DeviceInfo:
    """What ``query`` says, asked once per process: it visits every GPU."""
    return query()


def why_unavailable(index: int = 0) -> str | None:
    """Why GPU ``index`` of this machine cannot be used, in words for a user; None where it can.

    The driver is asked for first, then the GPU, then CuPy.
    """
    info = _described(_C.device_info)
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
    device = _described(_C.device_info)["devices"][index]
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

    def on_stream(self, stream: Any) -> contextlib.AbstractContextManager[None]:
        """Makes ``stream``, as ``streams.on_stream`` takes it, the current one; None: as it is."""
        if stream is None:
            return contextlib.nullcontext()
        return streams.on_stream(self._cupy, stream, self._index)

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

    def image_dtype(self, x: Any, dtype: str) -> str:
        # float32 from the host is cast there: half as much crosses the bus
        read = ("uint8", "float32", dtype) if is_cupy(x) else ("uint8",)
        given = str(x.dtype.name)
        return given if given in read else numpy_dtype(dtype).name

    def _copy_from_other_gpu(self, x: Array) -> Array:
        cuda = self._cupy.cuda
        with x.device:
            written = cuda.get_current_stream().record()
        cuda.get_current_stream().wait_event(written)
        return x.copy()

    def synchronize(self) -> None:
        """Returns when everything enqueued on the GPU so far is done."""
        with _capturing, self._cupy.cuda.Device(self._index) as device:
            device.synchronize()

    def to_numpy(self, x: Array) -> NDArray[Any]:
        """X in host memory, after the work that produces it has finished."""
        with self.active():
            host: NDArray[Any] = self._cupy.asnumpy(x)
        return host

    def executor(self, early: bool = False) -> _C.Cuda:
        return _C.Cuda(self._cupy.cuda.get_current_stream().ptr, early=early)

    def counters(self, executor: Any, plan: _C.Plan) -> dict[str, int]:
        return {}

    def new_array(self, shape: tuple[int, ...], dtype: str) -> Array:
        return self._cupy.empty(shape, numpy_dtype(dtype))

    def view(self, memory: Array, offset: int, spec: Spec) -> Array:
        return self._cupy.ndarray(spec.shape, numpy_dtype(spec.dtype), memory.data + offset)

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph. Waits for the GPU: what ``run`` uses may still be in use elsewhere."""
        with _capturing, self.active():
            self.synchronize()
            stream = self._cupy.cuda.Stream(non_blocking=True)
            with stream:
                run()  # loads the kernels
                stream.synchronize()
                stream.begin_capture()
                try:
                    run()
                finally:
                    graph = stream.end_capture()
        launch: Callable[[], None] = graph.launch
        return launch

    def free_bytes(self, needed: int) -> int | None:
        """The driver's free memory and the pool's, where CuPy's default pool allocates.

        The driver is asked where the pool has less; garbage is collected, as CuPy would, before
        that is too little.
        """
        pool = self._cupy.get_default_memory_pool()
        if self._cupy.cuda.get_allocator() != pool.malloc:
            return None  # who knows what it can still find
        if needed <= int(pool.free_bytes()):
            return None
        free = self.reported_bytes()
        if free < needed:
            gc.collect()
            free = self.reported_bytes()
        return free

    def reported_bytes(self) -> int:
        pool = self._cupy.get_default_memory_pool()
        free = int(self._cupy.cuda.runtime.memGetInfo()[0])
        if self._cupy.cuda.get_allocator() != pool.malloc:
            return free
        limit, free = int(pool.get_limit()), free + int(pool.free_bytes())
        return min(free, limit - int(pool.used_bytes())) if limit else free
