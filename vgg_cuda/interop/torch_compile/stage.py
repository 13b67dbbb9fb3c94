"""Stages of a PyTorch graph: convolutions, pools and dense layers run by this package's kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ... import ops
from ...arrays import dtype_name
from ...backends import Backend, DeviceError
from ..torch_cache import Norm, packed_conv3x3, packed_linear
from ..torch_conditions import PLAIN_TENSORS, why_watched
from ..torch_layout import from_nhwc, is_channels_last, to_nhwc
from ..torch_ops import backend_of

Tensor = torch.Tensor


@dataclass(frozen=True)
class Step:
    """One kernel: "conv3x3", "maxpool2x2" or "linear".

    ``params`` are w and bias, ``norm`` a batch norm's running mean and variance, weight and bias:
    nodes of the graph or, in a stage, positions among its arguments; None for absent ones.
    """

    kind: str
    params: tuple[Any, ...] = ()
    norm: tuple[Any, ...] = ()
    eps: float = 0.0
    relu: bool = False
    pool: bool = False


@dataclass(frozen=True)
class Stage:
    """Consecutive steps on images [N,C,H,W], or one dense layer.

    ``original`` is the part of the graph that they replace. If the kernels cannot run a call, the
    stage reports the reason to ``fell_back`` and calls ``original`` with the same arguments.
    ``arch`` is the architecture that GPU kernels are planned for, by default that of the GPU.
    """

    steps: tuple[Step, ...]
    original: Callable[..., Any]
    fell_back: Callable[[str], None]
    arch: str | None = None

    def __call__(self, x: Any, *params: Any) -> Any:
        """Return the result of ``original``, by this package's kernels if possible."""
        arguments = (x, *params)
        reason = why_not(x, params, self.arch) or self._misshapen(arguments)
        spatial = self.steps[0].kind != "linear"
        channels_last: bool | None = False
        if reason is None and spatial:
            channels_last = self._keeps_channels_last(x, arguments)
            reason = "an ambiguous memory format" if channels_last is None else None
        if reason is not None:
            self.fell_back(reason)
            return self.original(*arguments)
        backend = backend_of(x.device, self.arch)
        with backend.session():
            if not spatial:
                return self._linear(backend, x, arguments)
            y = self._spatial(backend, to_nhwc(x.detach()), arguments)
            return from_nhwc(y, bool(channels_last))

    def _linear(self, backend: Backend, x: Tensor, arguments: Sequence[Any]) -> Tensor:
        (step,) = self.steps
        w, bias = _pick(arguments, step.params)
        rows = x.detach().reshape(-1, x.shape[-1])
        packed = packed_linear(backend, w, bias)
        y: Tensor = ops.linear(rows.contiguous(), packed, relu=step.relu, device=backend)
        return y.view(*x.shape[:-1], w.shape[0])

    def _spatial(self, backend: Backend, y: Any, arguments: Sequence[Any]) -> Tensor:
        """Return [N,P,Q,K] for y [N,H,W,C]."""
        waiting: tuple[Step, Any] | None = None  # the first convolution of a fused block
        for step, after in zip(self.steps, (*self.steps[1:], None), strict=True):
            if step.kind == "maxpool2x2":
                y = ops.maxpool2x2(y, device=backend)
                continue
            w, bias = _pick(arguments, step.params)
            packed = packed_conv3x3(backend, w, bias, _norm(arguments, step))
            if waiting is not None:
                y = ops.fused_conv1_block(y, waiting[1], None, packed, None, device=backend)
                waiting = None
            elif _is_fused_conv1_block(y, step, after):
                waiting = step, packed
            else:
                y = ops.conv3x3(y, packed, relu=step.relu, pool=step.pool, device=backend)
        result: Tensor = y
        return result

    def _keeps_channels_last(self, x: Tensor, arguments: Sequence[Any]) -> bool | None:
        """Return whether ``original``'s result is channels_last: if x or any filters are.

        Returns None if that is unknown: a tensor of one channel or one pixel is contiguous, too,
        and operators differ in how they treat it.
        """
        found = is_channels_last(x)
        C, H, W = x.shape[1:]
        for step, is_last in zip(self.steps, [False] * (len(self.steps) - 1) + [True], strict=True):
            pooled = step.pool or step.kind == "maxpool2x2"
            if step.kind == "conv3x3":
                w, _ = _pick(arguments, step.params)
                C, found = w.shape[0], found or is_channels_last(w)
                goes_on = bool(step.norm) or step.relu or pooled or not is_last
                if found and goes_on and (C == 1 or H == W == 1):
                    return None
            if pooled:
                H, W = H // 2, W // 2
            if found and not is_last and (C == 1 or H == W == 1):
                return None
        return found

    def _misshapen(self, arguments: Sequence[Any]) -> str | None:
        """Return why PyTorch must run these shapes: it may refuse them, or broadcast."""
        shape = tuple(arguments[0].shape)
        rank = 1 if self.steps[0].kind == "linear" else 4
        if len(shape) < rank or (rank == 4 and len(shape) != 4):
            return f"input of rank {len(shape)}"
        for step in self.steps:
            w, bias = _pick(arguments, step.params) if step.params else (None, None)
            if w is not None:
                C = shape[-1] if rank == 1 else shape[1]
                window = () if rank == 1 else (3, 3)
                K = w.shape[0] if w.ndim else 0
                vectors = [bias, *_pick(arguments, step.norm)]
                fits = all(v is None or tuple(v.shape) == (K,) for v in vectors)
                if K < 1 or tuple(w.shape) != (K, C, *window) or not fits:
                    return "weights of other shapes"
                shape = (*shape[:-1], K) if rank == 1 else (shape[0], K, *shape[2:])
            if step.pool or step.kind == "maxpool2x2":
                shape = (*shape[:2], shape[2] // 2, shape[3] // 2)
            if 0 in shape:
                return "an empty result"
        return None


def why_not(x: Any, params: Iterable[Any], arch: str | None = None) -> str | None:
    """Return why PyTorch must compute with x and ``params``; None if kernels may.

    Reasons are gradients, autocast, transforms, modes that follow operators, subclasses of tensors,
    and devices and dtypes without a backend. The only shape checked is an empty x.
    """
    tensors = [x, *(each for each in params if each is not None)]
    if not all(type(each) in PLAIN_TENSORS for each in tensors):
        return "not plain tensors"
    if torch.is_grad_enabled() and any(each.requires_grad for each in tensors):
        return "a gradient is needed"
    if watched := why_watched(x.device.type):
        return watched
    if any(each.layout != torch.strided for each in tensors):
        return "not dense tensors"
    if any(each.dtype != x.dtype or each.device != x.device for each in tensors):
        return "several dtypes or devices"
    if x.device.type not in ("cpu", "cuda"):
        return f"device {x.device.type}"
    try:
        backend = backend_of(x.device, arch)
    except DeviceError:
        return f"device {x.device.type} cannot be used by vgg_cuda"
    if dtype_name(x.dtype) not in backend.dtypes:
        return f"{x.dtype} on {x.device.type}"
    return "an empty batch" if x.numel() == 0 else None


def _pick(arguments: Sequence[Any], places: Sequence[int | None]) -> list[Any]:
    return [None if place is None else arguments[place] for place in places]


def _norm(arguments: Sequence[Any], step: Step) -> Norm | None:
    if not step.norm:
        return None
    mean, variance, weight, bias = _pick(arguments, step.norm)
    return Norm(mean, variance, weight, bias, step.eps)


def _is_fused_conv1_block(x: Tensor, first: Step, second: Step | None) -> bool:
    """Return whether ``ops.fused_conv1_block`` computes both steps."""
    if second is None or second.kind != "conv3x3" or x.shape[3] != 3:
        return False
    return first.relu and not first.pool and second.relu and second.pool
