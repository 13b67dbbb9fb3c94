"""Correctness of results: the exact result, and the bound on the relative L2 error.

A float32 result is correct if its error against float64 is at most ``LOGITS``. For other precisions
the rule is flash-attention's: at most ``FACTOR`` times the error of the roundings alone (float64
sums of rounded operands, with every layer's result rounded), plus ``LOGITS``. The rule is the same
for all programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import reference
from .layers import Layer

FACTOR = 2
LOGITS = 2e-5
MAX_COMPARED = 1 << 26  # elements; larger results are compared for some images of the batch

Float64 = NDArray[np.float64]


def truth(
    layers: Sequence[Layer], tensors: Mapping[str, NDArray[Any]], x: NDArray[Any], dtype: str
) -> tuple[Float64, float]:
    """Return the exact result of ``layers`` for x [N,H,W,C] or [N,C], and the error bound.

    The weights and x are first rounded to ``dtype``, except in tf32, whose arrays are float32.
    """
    exact: Any = stored(x, dtype)
    same = exact
    for layer in layers:
        w = bias = None
        if layer.multiplies:
            w = stored(tensors[f"{layer.name}.weight"], dtype)
            bias = tensors[f"{layer.name}.bias"]
        shared = same is exact and dtype != "tf32"
        previous, exact = same, _apply(layer, exact, w, bias)
        low = exact
        if dtype != "float32" and not shared:
            low = _apply(layer, factors(previous, dtype), factors(w, dtype), bias)
        same = exact if dtype == "float32" else stored(low, dtype)
    bound = LOGITS
    if dtype != "float32":
        bound += FACTOR * relative_l2(same, exact)
    return exact, bound


def _apply(layer: Layer, x: Float64, w: Any, bias: Any) -> Any:
    match layer.kind:
        case "conv":
            return reference.conv3x3(x, w, bias, relu=layer.relu, pool=layer.pool)
        case "dense":
            return reference.linear(x.reshape(len(x), -1), w, bias, relu=layer.relu)
        case "pool":
            return reference.maxpool2x2(x)
        case "avg":
            return reference.avgpool(x, layer.grid)
        case "max":
            return reference.adaptive_maxpool(x, layer.grid)


def stored(x: Any, dtype: str) -> Any:
    """Return x rounded to the array dtype of ``dtype``, which is float32 for tf32."""
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return np.asarray(x, np.float16).astype(np.float64)
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
        even = bits + (0x7FFF + ((bits >> 16) & 1))  # round to nearest, ties to even
        return (even & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)
    return np.asarray(x, np.float32).astype(np.float64)


def factors(x: Any, dtype: str) -> Any:
    """Return x as matrix products round it: to eleven bits in tf32, ties away from zero."""
    if dtype != "tf32" or x is None:
        return x
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32) + np.uint32(0x1000)
    return (bits & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)


def relative_l2(got: NDArray[Any], exact: NDArray[Any]) -> float:
    """Return the relative L2 error of a batch that repeats the images of ``exact``.

    The shapes may differ by flattening. Returns NaN for another size, and a value that is not
    finite if ``got`` is not.
    """
    n, few = len(got), len(exact)
    if got.size != n * exact[0].size or n < few:
        return float("nan")
    got, exact = got.reshape(n, -1), exact.reshape(few, -1)
    limit = max(few, MAX_COMPARED // max(1, exact[0].size))
    images = np.unique(np.linspace(0, n - 1, min(n, limit)).round().astype(int))
    off = norm = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for i in images:
            y = exact[i % few].astype(np.float64)
            off += float(np.square(got[i].astype(np.float64) - y).sum())
            norm += float(np.square(y).sum())
    return float(np.sqrt(off / max(norm, 1e-300)))
