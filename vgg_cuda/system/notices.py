"""Warnings about devices, kernels, caches and assumptions, each shown once per process."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from pathlib import Path

PACKAGE = str(Path(__file__).parents[1]) + os.sep

_lock = threading.Lock()
_shown: set[str] = set()


class DeviceWarning(UserWarning):
    """Warning that a device is used with other kernels, or other speed, than it could be.

    Results are right; the message says what was switched off or ignored, and what to do.
    """


class FallbackWarning(UserWarning):
    """Warning that PyTorch runs a call of a module of ``from_torch``; says why, and what to do."""


def warn_once(message: str, category: type[Warning] = DeviceWarning) -> None:
    """Show ``message`` at the line of the package's caller, once per process."""
    with _lock:
        if message in _shown:
            return
        _shown.add(message)
    warnings.warn(message, category, stacklevel=_caller())


def warn(message: str, category: type[Warning], passing: tuple[str, ...] = ()) -> None:
    """Show ``message`` at the caller's line; folders in ``passing`` count as the package's own."""
    warnings.warn(message, category, stacklevel=_caller(passing))


def forget() -> None:
    """Forget which warnings were shown, so that they are shown again; for tests."""
    with _lock:
        _shown.clear()


def _caller(passing: tuple[str, ...] = ()) -> int:
    """Return the ``stacklevel``, for the caller of this function, of code outside the package."""
    own = (PACKAGE, *passing)
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(own):
        level, frame = level + 1, frame.f_back
    return level
