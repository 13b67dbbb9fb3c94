"""The operations as launches of compiled kernels, for GPUs and the emulator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .. import _C
from ..arrays import address, is_cupy
from ..images.presets import Preset
from ..text import format_bytes
from .device import KernelDevice
from .operations import Array, Operation, Planner, Spec
from .stats import record

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


class KernelBackend(KernelDevice):
    """The operations of a VGG, planned for ``arch``; ``base.Backend`` documents the methods."""

    def __init__(self, arch: _C.Arch) -> None:
        self.arch = arch
        self.plan = Planner(arch)

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
        plan = partial(self.plan.conv3x3, packed=packed, relu=relu, pool=pool, preset=preset)
        return self._run(plan, x, out)

    def fused_conv1_block(
        self, x: Array, first: Any, second: Any, *, preset: Preset | None = None,
        out: Array | None = None,
    ) -> Array:  # fmt: skip
        with self.active():
            operation = self.plan.fused_conv1_block(
                spec_of(x), first, second, preset=preset, aligned=_is_aligned(out)
            )
            if operation is not None:
                return self._execute(operation, x, out)
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
        """Plan the operation on x and launch it; write to ``out`` or a new array."""
        with self.active():
            return self._execute(plan(spec_of(x), aligned=_is_aligned(out)), x, out)

    def _execute(self, operation: Operation, x: Array, out: Array | None) -> Array:
        y, workspace = self._allocate(operation, out)
        self.launch(operation, x, y, workspace)
        return y

    def launch(
        self, operation: Operation, x: Array, y: Array, workspace: Array, *, early: bool = False
    ) -> None:
        """Enqueue a planned operation, and record it."""
        plan = operation.plan
        if plan is None:
            return
        executor = self.executor(early)
        operation.launch(plan, x, y, workspace, executor)
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
