"""Shared by all cases of kernels: placing arrays, and the precisions of this build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from support.kernel_reference import SHORT

from vgg_cuda import _C

Place = Callable[[np.ndarray], Any]
"""Move an array to the device that computes with it."""

Tiling = dict[str, Any]


def dtypes() -> list[str]:
    """Return the dtypes that this build has kernels for."""
    names = _C.kernels()
    return [
        d for d in ("float16", "float32", "bfloat16") if any(f"_{SHORT[d]}" in n for n in names)
    ]


def precisions() -> list[str]:
    """Return the precisions of this build's matrix products."""
    return dtypes() + ["tf32"] * any("_tf32_" in n for n in _C.kernels())


def place_at(place: Place, x: np.ndarray, offset: int) -> Any:
    """Place x ``offset`` elements behind an aligned address."""
    if not offset:
        return place(x)
    return place(np.concatenate([np.zeros(offset, x.dtype), x.ravel()]))[offset:].reshape(x.shape)
