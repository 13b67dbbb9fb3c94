"""The steps that a forward launches, and each step in float64 with its error bound."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import reference
from ..backends import Stats
from ..backends.threads import run_blocks
from ..configs import Affine, Config, Conv, Dense, Pool
from .convolutions import BLOCK, Filters, conv_error, fused_conv1_block, with_bias
from .sums import TINY, U64, Order, U, any_order, in_order

Float64 = NDArray[np.float64]

DENSE_ROWS = 512  # rows of a dense layer's weights that are converted to float64 at a time
EXP_ULPS = 3  # CUDA's expf: 2 (CUDA C++ Programming Guide, mathematical functions); NumPy's: 2.52
SMALLEST_NORMAL = 2.0**-126


@dataclass(frozen=True)
class Step:
    """One operation of a plain forward, with the layers fused into it; ``tap`` names its result.

    In a fused block, ``first`` is the convolution before ``layer``, whose result stays on chip.
    """

    op: str
    tap: str
    name: str
    layer: Conv | Dense | Affine | None = None
    relu: bool = False
    pool: bool = False
    first: Conv | None = None


def steps(config: Config, fuse_conv1_block: bool = False) -> list[Step]:
    """Return the steps of a forward without intermediate taps.

    ``fuse_conv1_block``: the first two convolutions and their pool are one step.
    """
    found: list[Step] = []
    fused = False
    layers = config.features
    if fuse_conv1_block:
        first, last = config.convs[:2]
        names = [first.name, first.relu_name, last.name, last.relu_name, layers[2].name]
        found.append(Step("fused_conv1_block", names[-1], " ".join(names), last, True, True, first))
        layers = layers[3:]
    for layer, following in zip_longest(layers, layers[1:]):
        if isinstance(layer, Conv):
            fused = isinstance(following, Pool)
            names = [layer.name, *[layer.relu_name] * layer.relu]
            names += [following.name] if isinstance(following, Pool) else []
            found.append(Step("conv3x3", names[-1], " ".join(names), layer, layer.relu, fused))
        elif isinstance(layer, Affine):
            found.append(Step("affine", layer.name, layer.name, layer))
        elif not fused:
            found.append(Step("maxpool2x2", layer.name, layer.name))
        else:
            fused = False
    if config.reduces != "none":
        op = "avgpool" if config.reduces == "avg" else "adaptive_maxpool"
        found.append(Step(op, f"{config.reduces}pool", f"{config.reduces}pool"))
    for dense in config.dense:
        names = [dense.name, *[dense.relu_name] * dense.relu]
        found.append(Step("linear", names[-1], " ".join(names), dense, dense.relu))
    return found + [Step("softmax", "prob", "prob")] * (config.num_classes is not None)


class SplitError(RuntimeError):
    """A forward launched other operations than its steps, because its batch was split."""


def launched_by(found: Sequence[Step], launched: Sequence[Stats]) -> list[list[Stats]]:
    """Return the recorded operations by step; an operation that begins no step joins the previous.

    Raises :class:`SplitError` if a forward launched other operations than ``found``.
    """
    groups: list[list[Stats]] = []
    for stats in launched:
        op = _operation(stats)
        if len(groups) < len(found) and op == found[len(groups)].op:
            groups.append([stats])
        elif groups and op in ("relu", "maxpool2x2", "convert"):
            groups[-1].append(stats)
        elif op != "convert":
            raise SplitError(f"forward: expected {len(found)} steps, got {stats['kernel']} as well")
    if len(groups) != len(found):
        raise SplitError(f"forward: expected {len(found)} steps, got {len(groups)}")
    return groups


def _operation(stats: Stats) -> str:
    kernel = stats["kernel"].removeprefix("cpu_")
    convolution = kernel in ("winograd", "im2col")
    return str(stats["plan"].get("op", "conv3x3" if convolution else kernel))


def kernels(group: Sequence[Stats]) -> list[str]:
    """Return the names of the launched kernels."""
    return [
        launch["kernel"]
        for stats in group
        for launch in stats["plan"].get("launches", [{"kernel": stats["kernel"]}])
    ]


@dataclass(frozen=True)
class Exact:
    """A part of a step's exact result before its ReLU and last rounding, with its bounds.

    ``images`` and ``channels`` locate the part; ``low`` <= ``y`` <= ``high``, in float64.
    ``finite``: all values that stay on chip are finite.
    """

    images: slice
    channels: slice
    y: Float64
    low: Float64
    high: Float64
    finite: bool = True


def exactly(
    step: Step, x: NDArray[Any], filters: Filters | None, grid: int, stats: Stats | None,
    tensor_cores: bool, first: Filters | None = None,
) -> Iterator[Exact]:  # fmt: skip
    """Yield the exact result of ``step``, part by part; without ``stats``, bounds equal results.

    x [N,H,W,C] or [N,C], ``filters`` (w [K,3,3,C] or [K,C]) and ``first``, the filters of
    ``step.first``, are operands as the device holds them.
    """
    everything = slice(None)
    if step.op == "linear":
        assert filters is not None
        w, bias = filters
        x64 = x.reshape(len(x), -1).astype(np.float64)
        for start in range(0, len(w), DENSE_ROWS):
            part = slice(start, min(start + DENSE_ROWS, len(w)))
            w64 = w[part].astype(np.float64)
            y = reference.linear(x64, w64, bias[part])
            error = _matrix_error(x64, w64, y, stats, tensor_cores) if stats else 0.0
            yield _exact(everything, part, y, error)
        return
    for n in range(len(x)):
        image = slice(n, n + 1)
        x64 = x[image].astype(np.float64)
        if step.op == "conv3x3":
            assert filters is not None
            w64, bias = filters.w.astype(np.float64), filters.bias
            y = reference.conv3x3(x64, w64, bias)
            error = conv_error(x64, w64, bias, y, stats, tensor_cores) if stats else 0.0
            yield _pooled(_exact(image, everything, y, error), step.pool)
        elif step.op == "fused_conv1_block":
            assert filters is not None
            assert first is not None
            y, error, finite = fused_conv1_block(x64, first, filters, stats, tensor_cores)
            yield replace(_pooled(_exact(image, everything, y, error), step.pool), finite=finite)
        elif step.op == "affine":
            assert filters is not None
            yield _affine(image, x64, filters, stats)
        elif step.op == "maxpool2x2":
            yield _exact(image, everything, reference.maxpool2x2(x64), 0.0)
        elif step.op == "adaptive_maxpool":
            yield _exact(image, everything, reference.adaptive_maxpool(x64, grid), 0.0)
        elif step.op == "avgpool":
            y = reference.avgpool(x64, grid)
            max_pixels = math.prod(-(-side // grid) + 1 for side in x64.shape[1:3])  # of a bin
            magnitude = reference.avgpool(np.abs(x64), grid)
            yield _exact(image, everything, y, any_order(magnitude, max_pixels + 1))
        else:
            yield _softmax(image, x64)


def _exact(images: slice, channels: slice, y: Float64, error: Float64 | float) -> Exact:
    if isinstance(error, float):  # bounds are not requested, or the result is exact
        return Exact(images, channels, y, y, y)
    return Exact(images, channels, y, y - error, y + error)


def _pooled(exact: Exact, pool: bool) -> Exact:
    """Apply the pool: a maximum is monotonic, so its bounds are the maxima of the bounds."""
    if not pool:
        return exact
    y = reference.maxpool2x2(exact.y)
    if exact.low is exact.y:
        return Exact(exact.images, exact.channels, y, y, y)
    low, high = reference.maxpool2x2(exact.low), reference.maxpool2x2(exact.high)
    return Exact(exact.images, exact.channels, y, low, high)


def _matrix_error(x: Float64, w: Float64, y: Float64, stats: Stats, tensor_cores: bool) -> Float64:
    """Return the error bound [N,K] of y = x [N,C] w [K,C]^T + bias."""
    if not stats["plan"]:
        return any_order(np.abs(x) @ np.abs(w).T, x.shape[1])
    order = Order.of_tiling(stats["plan"]["tiling"], tensor_cores)
    error = np.empty(y.shape)
    columns = max(1, BLOCK // len(x))

    def job(first: int) -> None:
        part = slice(first, first + columns)
        error[:, part] = in_order(x, w[part].T, order)

    run_blocks(job, list(range(0, len(w), columns)))
    return with_bias(error, y)


def _affine(images: slice, x: Float64, filters: Filters, stats: Stats | None) -> Exact:
    """Return x [1,H,W,C] * scale + shift, with the bound of one fma or of a product and a sum."""
    product = x * filters.w.astype(np.float64)  # exact: 24 + 24 bits
    y = product + filters.bias
    if stats is None:
        return _exact(images, slice(None), y, 0.0)
    error = np.abs(y) * (U + 2 * U64) + TINY
    if not stats["plan"]:  # the CPU rounds the product, too
        error += np.abs(product) * U * (1 + U) + TINY
    return _exact(images, slice(None), y, error)


def _softmax(images: slice, x: Float64) -> Exact:
    """Return the softmax of x [1,C], with bounds for its argument, exp and a sum in any order.

    Numbers below the smallest normal number may be flushed to zero.
    """
    y = reference.softmax(x)
    argument = np.abs(x - x.max(axis=1, keepdims=True))
    of_exp = argument * U + 2 * EXP_ULPS * U
    of_sum = (y * of_exp).sum(axis=1, keepdims=True) + x.shape[1] * U
    relative = of_exp + of_sum + U
    error = y * relative / (1 - relative) + 2 * SMALLEST_NORMAL + TINY
    return _exact(images, slice(None), y, error)
