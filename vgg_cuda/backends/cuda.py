"""The CUDA backend: arrays of CuPy, kernels of the extension.

Work is enqueued on CuPy's current stream of the device; for PyTorch tensors, ``streams.py`` makes
that PyTorch's current stream. Only ``to_numpy`` and ``synchronize`` wait for it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _C
from ..arrays import is_cupy, numpy_dtype
from ..system.notices import warn_once
from . import streams
from .errors import device_lost, is_lost
from .families import gpu_families
from .kernels import KernelBackend
from .operations import Spec

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

Array = Any
"""A ``cupy.ndarray``."""

OLDEST_COMPUTE_CAPABILITY = (8, 0)
EARLY_IN_GRAPHS = (12, 3)
"""CUDA version of the first driver that captures launches that begin early."""

LEGACY_STREAMS = (0, 1)  # cannot be captured, and must not be asked while another stream captures

# CUDA forbids waiting for a GPU while one of its streams captures a graph.
_capturing = threading.RLock()


@cache
def _described(query: Callable[[], _C.DeviceInfo]) -> _C.DeviceInfo:
    """Return the result of ``query``, called once per process because it visits every GPU."""
    return query()


def why_unavailable(index: int = 0) -> str | None:
    """Return why GPU ``index`` is unavailable, in words for a user; None if it is available.

    The driver is checked first, then the GPU, then CuPy.
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
        return 'CuPy is not installed: pip install ".[cuda13]" in a clone of vgg_cuda'
    return None


def _dtypes() -> tuple[str, ...]:
    # CuPy 14 supports bfloat16, a dtype of ml_dtypes, if that is installed
    import cupy

    if int(cupy.__version__.split(".")[0]) >= 14 and importlib.util.find_spec("ml_dtypes"):
        return ("float16", "float32", "bfloat16")
    return ("float16", "float32")


class CudaBackend(KernelBackend):
    """The operations of a VGG on GPU ``index``; see :class:`~vgg_cuda.backends.base.Backend`.

    ``arch`` is the GPU architecture to plan for, by default that of the GPU. Raises
    ``RuntimeError`` with the reason if the GPU is unavailable, ``ValueError`` if it cannot run
    kernels for ``arch``.
    """

    name = "cuda"
    gpu: _C.Device

    def __init__(self, index: int = 0, arch: str | None = None) -> None:
        reason = why_unavailable(index)
        if reason is not None:
            raise RuntimeError(reason)
        import cupy

        self.device = f"cuda:{index}"
        info = _described(_C.device_info)
        self.gpu = info["devices"][index]
        super().__init__(gpu_families(self.gpu, arch))
        self._cupy = cupy
        self._index = index
        self.dtypes = _dtypes()
        driver = tuple(map(int, (info["driver"] or "0").split(".")))
        self._early_in_graphs = driver >= EARLY_IN_GRAPHS

    def report_families(self) -> None:
        warning = self.families.warning(self.gpu["name"])
        if warning is not None:
            warn_once(warning)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Make this GPU CuPy's current device; CuPy's error of a lost GPU says what to do."""
        try:
            with self._cupy.cuda.Device(self._index):
                yield
        except RuntimeError as error:
            if is_lost(error):
                raise device_lost(self.device, error) from error
            raise

    def on_stream(self, stream: Any) -> contextlib.AbstractContextManager[None]:
        if stream is None:
            return contextlib.nullcontext()
        return streams.on_stream(self._cupy, stream, self._index)

    def asarray(self, x: Any, dtype: DTypeLike) -> Array:
        """Return x as a C-contiguous CuPy array of ``dtype`` on this GPU.

        NumPy arrays are cast on the host, so that only the result crosses the bus. Arrays of
        other GPUs are copied to this one.
        """
        cupy, dtype = self._cupy, numpy_dtype(dtype)
        if not isinstance(x, cupy.ndarray) and not hasattr(x, "__cuda_array_interface__"):
            with np.errstate(over="ignore"):  # values beyond float16 become infinite
                host = np.ascontiguousarray(x, dtype=dtype).reshape(np.shape(x))
            with self.active():
                return cupy.asarray(host)
        source = x if isinstance(x, cupy.ndarray) else cupy.asarray(x)
        with self.active():
            if source.device.id != self._index:
                source = self._copy_from_other_gpu(source)
            return cupy.ascontiguousarray(source.astype(dtype, copy=False))

    def image_dtype(self, x: Any, dtype: str) -> str:
        # float32 in host memory is cast there: half as many bytes cross the bus
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
        with _capturing, self.active():
            self._cupy.cuda.Device(self._index).synchronize()

    def to_numpy(self, x: Array) -> NDArray[Any]:
        with self.active():
            host: NDArray[Any] = self._cupy.asnumpy(x)
        return host

    def executor(self, early: bool = False) -> _C.Cuda:
        stream = self._cupy.cuda.get_current_stream()
        return _C.Cuda(stream.ptr, early=early and self._may_begin_early(stream))

    def _may_begin_early(self, stream: Any) -> bool:
        if "early" in self.families.off:
            return False
        if self._early_in_graphs or stream.ptr in LEGACY_STREAMS:
            return True
        return not self.is_capturing()

    def is_capturing(self) -> bool:
        stream = self._cupy.cuda.get_current_stream()
        return stream.ptr not in LEGACY_STREAMS and bool(stream.is_capturing())

    def counters(self, executor: Any, plan: _C.Plan) -> dict[str, int]:
        return {}

    def new_array(self, shape: tuple[int, ...], dtype: str) -> Array:
        return self._cupy.empty(shape, numpy_dtype(dtype))

    def view(self, memory: Array, offset: int, spec: Spec) -> Array:
        return self._cupy.ndarray(spec.shape, numpy_dtype(spec.dtype), memory.data + offset)

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """Capture ``run`` as a CUDA graph, after waiting for the GPU to finish with its arrays.

        If the self-test has switched graphs off, the result launches all kernels itself.
        """
        if not self.captures:
            run()
            return run
        with _capturing, self.active():
            self.synchronize()
            stream = self._cupy.cuda.Stream(non_blocking=True)
            with stream:
                try:
                    run()  # loading kernels is not allowed during the capture
                finally:
                    stream.synchronize()  # after an error, too: its launches use the arrays
                stream.begin_capture()
                try:
                    run()
                except BaseException:
                    with contextlib.suppress(RuntimeError):  # the error may have ended the capture
                        stream.end_capture()
                    raise
                graph = stream.end_capture()
        launch: Callable[[], None] = graph.launch
        return launch

    def free_bytes(self, needed: int) -> int | None:
        """Return the free memory of the driver and of CuPy's default pool.

        Returns None for another allocator, or if the pool alone has enough. Garbage is collected,
        as CuPy does, before the result is less than ``needed``.
        """
        pool = self._cupy.get_default_memory_pool()
        if self._cupy.cuda.get_allocator() != pool.malloc:
            return None
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
