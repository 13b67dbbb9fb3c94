"""CuTe's layouts in NumPy, and its tables of the registers of instructions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

Nested = int | list[Any]


def load(name: str) -> Any:
    return json.loads((Path(__file__).parent / "layouts" / name).read_text())


def offsets(shape: Nested, stride: Nested) -> np.ndarray:
    """Return the index of every coordinate of a CuTe mode; its first part varies fastest."""
    if isinstance(shape, int):
        return np.arange(shape) * stride
    assert isinstance(stride, list)
    total = np.zeros(1, int)
    for inner, step in zip(shape, stride, strict=True):
        total = (offsets(inner, step)[:, None] + total).ravel()
    return total


def table(layout: dict[str, list[Any]]) -> np.ndarray:
    """Return the table [thread, value] -> index."""
    threads, values = layout["shape"]
    thread_stride, value_stride = layout["stride"]
    return offsets(threads, thread_stride)[:, None] + offsets(values, value_stride)


def filled(layout: Any, names: dict[str, int]) -> Any:
    """Replace names in a layout by numbers."""
    if isinstance(layout, dict):
        return {key: filled(value, names) for key, value in layout.items()}
    if isinstance(layout, list):
        return [filled(value, names) for value in layout]
    return names.get(layout, layout)


def swizzled(address: np.ndarray, bits: int, base: int = 0) -> np.ndarray:
    """Apply Swizzle<bits, 4, 3> to byte addresses; patterns start at the 128-byte line ``base``."""
    return address ^ (((address >> 7) - base) % 2**bits << 4)
