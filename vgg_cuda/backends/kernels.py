"""The operations as launches of compiled kernels: what the GPU and the emulator have in common.

A subclass says where arrays live and what runs the launches. Plans are made once per shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .. import _C
from ..arrays import address, is_cupy, numpy_dtype
from ..preprocess import Preset
from .stats import record

Array = Any
"""A ``numpy.ndarray`` on the emulator, a ``cupy.ndarray`` on a GPU."""

ALIGNMENT = 16  # bytes that one access of a kernel covers at most


@dataclass(frozen=True)
class PackedConv3x3:
    """w [K, 9*C and zeros], rows in the order r, s, c, and float32 bias [K and zeros]."""

    w: Array
    bias: Array
    in_channels: int
    out_channels: int
    dtype: str
    device: str


@dataclass(frozen=True)
class PackedLinear:
    """w [K, C and zeros] and float32 bias [K and zeros]."""

    w: Array
    bias: Array
    in_features: int
    out_features: int
    dtype: str
    device: str


class KernelBackend(ABC):
    """The operations of a VGG, planned for ``arch``; ``base.py`` says what each does."""

    name: str
    device: str
    dtypes: tuple[str, ...]
    batch_limit: int | None = None

    def __init__(self, arch: _C.Arch) -> None:
        self.arch = arch
        self._plan = lru_cache(maxsize=4096)(self._make_plan)

    @property
    def precisions(self) -> tuple[str, ...]:
        return (*self.dtypes, "tf32")

    # ---- What a subclass says ----

    @abstractmethod
    def asarray(self, x: Any, dtype: DTypeLike) -> Array: ...

    @abstractmethod
    def as_images(self, x: Any, dtype: str) -> Array: ...

    @abstractmethod
    def synchronize(self) -> None: ...

    @abstractmethod
    def to_numpy(self, x: Array) -> NDArray[Any]: ...

    @abstractmethod
    def on_stream(self, stream: Any) -> AbstractContextManager[Any]: ...

    @abstractmethod
    def executor(self) -> _C.Executor:
        """What runs one operation's launches, on the current stream."""

    @abstractmethod
    def counters(self, executor: Any, plan: _C.Plan) -> dict[str, int]:
        """What ``executor`` counted while it ran ``plan``."""

    @abstractmethod
    def new_array(self, shape: tuple[int, ...], dtype: str) -> Array:
        """An uninitialised array on the device."""

    def host_array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """An uninitialised array in host memory."""
        return np.empty(shape, numpy_dtype(dtype))

    @abstractmethod
    def free_bytes(self, needed: int) -> int | None:
        """Memory that can be had on the device; None where allocating is the way to find out."""

    @abstractmethod
    def reported_bytes(self) -> int | None:
        """Memory that the device says is free, for a message; None where it does not say."""

    def active(self) -> AbstractContextManager[Any]:
        """Entered around everything that touches the device."""
        return nullcontext()

    def session(self) -> AbstractContextManager[None]:
        return nullcontext()  # nothing is shared: every operation names its device and stream

    # ---- Weights ----

    def pack_conv3x3(self, w: Array, bias: Array, dtype: str) -> PackedConv3x3:
        K, _, _, C = w.shape
        with self.active():
            rows = w.reshape(K, 9 * C)
        packed = self._pack(rows, dtype), self._pack_bias(bias)
        return PackedConv3x3(*packed, C, K, dtype, self.device)

    def pack_linear(self, w: Array, bias: Array, dtype: str) -> PackedLinear:
        K, C = w.shape
        return PackedLinear(self._pack(w, dtype), self._pack_bias(bias), C, K, dtype, self.device)

    def _pack(self, w: Array, dtype: str) -> Array:
        K, gemm_k = w.shape
        return self._padded(w, (K, _C.packed_columns(gemm_k, dtype)), dtype)

    def _pack_bias(self, bias: Array) -> Array:
        return self._padded(bias, (_C.packed_bias(bias.shape[0]),), "float32")

    def _padded(self, x: Array, shape: tuple[int, ...], dtype: str) -> Array:
        """x with zeros behind its last axis, on the device; made where x is, then moved.

        For tf32 rounded here, once, and not in every step of a kernel.
        """
        with self.active(), np.errstate(over="ignore"):  # beyond float16 is infinite
            padded = (self.new_array if is_cupy(x) else self.host_array)(shape, dtype)
            padded[..., : x.shape[-1]] = x
            padded[..., x.shape[-1] :] = 0
            if dtype == "tf32":
                _round_to_tf32(padded)
            return self.asarray(padded, dtype)

    # ---- Operations ----

    def conv3x3(
        self, x: Array, packed: Any, *, relu: bool, pool: bool, preset: Preset | None = None,
        out: Array | None = None,
    ) -> Array:  # fmt: skip
        N, H, W, C = x.shape
        P, Q, K, dtype = (
            *((H // 2, W // 2) if pool else (H, W)),
            packed.out_channels,
            packed.dtype,
        )
        normalize = None if preset is None else normalization(preset)

        def launch(plan: _C.Plan, y: Array, workspace: Array, executor: _C.Executor) -> None:
            arrays = x, packed.w, packed.bias, y, workspace
            _C.conv3x3(plan, *arrays, executor, normalize=normalize)

        options = {"dtype": dtype, "x_dtype": x.dtype.name, "relu": relu, "pool": pool}
        result = numpy_dtype(dtype).name
        return self._run("conv3x3", (N, H, W, C, K), options, launch, x, (N, P, Q, K), out, result)

    def linear(self, x: Array, packed: Any, *, relu: bool, out: Array | None = None) -> Array:
        N, C = x.shape
        K, dtype = packed.out_features, packed.dtype

        def launch(plan: _C.Plan, y: Array, workspace: Array, executor: _C.Executor) -> None:
            _C.linear(plan, x, packed.w, packed.bias, y, workspace, executor)

        options = {"dtype": dtype, "relu": relu}
        return self._run("linear", (N, C, K), options, launch, x, (N, K), out)

    def maxpool2x2(self, x: Array, *, out: Array | None = None) -> Array:
        N, H, W, C = x.shape
        return self._simple("maxpool2x2", _C.maxpool2x2, x.shape, x, (N, H // 2, W // 2, C), out)

    def avgpool(self, x: Array, grid: int, *, out: Array | None = None) -> Array:
        N, _, _, C = x.shape
        return self._simple("avgpool", _C.avgpool, (*x.shape, grid), x, (N, grid, grid, C), out)

    def relu(self, x: Array, *, out: Array | None = None) -> Array:
        return self._simple("relu", _C.relu, (x.size,), x, x.shape, out)

    def softmax(self, x: Array, *, out: Array | None = None) -> Array:
        return self._simple("softmax", _C.softmax, x.shape, x, x.shape, out)

    def convert(
        self, x: Array, dtype: str, source: str, target: str, *, out: Array | None = None
    ) -> Array:
        shape, sizes = x.shape, (1, 1, x.size)
        if source != target:
            N, A, B, C = x.shape
            shape = (N, C, A, B) if target == "NCHW" else (N, B, C, A)
            sizes = (N, A * B, C) if target == "NCHW" else (N, A, B * C)
        elif x.ndim > 1:
            sizes = (x.shape[0], 1, x.size // max(x.shape[0], 1))

        def launch(plan: _C.Plan, y: Array, workspace: Array, executor: _C.Executor) -> None:
            _C.convert(plan, x, y, executor)

        options = {"x_dtype": x.dtype.name, "dtype": dtype}
        return self._run("convert", sizes, options, launch, x, shape, out, dtype)

    def _simple(
        self, op: str, function: Callable[[_C.Plan, Any, Any, _C.Executor], None],
        sizes: tuple[int, ...], x: Array, shape: tuple[int, ...], out: Array | None,
    ) -> Array:  # fmt: skip
        def launch(plan: _C.Plan, y: Array, workspace: Array, executor: _C.Executor) -> None:
            function(plan, x, y, executor)

        return self._run(op, sizes, {"dtype": x.dtype.name}, launch, x, shape, out)

    def _run(
        self, op: str, sizes: tuple[int, ...], options: dict[str, Any],
        launch: Callable[[_C.Plan, Array, Array, _C.Executor], None],
        x: Array, shape: tuple[int, ...], out: Array | None, dtype: str | None = None,
    ) -> Array:  # fmt: skip
        """Plans the operation and launches it, unless ``shape``, the result's, is empty."""
        dtype = dtype or x.dtype.name
        with self.active():
            if not math.prod(shape):
                return self.new_array(shape, dtype) if out is None else out
            aligned = address(x) % ALIGNMENT == 0
            aligned &= out is None or address(out) % ALIGNMENT == 0  # new arrays are
            if op != "convert":
                options["aligned"] = aligned
            plan = self._plan(op, sizes, tuple(options.items()))
            y, workspace = self._allocate(op, shape, dtype, plan.workspace_bytes, out)
            executor = self.executor()
            launch(plan, y, workspace, executor)
            record(plan.kernel, plan.as_dict, lambda: self.counters(executor, plan))
        return y

    def _make_plan(
        self, op: str, sizes: tuple[int, ...], options: tuple[tuple[str, Any], ...]
    ) -> _C.Plan:
        make: Callable[..., _C.Plan] = getattr(_C, f"plan_{op}")
        return make(*sizes, **dict(options), arch=self.arch)

    def _allocate(
        self, op: str, shape: tuple[int, ...], dtype: str, workspace_bytes: int, out: Array | None
    ) -> tuple[Array, Array]:
        """The result and the workspace; MemoryError, beforehand if possible, says their sizes."""
        result_bytes = 0 if out is not None else math.prod(shape) * numpy_dtype(dtype).itemsize
        needed = result_bytes + workspace_bytes
        uses = [f"{_gb(result_bytes)} for its result {list(shape)} of {dtype}"] * (out is None)
        uses += [f"{_gb(workspace_bytes)} for partial sums"] * bool(workspace_bytes)

        def failure(free: int | None) -> MemoryError:
            there = "" if free is None else f", {_gb(free)} are free on {self.device}"
            return MemoryError(
                f"{op}: needs {' and '.join(uses)}{there}; smaller batches need less"
            )

        free = self.free_bytes(needed)
        if free is not None and needed > free:
            raise failure(free)
        try:
            y = self.new_array(shape, dtype) if out is None else out
            size = workspace_bytes
            return y, self.new_array((size,), "uint8") if size else None
        except MemoryError as error:  # CuPy's OutOfMemoryError is one
            raise failure(self.reported_bytes()) from error


def normalization(preset: Preset) -> tuple[list[float], list[float], bool]:
    """(pixel / divisor - center - mean) / std as pixel * scale + shift, by the network's channel.

    And whether the network reads the channels of RGB pixels in the other order.
    """
    channels = list(zip(preset.mean, preset.std, strict=True))
    scale = [1 / (preset.divisor * std) for _, std in channels]
    shift = [-(preset.center + mean) / std for mean, std in channels]
    return scale, shift, preset.channels == "BGR"


def _round_to_tf32(x: Array) -> None:
    """x, float32, in place: to nearest, ties away from zero, as PTX's cvt.rna.tf32.f32."""
    x[np.isnan(x)] = np.nan  # this one and infinities stay what they are below
    bits = x.view(np.uint32)
    bits += 0x1000  # half of the last digit that is kept
    bits &= 0xFFFFE000


def _gb(size: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:,} bytes"
