"""Operations of a forward on images before its first convolution: arithmetic, order of channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ...weights.chain.inputs import arithmetic, reversal
from ...weights.chain.layers import Affine
from .operations import batch_norm_of
from .recording import OPERATIONS, Recorded, Recorder, shape_of
from .records import Unrecorded

PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)


def affine_of_values(name: str, kind: str, swapped: bool, values: tuple[float, ...]) -> Affine:
    """Return the record of arithmetic on images and numbers that the step holds."""
    return arithmetic(name, kind, np.array(values), swapped)


def affine_of_tensor(name: str, array: Any, kind: str, swapped: bool) -> Affine:
    """Return the record of arithmetic on images and a tensor."""
    return arithmetic(name, kind, array.reshape(-1), swapped)


def reversed_channels_of(name: str) -> Affine:
    """Return the record of a reversal of the channels."""
    return reversal(name)


AT_INPUT = (affine_of_values, affine_of_tensor, reversed_channels_of, batch_norm_of)


def _arithmetic(kind: str, swapped: bool = False) -> Callable[..., Any]:
    """Return the function that records ``kind``: add, sub, mul or div."""

    def record(
        rec: Recorder, x: Any, other: Any, *, alpha: Any = 1, rounding_mode: Any = None
    ) -> Any:
        turned = type(x) is not Recorded
        image, value = (other, x) if turned else (x, other)
        _check(rec, image, kind)
        if alpha != 1 or rounding_mode is not None or type(value) is Recorded:
            raise Unrecorded(f"cannot run torch.Tensor.{kind}")
        return _record(rec, image, kind, swapped != turned, value)

    return record


def _in_place(kind: str) -> Callable[..., Any]:
    """Return the function that records ``kind`` in place, of any tensor but the input."""

    def record(rec: Recorder, x: Any, other: Any, *, rounding_mode: Any = None) -> Any:
        if type(x) is not Recorded or x.is_input:
            raise Unrecorded("expected an unchanged input; clone it first")
        return rec.overwrite(x, _arithmetic(kind)(rec, x, other, rounding_mode=rounding_mode))

    return record


def negative(rec: Recorder, x: Any) -> Any:
    """Record -x."""
    _check(rec, x, "neg")
    return _record(rec, x, "mul", False, -1)


def clone(rec: Recorder, x: Any, *, memory_format: Any = None) -> Any:
    """Return a copy of x, which in-place operations may write."""
    return rec.alias(x, copied=True)


def flip(rec: Recorder, x: Any, *dims: Any) -> Any:
    """Record a reversal of the channels."""
    given = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    _check(rec, x, "flip")
    if tuple(given) not in ((1,), (-3,)):
        raise Unrecorded("expected a reversal of the channels")
    return rec.step(x, reversed_channels_of, shape_of(x))


def index(rec: Recorder, x: Any, where: Any) -> Any:
    """Record ``x[:, [2, 1, 0]]``, a reversal of the channels."""
    _check(rec, x, "__getitem__")
    whole = slice(None)
    if not isinstance(where, tuple) or len(where) < 2 or where[0] != whole:
        raise Unrecorded("cannot run torch.Tensor.__getitem__")
    if any(type(each) is not slice or each != whole for each in where[2:]):
        raise Unrecorded("cannot run torch.Tensor.__getitem__")
    return index_select(rec, x, 1, where[1])


def index_select(rec: Recorder, x: Any, dim: int, indices: Any) -> Any:
    """Record a reversal of the channels by their indices."""
    _check(rec, x, "index_select")
    if isinstance(indices, torch.Tensor):
        indices = indices.tolist() if indices.device.type == "cpu" else None
    C = shape_of(x)[1]
    if dim != 1 or not isinstance(indices, list) or indices != list(range(C))[::-1]:
        raise Unrecorded("expected the channels in reverse")
    return rec.step(x, reversed_channels_of, shape_of(x))


def _record(rec: Recorder, x: Any, kind: str, swapped: bool, value: Any) -> Any:
    """Record arithmetic; values in host memory are part of the step, since they may be new."""
    shape = shape_of(x)
    if isinstance(value, (int, float)):
        return rec.step(x, affine_of_values, shape, options=(kind, swapped, (float(value),)))
    if type(value) not in PLAIN:
        raise Unrecorded(f"expected numbers or a plain tensor, got {type(value).__name__}")
    sizes = (1,) * (4 - value.ndim) + tuple(value.shape)
    if len(sizes) != 4 or (sizes[0], *sizes[2:]) != (1, 1, 1) or sizes[1] not in (1, shape[1]):
        raise Unrecorded(f"expected a number per channel, got {list(value.shape)}")
    if value.ndim and (value.dtype, value.device) != (x.dtype, x.device):
        raise Unrecorded(f"expected a tensor in {x.dtype} on {x.device} beside the images")
    if value.device.type != "cpu":
        return rec.step(x, affine_of_tensor, shape, value, options=(kind, swapped))
    numbers = tuple(value.detach().double().reshape(-1).tolist())
    return rec.step(x, affine_of_values, shape, options=(kind, swapped, numbers))


def _check(rec: Recorder, x: Any, what: str) -> None:
    """Raise unless x is the image before all convolutions."""
    before = all(step.make in AT_INPUT for step in rec.steps)
    if not before or len(shape_of(x)) != 4 or x.vector:
        raise Unrecorded(f"cannot run torch.Tensor.{what}")


OPERATIONS |= {
    torch.add: _arithmetic("add"), torch.Tensor.add: _arithmetic("add"),
    torch.sub: _arithmetic("sub"), torch.Tensor.sub: _arithmetic("sub"),
    torch.mul: _arithmetic("mul"), torch.Tensor.mul: _arithmetic("mul"),
    torch.div: _arithmetic("div"), torch.Tensor.div: _arithmetic("div"),
    torch.true_divide: _arithmetic("div"), torch.Tensor.true_divide: _arithmetic("div"),
    torch.rsub: _arithmetic("sub", True), torch.Tensor.__rsub__: _arithmetic("sub", True),
    torch.Tensor.add_: _in_place("add"), torch.Tensor.sub_: _in_place("sub"),
    torch.Tensor.mul_: _in_place("mul"), torch.Tensor.div_: _in_place("div"),
    torch.neg: negative, torch.Tensor.neg: negative,
    torch.clone: clone, torch.Tensor.clone: clone,
    torch.flip: flip, torch.Tensor.flip: flip, torch.Tensor.__getitem__: index,
    torch.index_select: index_select, torch.Tensor.index_select: index_select,
}  # fmt: skip
