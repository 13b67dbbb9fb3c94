"""Relative L2 errors, their bound, and a message that shows the worst element."""

from __future__ import annotations

from typing import Any

import numpy as np

LOGITS = 2e-5  # relative L2 error between two float32 networks


def relative_l2(got: Any, expected: Any) -> float:
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape, f"expected shape {expected.shape}, got {got.shape}"
    if expected.size == 0:
        return 0.0
    return float(np.linalg.norm(got - expected) / max(np.linalg.norm(expected), 1e-300))


def assert_close(got: Any, expected: Any, bound: float = LOGITS, what: str = "") -> None:
    error = relative_l2(got, expected)
    if error <= bound:
        return
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    worst = np.unravel_index(np.argmax(np.abs(got - expected)), got.shape)
    raise AssertionError(
        f"{what}: relative L2 error {error:.2e} is {error / bound:.1f}x the bound {bound:.0e}; "
        f"worst at {tuple(int(i) for i in worst)}: got {got[worst]!r}, expected {expected[worst]!r}"
    )
