"""The operations as launches of compiled kernels: what the GPU and the emulator have in common.

A subclass says where arrays live and what runs the launches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .. import _C
from ..arrays import address, is_cupy, numpy_dtype
from ..images.presets import Preset
from .operations import Array, Operation, Planner, Spec
from .stats import record

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
        self.plan = Planner(arch)

    @property
    def precisions(self) -> tuple[str, ...]:
        return (*self.dtypes, "tf32")

    # ---- What a subclass says ----

    @abstractmethod
    def asarray(self, x: Any, dtype: DTypeLike) -> Array: ...

    @abstractmethod
    def image_dtype(self, x: Any, dtype: str) -> str:
        """The dtype that images x, to be computed in ``dtype``, have on the device."""

    @abstractmethod
    def synchronize(self) -> None: ...

    @abstractmethod
    def to_numpy(self, x: Array) -> NDArray[Any]: ...

    @abstractmethod
    def on_stream(self, stream: Any) -> AbstractContextManager[Any]: ...

    @abstractmethod
    def executor(self, early: bool = False) -> _C.Executor:
        """What runs one operation's launches, on the current stream.

        ``early``: behind a launch of the same forward, which need not have ended.
        """

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
    def view(self, memory: Array, offset: int, spec: Spec) -> Array:
        """An array in ``memory``, which is of bytes, from ``offset`` on."""

    @abstractmethod
    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """What launches again, on the current stream, all that ``run()`` launches.

        ``run`` is called now, at least once, and must neither allocate nor wait.
        """

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

    def as_images(self, x: Any, dtype: str) -> Array:
        return self.asarray(x, self.image_dtype(x, dtype))

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
        plan = partial(self.plan.conv3x3, packed=packed, relu=relu, pool=pool, preset=preset)
        return self._run(plan, x, out)

    def fused_conv1_block(
        self, x: Array, first: Any, second: Any, *, preset: Preset | None = None,
        out: Array | None = None,
    ) -> Array:  # fmt: skip
        with self.active():
            aligned = _is_aligned(out)
            operation = self.plan.fused_conv1_block(
                spec_of(x), first, second, preset=preset, aligned=aligned
            )
            if operation is not None:
                return self._carry_out(operation, x, out)
        z = self.conv3x3(x, first, relu=True, pool=False, preset=preset)
        return self.conv3x3(z, second, relu=True, pool=True, out=out)

    def linear(self, x: Array, packed: Any, *, relu: bool, out: Array | None = None) -> Array:
        return self._run(partial(self.plan.linear, packed=packed, relu=relu), x, out)

    def maxpool2x2(self, x: Array, *, out: Array | None = None) -> Array:
        return self._run(self.plan.maxpool2x2, x, out)

    def avgpool(self, x: Array, grid: int, *, out: Array | None = None) -> Array:
        return self._run(partial(self.plan.avgpool, grid=grid), x, out)

    def adaptive_maxpool(self, x: Array, grid: int, *, out: Array | None = None) -> Array:
        return self._run(partial(self.plan.adaptive_maxpool, grid=grid), x, out)

    def relu(self, x: Array, *, out: Array | None = None) -> Array:
        return self._run(self.plan.relu, x, out)

    def softmax(self, x: Array, *, out: Array | None = None) -> Array:
        return self._run(self.plan.softmax, x, out)

    def convert(
        self, x: Array, dtype: str, source: str, target: str, *, out: Array | None = None
    ) -> Array:
        plan = partial(self.plan.convert, dtype=dtype, source=source, target=target)
        return self._run(plan, x, out)

    def _run(self, plan: Callable[..., Operation], x: Array, out: Array | None) -> Array:
        """Plans the operation on x and launches it, into ``out`` or a new array."""
        with self.active():
            return self._carry_out(plan(spec_of(x), aligned=_is_aligned(out)), x, out)

    def _carry_out(self, operation: Operation, x: Array, out: Array | None) -> Array:
        y, workspace = self._allocate(operation, out)
        self.launch(operation, x, y, workspace)
        return y

    def launch(
        self, operation: Operation, x: Array, y: Array, workspace: Array, *, early: bool = False
    ) -> None:
        """Enqueues a planned operation, and enters it where somebody records."""
        plan = operation.plan
        if plan is None:
            return
        executor = self.executor(early)
        operation.launch(plan, x, y, workspace, executor)
        record(plan.kernel, plan.as_dict, lambda: self.counters(executor, plan))

    def _allocate(self, operation: Operation, out: Array | None) -> tuple[Array, Array]:
        """The result and the workspace; MemoryError, beforehand if possible, says their sizes."""
        y, workspace_bytes = operation.y, operation.workspace_bytes
        result_bytes = 0 if out is not None else y.nbytes
        uses = [f"{size(result_bytes)} for its result {list(y.shape)} of {y.dtype}"] * (out is None)
        uses += [f"{size(workspace_bytes)} for partial sums"] * bool(workspace_bytes)
        with self.reserving(operation.name, result_bytes + workspace_bytes, uses):
            result = self.new_array(y.shape, y.dtype) if out is None else out
            workspace = self.new_array((workspace_bytes,), "uint8") if workspace_bytes else None
        return result, workspace

    @contextmanager
    def reserving(
        self, what: str, needed: int, uses: Sequence[str], less: str = "smaller batches"
    ) -> Iterator[None]:
        """Entered to allocate ``needed`` bytes; MemoryError says what for, and what needs ``less``.

        Where the device says that it has too little, that is told before anything is allocated.
        """

        def failure(free: int | None) -> MemoryError:
            there = "" if free is None else f", {size(free)} are free on {self.device}"
            return MemoryError(f"{what}: needs {' and '.join(uses)}{there}; {less} need less")

        free = self.free_bytes(needed)
        if free is not None and needed > free:
            raise failure(free)
        try:
            yield
        except MemoryError as error:  # CuPy's OutOfMemoryError is one
            raise failure(self.reported_bytes()) from error


def _round_to_tf32(x: Array) -> None:
    """x, float32, in place: to nearest, ties away from zero, as PTX's cvt.rna.tf32.f32."""
    x[np.isnan(x)] = np.nan  # this one and infinities stay what they are below
    bits = x.view(np.uint32)
    bits += 0x1000  # half of the last digit that is kept
    bits &= 0xFFFFE000


def _is_aligned(out: Array | None) -> bool:
    return out is None or address(out) % ALIGNMENT == 0  # new arrays are


def spec_of(x: Array) -> Spec:
    """What a plan needs to know of an array that is there."""
    return Spec(x.shape, x.dtype.name, address(x) % ALIGNMENT == 0)


def size(nbytes: int) -> str:
    """A number of bytes for a reader: "1.5 GB"."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if nbytes >= factor:
            return f"{nbytes / factor:.1f} {unit}"
    return f"{nbytes:,} bytes"
