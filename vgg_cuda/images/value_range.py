"""A warning for arrays whose values do not fit their expected range."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RangeWarning(UserWarning):
    """Values do not fit a preset's range, such as raw pixels passed as preprocessed input."""


_warned: dict[Hashable, object] = {}


def warn_outside(
    key: tuple[str, Hashable],
    x: NDArray[Any],
    expected: tuple[float, float],
    slack: float,
    meaning: str,
    *,
    stacklevel: int = 2,
) -> None:
    """Warn, once per ``key``, if values of x are more than ``slack`` outside ``expected``.

    Warn, too, if x looks like pixels in [0,1] or [-1,1] and ``expected`` is another range. ``key``
    is the name of x and the owner of the range; ``meaning`` describes the range. NaN is ignored.
    x is read once for its minimum and once for its maximum, and not at all after the warning.
    """
    if key in _warned or not x.size:
        return
    low, high = _min_max(x)
    inside = expected[0] - slack <= low and high <= expected[1] + slack
    # Raw pixels fill their range and do not exceed it; centred and scaled pixels rarely do both.
    guess = ""
    if 0.9 < high <= 1 and 0 <= low < 0.1:
        guess = "[0, 1]"
    elif 0.9 < high <= 1 and -1 <= low < -0.9:
        guess = "[-1, 1]"
    elif 1 < high <= 255 and low >= 0:
        guess = "[0, 255]"
    expects_unit = max(abs(expected[0]), abs(expected[1] - 1)) <= 0.5
    wide = expected[1] - expected[0] > 20  # narrower ranges may be filled by noise in [-1, 1]
    mistaken = (guess == "[0, 1]" and not expects_unit) or (guess == "[-1, 1]" and wide)
    if math.isnan(low) or (inside and not mistaken):
        return
    mine = object()
    if _warned.setdefault(key, mine) is not mine:  # atomic: another thread has warned
        return
    hint = f" Are these pixels in {guess}?" if guess else ""
    warnings.warn(
        f"{key[0]}: expected values from about {expected[0]:.4g} to {expected[1]:.4g} ({meaning}), "
        f"got {low:.4g} to {high:.4g}.{hint} They are used unchanged.",
        RangeWarning,
        stacklevel=stacklevel,
    )


def _min_max(x: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and largest value other than NaN, or NaN if all values are NaN."""
    with np.errstate(invalid="ignore"):
        low, high = float(x.min()), float(x.max())
        if math.isnan(low):  # min and max propagate NaN; fmin and fmax are slower and ignore it
            low = float(np.fmin.reduce(x, axis=None))
            high = float(np.fmax.reduce(x, axis=None))
    return low, high
