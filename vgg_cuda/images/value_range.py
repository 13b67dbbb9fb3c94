"""One warning for arrays whose values hardly mean what their reader takes them for."""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RangeWarning(UserWarning):
    """Values outside what a preset makes or takes: [0,1] where [-1,1] is meant, raw pixels."""


_warned: set[Hashable] = set()
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def warn_outside(
    key: tuple[str, Hashable],
    x: NDArray[Any],
    expected: tuple[float, float],
    slack: float,
    meaning: str,
    *,
    stacklevel: int = 2,
) -> None:
    """Warns if x leaves ``expected`` by ``slack``, once per ``key`` (what x is, whose range).

    Also if x looks like pixels in [0,1] or [-1,1] where ``expected`` is another range. NaN is
    passed over. One pass for the minimum and one for the maximum; none after the warning.
    """
    if key in _warned or not x.size:
        return
    low, high = _min_max(x)
    inside = expected[0] - slack <= low and high <= expected[1] + slack
    # From one end to the other and never beyond: what centring and scaling hardly leave behind.
    guess = ""
    if 0.9 < high <= 1 and 0 <= low < 0.1:
        guess = "[0, 1]"
    elif 0.9 < high <= 1 and -1 <= low < -0.9:
        guess = "[-1, 1]"
    elif 1 < high <= 255 and low >= 0:
        guess = "[0, 255]"
    other = max(abs(expected[0]), abs(expected[1] - 1)) > 0.5  # than [0, 1]
    wide = expected[1] - expected[0] > 20  # [-1, 1] hides among what noise fills
    mistaken = (guess == "[0, 1]" and other) or (guess == "[-1, 1]" and wide)
    if math.isnan(low) or (inside and not mistaken):
        return
    with _lock:
        if key in _warned:
            return
        _warned.add(key)
    hint = f" Are these pixels in {guess}?" if guess else ""
    warnings.warn(
        f"{key[0]}: expected values from about {expected[0]:.4g} to {expected[1]:.4g} ({meaning}), "
        f"got {low:.4g} to {high:.4g}.{hint} They are used as they are.",
        RangeWarning,
        stacklevel=stacklevel,
    )


def _min_max(x: NDArray[Any]) -> tuple[float, float]:
    """Smallest and largest value but NaN; NaN where there is no other."""
    with np.errstate(invalid="ignore"):
        low, high = float(x.min()), float(x.max())
        if math.isnan(low):  # NaN spreads; the slower fmin passes over it
            low = float(np.fmin.reduce(x, axis=None))
            high = float(np.fmax.reduce(x, axis=None))
    return low, high
