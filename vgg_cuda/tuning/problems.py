"""Operations whose kernels can be chosen: their variants, and the launches of each variant.

A convolution and a dense layer are launched by one of several kernels. The first two convolutions
and their pool are one kernel ("fused") or two convolutions ("apart").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import _C
from ..backends.operations import Operation, Planner, Spec
from ..images.presets import Preset

FUSED, APART = "fused", "apart"
Chain = Sequence[Operation]
"""Operations in order, each on the result of the previous one."""


class Problem:
    """One operation on x with packed ``layers``, as :class:`Planner` plans it."""

    op: str
    x: Spec
    layers: tuple[Any, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Positional arguments of ``_C.plan_<op>``."""
        raise NotImplementedError

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of ``_C.plan_<op>`` besides ``arch`` and ``variant``."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        """The operation as a line of text, the same for equal plans."""
        options = " ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.op} {'x'.join(map(str, self.sizes))} {options}"

    def variants(self, arch: _C.Arch) -> list[str]:
        """Return the names of all variants; empty if there is no choice."""
        raise NotImplementedError

    def chain(self, planner: Planner, variant: str | None, layers: tuple[Any, ...]) -> Chain:
        """Plan the launches of ``variant`` with other ``layers`` of the same shapes.

        None leaves the choice to ``planner``; a block is then two convolutions.
        """
        raise NotImplementedError

    def reduced(self, macs: int) -> Problem:
        """Return the operation with smaller sizes that have the same variants.

        ``macs`` is the number of multiply-adds to approach.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class ConvProblem(Problem):
    """A convolution of x [N,H,W,C] with its ReLU and pool."""

    x: Spec
    layers: tuple[Any, ...]
    relu: bool
    pool: bool
    aligned: bool = True
    op = "conv3x3"

    @property
    def sizes(self) -> tuple[int, ...]:
        return (*self.x.shape, self.layers[0].out_channels)

    @property
    def options(self) -> dict[str, Any]:
        return {
            "dtype": self.layers[0].dtype,
            "x_dtype": self.x.dtype,
            "relu": self.relu,
            "pool": self.pool,
            "aligned": self.x.aligned and self.aligned,
        }

    def variants(self, arch: _C.Arch) -> list[str]:
        return _C.conv3x3_variants(*self.sizes, **self.options, arch=arch)

    def chain(self, planner: Planner, variant: str | None, layers: tuple[Any, ...]) -> Chain:
        operation = planner.conv3x3(
            self.x, *layers, relu=self.relu, pool=self.pool, aligned=self.aligned, variant=variant
        )
        return [operation]

    def reduced(self, macs: int) -> Problem:
        N, H, W, C, K = self.sizes
        N = min(N, 8)  # kernels with swapped operands take eight images at once
        channels = K if K % 256 else 256
        side = max(8, int((macs / (9 * C * channels * N)) ** 0.5) // 8 * 8)
        return self._resized((N, min(H, side), min(W, side), C), channels)

    def _resized(self, shape: tuple[int, ...], channels: int) -> Problem:
        layer = replace(self.layers[0], w=None, bias=None, out_channels=channels)
        return replace(self, x=self.x._replace(shape=shape), layers=(layer,))


@dataclass(frozen=True)
class LinearProblem(Problem):
    """A dense layer on x [N,C]."""

    x: Spec
    layers: tuple[Any, ...]
    relu: bool
    aligned: bool = True
    op = "linear"

    @property
    def sizes(self) -> tuple[int, ...]:
        return (*self.x.shape, self.layers[0].out_features)

    @property
    def options(self) -> dict[str, Any]:
        dtype = self.layers[0].dtype
        return {"dtype": dtype, "relu": self.relu, "aligned": self.x.aligned and self.aligned}

    def variants(self, arch: _C.Arch) -> list[str]:
        return _C.linear_variants(*self.sizes, **self.options, arch=arch)

    def chain(self, planner: Planner, variant: str | None, layers: tuple[Any, ...]) -> Chain:
        operation = planner.linear(
            self.x, *layers, relu=self.relu, aligned=self.aligned, variant=variant
        )
        return [operation]

    def reduced(self, macs: int) -> Problem:
        N, C, K = self.sizes
        features = max(256, macs // (N * C) // 256 * 256)
        layer = replace(self.layers[0], w=None, bias=None, out_features=min(K, features))
        return replace(self, layers=(layer,))


@dataclass(frozen=True)
class BlockProblem(Problem):
    """The first two convolutions of x [N,H,W,3], with their ReLUs and pool.

    ``second`` is the variant of the second convolution if they are launched apart.
    """

    x: Spec
    layers: tuple[Any, ...]
    preset: Preset | None
    aligned: bool = True
    second: str | None = None
    op = "fused_conv1_block"

    @property
    def sizes(self) -> tuple[int, ...]:
        first, second = self.layers
        return (*self.x.shape[:3], first.out_channels, second.out_channels)

    @property
    def options(self) -> dict[str, Any]:
        dtype = self.layers[0].dtype
        return {"dtype": dtype, "x_dtype": self.x.dtype, "aligned": self.aligned}

    def variants(self, arch: _C.Arch) -> list[str]:
        plan = _C.plan_fused_conv1_block(*self.sizes, **self.options, arch=arch)
        return [] if plan is None else [FUSED, APART]

    def chain(self, planner: Planner, variant: str | None, layers: tuple[Any, ...]) -> Chain:
        preset, aligned = self.preset, self.aligned
        if variant == FUSED:
            fused = planner.fused_conv1_block(self.x, *layers, preset=preset, aligned=aligned)
            assert fused is not None
            return [fused]
        first = planner.conv3x3(self.x, layers[0], relu=True, pool=False, preset=preset)
        second = replace(self.apart(first.y), layers=layers[1:])
        return [first, *second.chain(planner, self.second if variant else None, second.layers)]

    def apart(self, z: Spec) -> ConvProblem:
        """Return the second convolution, of z [N,H,W,K1]."""
        return ConvProblem(z, self.layers[1:], relu=True, pool=True, aligned=self.aligned)

    def reduced(self, macs: int) -> Problem:
        N, H, W, C = self.x.shape
        shape = (min(N, 2), min(H, 64), min(W, 64), C)
        return replace(self, x=self.x._replace(shape=shape))
