"""Is a result right? What is compared with, and the bound on the relative L2 error.

float32 is right where the error against float64 is at most ``LOGITS``. In another precision the
rule is flash-attention's: at most ``FACTOR`` times the error that its roundings alone make (float64
sums of operands in that precision, every layer's result rounded to it), plus ``LOGITS``. No
tolerance is chosen for a program, and the same rule holds for all.
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
MAX_COMPARED = 1 << 26  # elements; of more, images spread over the batch

Float64 = NDArray[np.float64]


def truth(
    layers: Sequence[Layer], tensors: Mapping[str, NDArray[Any]], x: NDArray[Any], dtype: str
) -> tuple[Float64, float]:
    """The result of ``layers`` for a few images x [N,H,W,C] or [N,C], and the bound on the error.

    The weights and x are rounded to ``dtype`` first, where it has fewer digits than float32.
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
    """X as arrays of ``dtype`` hold it; tf32's are float32."""
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return np.asarray(x, np.float16).astype(np.float64)
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
        even = bits + (0x7FFF + ((bits >> 16) & 1))  # to nearest, ties to even
        return (even & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)
    return np.asarray(x, np.float32).astype(np.float64)


def factors(x: Any, dtype: str) -> Any:
    """X as a product takes it: of tf32 with eleven digits, ties away from zero."""
    if dtype != "tf32" or x is None:
        return x
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32) + np.uint32(0x1000)
    return (bits & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)


def relative_l2(got: NDArray[Any], exact: NDArray[Any]) -> float:
    """Of a batch ``got`` against the first images of it, which it repeats; flat or not.

    NaN for another size. Not finite where ``got`` is not.
    """
    n, few = len(got), len(exact)
    if got.size != n * exact[0].size or n < few:
        return float("nan")
    got, exact = got.reshape(n, -1), exact.reshape(few, -1)
    most = max(few, MAX_COMPARED // max(1, exact[0].size))
    images = np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))
    off = norm = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for i in images:
            y = exact[i % few].astype(np.float64)
            off += float(np.square(got[i].astype(np.float64) - y).sum())
            norm += float(np.square(y).sum())
    return float(np.sqrt(off / max(norm, 1e-300)))
