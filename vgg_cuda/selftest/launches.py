"""Launches of the self-test's cases on one device."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, cast

from numpy.typing import NDArray

from .. import _C
from ..arrays import numpy_dtype
from ..backends import get_backend
from ..backends.kernels import KernelBackend, PackedAffine, PackedConv3x3, PackedLinear
from ..backends.operations import Array, Operation, Planner, Spec
from ..images.presets import PRESETS, Preset
from ..verification.convolutions import Filters
from .cases import Case
from .operands import Operands

FEW_SMS = 2  # of the emulated GPU for larger cases


class Result(NamedTuple):
    """The result of a case in host memory, and the plan of its launches."""

    y: NDArray[Any]
    plan: _C.Plan


class Target:
    """A device and the architecture that it is planned for.

    ``arch`` is that architecture, ``portable`` the same without kernel families. ``full`` is used
    for exact cases: it has few SMs on the emulator, so that small cases give each SM several tiles.
    """

    def __init__(self, device: str, arch: str) -> None:
        backend: Any = get_backend(device, arch)
        self.backend = cast(KernelBackend, backend)
        self.arch = self.full = self.backend.arch
        if self.backend.name == "emulator":
            self.full = _with_few_sms(self.arch)
        self._scratch: Array = None
        self._off = set(self.backend.families_off)
        self._operands: Operands | None = None
        self._on_device: tuple[Array, list[Any]] = (None, [])

    @property
    def dtypes(self) -> list[str]:
        """The dtypes of tensor cores that arrays of the device can have."""
        return [dtype for dtype in ("float16", "bfloat16") if dtype in self.backend.dtypes]

    def refused(self) -> dict[str, str]:
        """Return the families that forwards replaced because the driver refused them."""
        off = self.backend.families_off
        return {family: reason for family, reason in off.items() if family not in self._off}

    def run(self, case: Case, operands: Operands, arch: _C.Arch, repeats: int = 1) -> list[Result]:
        """Launch the case ``repeats`` times, each into another array."""
        on = self.backend
        with on.active():
            x, layers = self._placed(operands, case.dtype)
            chain = _planned(Planner(arch), case, layers)
            results = [self._launched(chain, x) for _ in range(repeats)]
            plan = chain[-1].plan
            assert plan is not None
            return [Result(on.to_numpy(y), plan) for y in results]

    def _placed(self, operands: Operands, dtype: str) -> tuple[Array, list[Any]]:
        """Return x and the packed layers on the device; the last operands are kept there."""
        on = self.backend
        if self._operands is not operands:
            x = on.asarray(operands.x, operands.x.dtype)
            self._on_device = x, [_packed(on, filters, dtype) for filters in operands.layers]
            self._operands = operands
        return self._on_device

    def _launched(self, chain: list[Operation], x: Array) -> Array:
        """Enqueue the operations, each on the result of the previous one."""
        on = self.backend
        for operation in chain:
            y, workspace = on.new_array(operation.y.shape, operation.y.dtype), None
            if operation.workspace_bytes:
                workspace = on.new_array((operation.workspace_bytes,), "uint8")
            assert operation.plan is not None
            operation.launch(operation.plan, x, y, workspace, on.executor())
            x = y
        return x

    def encode(self, case: Case, arch: _C.Arch) -> None:
        """Encode the tensor maps of the case and look its kernels up, but launch nothing.

        All arrays are views of the same memory.
        """
        with self.backend.active():
            layers = [self._unwritten(case, columns) for columns in _columns(case)]
            for operation in _planned(Planner(arch), case, layers):
                workspace = None
                if operation.workspace_bytes:
                    workspace = self._view(Spec((operation.workspace_bytes,), "uint8"))
                x, y = self._view(Spec(case.shape, case.source)), self._view(operation.y)
                assert operation.plan is not None
                operation.launch(operation.plan, x, y, workspace, self._dry())

    def _unwritten(self, case: Case, columns: int) -> Any:
        """Return packed weights [K,columns] of any values."""
        dtype = numpy_dtype(case.dtype).name
        if case.op == "affine":
            part = self._view(Spec((_C.packed_bias(case.shape[-1]),), "float32"))
            return PackedAffine(part, part, case.shape[-1], dtype, self.backend.device)
        w = self._view(Spec((case.k, _C.packed_columns(columns, case.dtype)), dtype))
        bias = self._view(Spec((_C.packed_bias(case.k),), "float32"))
        kind = PackedLinear if case.op == "linear" else PackedConv3x3
        inputs = columns if case.op == "linear" else columns // 9
        return kind(w, bias, inputs, case.k, case.dtype, self.backend.device)

    def _view(self, spec: Spec) -> Array:
        if self._scratch is None or self._scratch.nbytes < spec.nbytes:
            self._scratch = self.backend.new_array((spec.nbytes,), "uint8")
        return self.backend.view(self._scratch, 0, spec)

    def _dry(self) -> _C.Executor:
        if self.backend.name == "emulator":
            return _C.Emulator(dry=True)
        import cupy

        return _C.Cuda(cupy.cuda.get_current_stream().ptr, dry=True)


def _with_few_sms(arch: _C.Arch) -> _C.Arch:
    """Return ``arch`` with few SMs, or itself if it is the architecture of no device."""
    number = int(re.sub(r"\D", "", arch.name))
    few = _C.device_arch(number // 10, number % 10, FEW_SMS)
    off = [family for family in few.families if family not in arch.families]
    return few.without(off) if few.name == arch.name else arch


def _packed(on: KernelBackend, filters: Filters, dtype: str) -> Any:
    if filters.w.ndim == 1:
        return on.pack_affine(filters.w, filters.bias, dtype)
    pack = on.pack_conv3x3 if filters.w.ndim == 4 else on.pack_linear
    return pack(filters.w, filters.bias, dtype)


def _columns(case: Case) -> list[int]:
    """Return GEMM_K of each layer."""
    c = case.shape[-1]
    if case.op == "linear":
        return [c]
    return [9 * c, 9 * case.k] if case.op == "fused_conv1_block" else [9 * c]


def _planned(planner: Planner, case: Case, layers: list[Any]) -> list[Operation]:
    """Plan the case; without a fused kernel, the block is two convolutions."""
    x = Spec(case.shape, case.source)
    preset = None if case.preset is None else PRESETS[case.preset]
    if case.op == "fused_conv1_block":
        fused = planner.fused_conv1_block(x, *layers, preset=preset)
        if fused is not None:
            return [fused]
        first = planner.conv3x3(x, layers[0], relu=True, pool=False, preset=preset)
        return [first, planner.conv3x3(first.y, layers[1], relu=True, pool=True)]
    return [_operation(planner, case, x, layers, preset)]


def _operation(
    planner: Planner, case: Case, x: Spec, layers: list[Any], preset: Preset | None
) -> Operation:
    if case.op == "conv3x3":
        return planner.conv3x3(
            x, *layers, relu=case.relu, pool=case.pool, preset=preset, variant=case.variant
        )
    if case.op == "linear":
        return planner.linear(x, *layers, relu=case.relu, variant=case.variant)
    if case.op == "affine":
        return planner.affine(x, *layers)
    if case.op == "convert":
        source = case.argument or "NHWC"
        target = {"NHWC": "NCHW", "NCHW": "NHWC"}.get(case.argument, "NHWC")
        return planner.convert(x, case.dtype, source, target)
    arguments = () if case.argument is None else (case.argument,)
    found: Operation = getattr(planner, case.op)(x, *arguments)
    return found
