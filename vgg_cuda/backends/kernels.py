"""The operations as launches of compiled kernels, for GPUs and the emulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from .. import _C
from ..arrays import address, is_cupy
from ..images.presets import Preset
from ..text import format_bytes
from .device import KernelDevice
from .errors import KernelRefusedError
from .families import Families, refusals
from .launch_errors import launch_error
from .operations import Array, Operation, Planner, Spec
from .stats import drop_after, record, recorded

T = TypeVar("T")

ALIGNMENT = 16  # bytes of the largest memory access of a kernel


@dataclass(frozen=True)
class PackedConv3x3:
    """w [K,9*C], rows in the order r, s, c, and float32 bias [K], both padded with zeros."""

    w: Array
    bias: Array
    in_channels: int
    out_channels: int
    dtype: str
    device: str


@dataclass(frozen=True)
class PackedLinear:
    """w [K,C] and float32 bias [K], both padded with zeros."""

    w: Array
    bias: Array
    in_features: int
    out_features: int
    dtype: str
    device: str


@dataclass(frozen=True)
class PackedAffine:
    """float32 scale and shift [C], padded with zeros."""

    scale: Array
    shift: Array
    channels: int
    dtype: str
    device: str


class KernelBackend(KernelDevice):
    """The operations of a VGG, planned for ``arch``; ``base.Backend`` documents the methods.

    ``arch`` lacks the kernel families that are off, ``families_off`` has the reasons. If the driver
    refuses a kernel, its family joins them, and ``plan`` becomes another planner: plans of the
    earlier one may have to be made again, see :meth:`with_fallback`.
    """

    arch: _C.Arch
    families_off: Mapping[str, str]
    plan: Planner

    def __init__(self, families: Families) -> None:
        self.families = families
        refusals(self.device).register(self)

    @property
    def captures(self) -> bool:
        """Whether :meth:`capture` returns a graph on a GPU."""
        return "graph" not in self.families.off

    def replan(self, refused: Mapping[str, str]) -> None:
        """Use no kernels of the ``refused`` families, which have reasons, in later plans."""
        found = self.families
        reasons = {**refused, **found.off}
        off = {family: reasons[family] for family in found.arch.families if family in reasons}
        self.families_off = off
        self.arch = found.arch.without(list(off))
        self.plan = Planner(self.arch)

    def with_fallback(self, work: Callable[[], T]) -> T:
        """Return ``work()``, called again each time the driver refuses a kernel family.

        ``work`` plans with ``self.plan``, allocates and launches; its inputs must stay unmodified.
        """
        before = recorded()
        for _ in self.families.arch.families:
            try:
                return work()
            except KernelRefusedError:
                # after this block the error is freed, and with it the attempt's arrays
                drop_after(before)
        return work()

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

    def pack_affine(self, scale: Array, shift: Array, dtype: str) -> PackedAffine:
        packed = self._pack_bias(scale), self._pack_bias(shift)
        return PackedAffine(*packed, scale.shape[0], dtype, self.device)

    def _pack(self, w: Array, dtype: str) -> Array:
        K, gemm_k = w.shape
        return self._padded(w, (K, _C.packed_columns(gemm_k, dtype)), dtype)

    def _pack_bias(self, bias: Array) -> Array:
        return self._padded(bias, (_C.packed_bias(bias.shape[0]),), "float32")

    def _padded(self, x: Array, shape: tuple[int, ...], dtype: str) -> Array:
        """Return x on the device, its last axis padded with zeros, and rounded for "tf32"."""
        with self.active(), np.errstate(over="ignore"):  # values beyond float16 become infinite
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
        return self._run("conv3x3", x, packed, relu=relu, pool=pool, preset=preset, out=out)

    def fused_conv1_block(
        self, x: Array, first: Any, second: Any, *, preset: Preset | None = None,
        out: Array | None = None,
    ) -> Array:  # fmt: skip
        y = self._run("fused_conv1_block", x, first, second, preset=preset, out=out)
        if y is not None:
            return y
        z = self.conv3x3(x, first, relu=True, pool=False, preset=preset)
        return self.conv3x3(z, second, relu=True, pool=True, out=out)

    def linear(self, x: Array, packed: Any, *, relu: bool, out: Array | None = None) -> Array:
        return self._run("linear", x, packed, relu=relu, out=out)

    def maxpool2x2(self, x: Array, *, out: Array | None = None) -> Array:
        return self._run("maxpool2x2", x, out=out)

    def avgpool(self, x: Array, grid: int, *, out: Array | None = None) -> Array:
        return self._run("avgpool", x, grid, out=out)

    def adaptive_maxpool(self, x: Array, grid: int, *, out: Array | None = None) -> Array:
        return self._run("adaptive_maxpool", x, grid, out=out)

    def relu(self, x: Array, *, out: Array | None = None) -> Array:
        return self._run("relu", x, out=out)

    def affine(self, x: Array, packed: Any, *, out: Array | None = None) -> Array:
        return self._run("affine", x, packed, out=out)

    def softmax(self, x: Array, *, out: Array | None = None) -> Array:
        return self._run("softmax", x, out=out)

    def convert(
        self, x: Array, dtype: str, source: str, target: str, *, out: Array | None = None
    ) -> Array:
        return self._run("convert", x, dtype, source, target, out=out)

    def _run(self, op: str, x: Array, *operands: Any, out: Array | None, **options: Any) -> Array:
        """Plan ``op`` on x and launch it; write to ``out`` or a new array.

        Returns None if no kernel computes the operation.
        """

        def work() -> Array:
            plan: Callable[..., Operation | None] = getattr(self.plan, op)
            operation = plan(spec_of(x), *operands, aligned=_is_aligned(out), **options)
            return None if operation is None else self._execute(operation, x, out)

        with self.active():
            return self.with_fallback(work)

    def _execute(self, operation: Operation, x: Array, out: Array | None) -> Array:
        y, workspace = self._allocate(operation, out)
        self.launch(operation, x, y, workspace)
        return y

    def launch(
        self, operation: Operation, x: Array, y: Array, workspace: Array, *, early: bool = False
    ) -> None:
        """Enqueue a planned operation, and record it.

        Raises :class:`KernelRefusedError` if the driver refuses a kernel that others can replace.
        """
        plan = operation.plan
        if plan is None:
            return
        executor = self.executor(early)
        try:
            operation.launch(plan, x, y, workspace, executor)
        except _C.CudaError as error:
            raise launch_error(self.device, plan, error, self.families.runs) from error
        record(plan.kernel, plan.as_dict, lambda: self.counters(executor, plan))

    def _allocate(self, operation: Operation, out: Array | None) -> tuple[Array, Array]:
        """Return the result and the workspace; ``MemoryError`` if they do not fit."""
        y, workspace_bytes = operation.y, operation.workspace_bytes
        needed = workspace_bytes if out is not None else workspace_bytes + y.nbytes
        uses = []
        if out is None:
            uses.append(f"{format_bytes(y.nbytes)} for its result {list(y.shape)} of {y.dtype}")
        if workspace_bytes:
            uses.append(f"{format_bytes(workspace_bytes)} for partial sums")
        with self.reserving(operation.name, needed, uses):
            result = self.new_array(y.shape, y.dtype) if out is None else out
            workspace = self.new_array((workspace_bytes,), "uint8") if workspace_bytes else None
        return result, workspace


def _round_to_tf32(x: Array) -> None:
    """Round float32 x in place, ties away from zero, like cvt.rna.tf32.f32 of PTX."""
    x[np.isnan(x)] = np.nan  # the quiet NaN and infinities survive the additions below
    bits = x.view(np.uint32)
    bits += 0x1000  # half of the last bit that is kept
    bits &= 0xFFFFE000


def _is_aligned(out: Array | None) -> bool:
    return out is None or address(out) % ALIGNMENT == 0  # new arrays are aligned


def spec_of(x: Array) -> Spec:
    """Return the :class:`Spec` of an existing array."""
    return Spec(x.shape, x.dtype.name, address(x) % ALIGNMENT == 0)
