"""Plans of operations: kernel, workspace and result for given shapes.

Nothing is allocated or launched here. ``kernels.py`` runs single operations,
``forward/planned.py`` whole forwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from .. import _C
from ..arrays import numpy_dtype
from ..images.presets import Preset

Array = Any
"""A ``numpy.ndarray`` on the emulator, a ``cupy.ndarray`` on a GPU."""

Launch = Callable[[_C.Plan, Array, Array, Array, _C.Executor], None]
"""``launch(plan, x, y, workspace, executor)``."""


class Spec(NamedTuple):
    """Shape and dtype of an array; ``aligned`` if its address is a multiple of 16 bytes."""

    shape: tuple[int, ...]
    dtype: str
    aligned: bool = True

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * numpy_dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Operation:
    """One planned operation with result ``y``; ``plan`` is None if the result is empty."""

    name: str
    y: Spec
    plan: _C.Plan | None
    launch: Launch

    @property
    def workspace_bytes(self) -> int:
        return 0 if self.plan is None else self.plan.workspace_bytes


class Planner:
    """Planner of a VGG's operations for ``arch``; plans are cached per shape.

    The methods correspond to ``base.Backend``, with a :class:`Spec` for x. ``aligned`` describes
    the result. ``variant`` names a kernel (``_C.conv3x3_variants``); None selects the kernel with
    the lowest estimated time.
    """

    def __init__(self, arch: _C.Arch) -> None:
        self.arch = arch
        self._plan = lru_cache(maxsize=4096)(self._make_plan)

    def conv3x3(
        self, x: Spec, packed: Any, *, relu: bool, pool: bool, preset: Preset | None = None,
        aligned: bool = True, variant: str | None = None,
    ) -> Operation:  # fmt: skip
        N, H, W, C = x.shape
        K, dtype = packed.out_channels, packed.dtype
        P, Q = (H // 2, W // 2) if pool else (H, W)
        normalize = None if preset is None else normalization(preset)

        def launch(plan: _C.Plan, x: Array, y: Array, workspace: Array, on: _C.Executor) -> None:
            _C.conv3x3(plan, x, packed.w, packed.bias, y, workspace, on, normalize=normalize)

        options = {"dtype": dtype, "x_dtype": x.dtype, "relu": relu, "pool": pool}
        if variant is not None:
            options["variant"] = variant
        y = Spec((N, P, Q, K), numpy_dtype(dtype).name, aligned)
        return self._operation("conv3x3", (N, H, W, C, K), options, launch, x, y)

    def fused_conv1_block(
        self, x: Spec, first: Any, second: Any, *, preset: Preset | None = None,
        aligned: bool = True,
    ) -> Operation | None:  # fmt: skip
        """Return None if no kernel fuses these convolutions."""
        N, H, W, _ = x.shape
        K1, K2, dtype = first.out_channels, second.out_channels, first.dtype
        options = {"dtype": dtype, "x_dtype": x.dtype, "aligned": aligned}
        if not N:
            return None
        plan = self._plan("fused_conv1_block", (N, H, W, K1, K2), tuple(options.items()))
        if plan is None:
            return None
        normalize = None if preset is None else normalization(preset)

        def launch(plan: _C.Plan, x: Array, y: Array, workspace: Array, on: _C.Executor) -> None:
            _C.fused_conv1_block(
                plan, x, first.w, first.bias, second.w, second.bias, y, on, normalize=normalize
            )

        y = Spec((N, H // 2, W // 2, K2), numpy_dtype(dtype).name, aligned)
        return Operation("fused_conv1_block", y, plan, launch)

    def linear(
        self, x: Spec, packed: Any, *, relu: bool, aligned: bool = True, variant: str | None = None
    ) -> Operation:
        N, C = x.shape
        K, dtype = packed.out_features, packed.dtype

        def launch(plan: _C.Plan, x: Array, y: Array, workspace: Array, on: _C.Executor) -> None:
            _C.linear(plan, x, packed.w, packed.bias, y, workspace, on)

        options = {"dtype": dtype, "relu": relu}
        if variant is not None:
            options["variant"] = variant
        y = Spec((N, K), numpy_dtype(dtype).name, aligned)
        return self._operation("linear", (N, C, K), options, launch, x, y)

    def maxpool2x2(self, x: Spec, *, aligned: bool = True) -> Operation:
        N, H, W, C = x.shape
        y = Spec((N, H // 2, W // 2, C), x.dtype, aligned)
        return self._simple("maxpool2x2", _C.maxpool2x2, x.shape, x, y)

    def avgpool(self, x: Spec, grid: int, *, aligned: bool = True) -> Operation:
        y = Spec((x.shape[0], grid, grid, x.shape[3]), x.dtype, aligned)
        return self._simple("avgpool", _C.avgpool, (*x.shape, grid), x, y)

    def adaptive_maxpool(self, x: Spec, grid: int, *, aligned: bool = True) -> Operation:
        y = Spec((x.shape[0], grid, grid, x.shape[3]), x.dtype, aligned)
        return self._simple("adaptive_maxpool", _C.adaptive_maxpool, (*x.shape, grid), x, y)

    def relu(self, x: Spec, *, aligned: bool = True) -> Operation:
        y = x._replace(aligned=aligned)
        return self._simple("relu", _C.relu, (math.prod(x.shape),), x, y)

    def affine(self, x: Spec, packed: Any, *, aligned: bool = True) -> Operation:
        def launch(plan: _C.Plan, x: Array, y: Array, workspace: Array, on: _C.Executor) -> None:
            _C.affine(plan, x, packed.scale, packed.shift, y, on)

        y = x._replace(aligned=aligned)
        return self._operation("affine", x.shape, {"dtype": x.dtype}, launch, x, y)

    def softmax(self, x: Spec, *, aligned: bool = True) -> Operation:
        return self._simple("softmax", _C.softmax, x.shape, x, x._replace(aligned=aligned))

    def convert(
        self, x: Spec, dtype: str, source: str, target: str, *, aligned: bool = True
    ) -> Operation:
        size = math.prod(x.shape)
        shape, sizes = x.shape, (1, 1, size)
        if source != target:
            N, A, B, C = x.shape
            shape = (N, C, A, B) if target == "NCHW" else (N, B, C, A)
            sizes = (N, A * B, C) if target == "NCHW" else (N, A, B * C)
        elif len(x.shape) > 1:
            sizes = (x.shape[0], 1, size // max(x.shape[0], 1))
        y = Spec(shape, dtype, aligned)
        return self._simple("convert", _C.convert, sizes, x, y, x_dtype=x.dtype)

    def _simple(
        self, op: str, function: Callable[[_C.Plan, Any, Any, _C.Executor], None],
        sizes: tuple[int, ...], x: Spec, y: Spec, **options: str,
    ) -> Operation:  # fmt: skip
        def launch(plan: _C.Plan, x: Array, y: Array, workspace: Array, on: _C.Executor) -> None:
            function(plan, x, y, on)

        return self._operation(op, sizes, {"dtype": y.dtype, **options}, launch, x, y)

    def _operation(
        self, op: str, sizes: tuple[int, ...], options: dict[str, Any], launch: Launch, x: Spec,
        y: Spec,
    ) -> Operation:  # fmt: skip
        plan = None
        if math.prod(y.shape):
            if op != "convert":
                options["aligned"] = x.aligned and y.aligned
            plan = self._plan(op, sizes, tuple(options.items()))
        return Operation(op, y, plan, launch)

    def _make_plan(
        self, op: str, sizes: tuple[int, ...], options: tuple[tuple[str, Any], ...]
    ) -> _C.Plan | None:
        make: Callable[..., _C.Plan | None] = getattr(_C, f"plan_{op}")
        return make(*sizes, **dict(options), arch=self.arch)


def normalization(preset: Preset) -> tuple[list[float], list[float], bool]:
    """Return scale, shift and channel order of ``preset`` for kernels.

    (pixel / divisor - center - mean) / std = pixel * scale + shift, per channel of the network. The
    last value is True if the network reads RGB pixels in the order BGR.
    """
    channels = list(zip(preset.mean, preset.std, strict=True))
    scale = [1 / (preset.divisor * std) for _, std in channels]
    shift = [-(preset.center + mean) / std for mean, std in channels]
    return scale, shift, preset.channels == "BGR"
