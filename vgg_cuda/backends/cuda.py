"""The CUDA backend: CuPy holds the arrays, the extension's kernels compute.

Work is enqueued on CuPy's current stream of the device; only ``to_numpy`` waits for it.
"""

from __future__ import annotations

import contextlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _C

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

Array = Any
"""A ``cupy.ndarray``."""

OLDEST_COMPUTE_CAPABILITY = (8, 0)


@dataclass
class PackedConv3x3:
    """w [K,3,3,C] and float32 bias [K], in GPU memory."""

    w: Array
    bias: Array
    in_channels: int
    out_channels: int


@dataclass
class PackedLinear:
    """w [K,C] and float32 bias [K], in GPU memory."""

    w: Array
    bias: Array
    in_features: int
    out_features: int


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


def _dtypes() -> tuple[str, ...]:
    # CuPy 14 holds bfloat16 where ml_dtypes is installed, whose dtype it is.
    import cupy

    if int(cupy.__version__.split(".")[0]) >= 14 and importlib.util.find_spec("ml_dtypes"):
        return ("float16", "float32", "bfloat16")
    return ("float16", "float32")


def _numpy_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    if dtype == "bfloat16":
        import ml_dtypes  # noqa: F401  (makes the name known to NumPy)

    resolved: np.dtype[Any] = np.dtype(dtype)
    return resolved


class CudaBackend:
    """The operations of a VGG on GPU ``index``; see ``backends/base.py`` for what each does.

    Raises RuntimeError, with ``why_unavailable(index)``, where that GPU cannot be used.
    """

    name = "cuda"
    batch_limit: int | None = None

    def __init__(self, index: int = 0) -> None:
        reason = why_unavailable(index)
        if reason is not None:
            raise RuntimeError(reason)
        import cupy

        self._cupy = cupy
        self._index = index
        self.device = f"cuda:{index}"
        self.dtypes = _dtypes()

    def session(self) -> contextlib.AbstractContextManager[None]:
        """Nothing is shared: every operation names its device and stream."""
        return contextlib.nullcontext()

    def asarray(self, x: Any, dtype: DTypeLike) -> Array:
        """X as a C-contiguous CuPy array of ``dtype`` on this GPU.

        NumPy arrays are cast on the host, so that only the result crosses the bus; arrays of
        other GPUs are copied to this one.
        """
        cupy, dtype = self._cupy, _numpy_dtype(dtype)
        if not isinstance(x, cupy.ndarray) and not hasattr(x, "__cuda_array_interface__"):
            host = np.ascontiguousarray(x, dtype=dtype).reshape(np.shape(x))
            with cupy.cuda.Device(self._index):
                return cupy.asarray(host)
        source = x if isinstance(x, cupy.ndarray) else cupy.asarray(x)
        with cupy.cuda.Device(self._index):
            if source.device.id != self._index:
                source = self._copy_from_other_gpu(source)
            return cupy.ascontiguousarray(source.astype(dtype, copy=False))

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
        with self._cupy.cuda.Device(self._index):
            host: NDArray[Any] = self._cupy.asnumpy(x)
        return host

    def pack_conv3x3(
        self, w: NDArray[np.float32], bias: NDArray[np.float32], dtype: DTypeLike
    ) -> PackedConv3x3:
        """Copy w [K,3,3,C], cast to ``dtype``, and bias [K], in float32, to the GPU."""
        K, _, _, C = w.shape
        return PackedConv3x3(self.asarray(w, dtype), self.asarray(bias, np.float32), C, K)

    def pack_linear(
        self, w: NDArray[np.float32], bias: NDArray[np.float32], dtype: DTypeLike
    ) -> PackedLinear:
        """Copy w [K,C], cast to ``dtype``, and bias [K], in float32, to the GPU."""
        K, C = w.shape
        return PackedLinear(self.asarray(w, dtype), self.asarray(bias, np.float32), C, K)

    def conv3x3(self, x: Array, packed: Any, *, relu: bool, pool: bool) -> Array:
        """[N,H,W,C] -> [N,H,W,K], or [N,H//2,W//2,K] with ``pool``; ``packed`` of this backend."""
        N, H, W, _ = x.shape
        P, Q = (H // 2, W // 2) if pool else (H, W)
        with self._cupy.cuda.Device(self._index):
            out = self._empty((N, P, Q, packed.out_channels), x)
            _C.conv3x3(x, packed.w, packed.bias, out, relu=relu, pool=pool, **self._where(x))
        return out

    def maxpool2x2(self, x: Array) -> Array:
        """[N,H,W,C] -> [N,H//2,W//2,C]."""
        N, H, W, C = x.shape
        with self._cupy.cuda.Device(self._index):
            out = self._empty((N, H // 2, W // 2, C), x)
            _C.maxpool2x2(x, out, **self._where(x))
        return out

    def avgpool(self, x: Array, grid: int) -> Array:
        """[N,H,W,C] -> [N,grid,grid,C]."""
        N, _, _, C = x.shape
        with self._cupy.cuda.Device(self._index):
            out = self._empty((N, grid, grid, C), x)
            _C.avgpool(x, out, **self._where(x))
        return out

    def linear(self, x: Array, packed: Any, *, relu: bool) -> Array:
        """[N,C] -> [N,K]; ``packed`` of this backend."""
        with self._cupy.cuda.Device(self._index):
            out = self._empty((x.shape[0], packed.out_features), x)
            _C.linear(x, packed.w, packed.bias, out, relu=relu, **self._where(x))
        return out

    def relu(self, x: Array) -> Array:
        """max(x, 0) of an array of any shape."""
        with self._cupy.cuda.Device(self._index):
            out = self._empty(x.shape, x)
            _C.relu(x, out, **self._where(x))
        return out

    def softmax(self, x: Array) -> Array:
        """[N,C] -> [N,C]."""
        with self._cupy.cuda.Device(self._index):
            out = self._empty(x.shape, x)
            _C.softmax(x, out, **self._where(x))
        return out

    def _empty(self, shape: tuple[int, ...], like: Array) -> Array:
        return self._cupy.empty(shape, like.dtype)

    def _where(self, x: Array) -> dict[str, Any]:
        return {"stream": self._cupy.cuda.get_current_stream().ptr, "dtype": x.dtype.name}
