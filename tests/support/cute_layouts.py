"""CuTe's layouts in NumPy, and its tables of what instructions hold where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

Nested = int | list[Any]


def load(name: str) -> Any:
    return json.loads((Path(__file__).parent / "layouts" / name).read_text())


def offsets(shape: Nested, stride: Nested) -> np.ndarray:
    """Where a CuTe mode sends its coordinates, the first of its parts counting fastest."""
    if isinstance(shape, int):
        return np.arange(shape) * stride
    assert isinstance(stride, list)
    total = np.zeros(1, int)
    for inner, step in zip(shape, stride, strict=True):
        total = (offsets(inner, step)[:, None] + total).ravel()
    return total


def table(layout: dict[str, list[Any]]) -> np.ndarray:
    """[thread, value] -> index."""
    threads, values = layout["shape"]
    thread_stride, value_stride = layout["stride"]
    return offsets(threads, thread_stride)[:, None] + offsets(values, value_stride)


def filled(layout: Any, names: dict[str, int]) -> Any:
    """The layout with numbers for names."""
    if isinstance(layout, dict):
        return {key: filled(value, names) for key, value in layout.items()}
    if isinstance(layout, list):
        return [filled(value, names) for value in layout]
    return names.get(layout, layout)


def swizzled(address: np.ndarray, bits: int, base: int = 0) -> np.ndarray:
    """Swizzle<bits, 4, 3> of byte addresses; ``base``: the 128-byte line where patterns start."""
    return address ^ (((address >> 7) - base) % 2**bits << 4)
