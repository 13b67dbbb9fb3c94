"""Self-test of a device: every kernel family in a separate process, then whole forwards.

``cases.py`` lists the operations, ``kernels.py`` and ``forwards.py`` compare their results,
``worker.py`` is the child process, ``part.py`` waits for it, ``sequence.py`` orders the parts, and
``report.py`` explains them. A family that fails is off from then on: see
:mod:`vgg_cuda.backends.verdicts`.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from .. import _C
from ..backends import get_backend
from ..backends.families import kernels_arch
from ..backends.switches import switches
from ..backends.verdicts import device_header
from ..system.files import temporary_folder
from ..system.interruption import Interruption
from ..system.notices import DeviceWarning
from .report import Part, Report
from .sequence import EARLY, NAMES, Sequence, Settings

__all__ = ["NAMES", "Part", "Report", "selftest"]

DEVICES = '"cuda", "cuda:N" or "emulator"'
GPU_LIMIT_S, EMULATOR_LIMIT_S = 10.0, 120.0  # without a sign of life from a child process
GPU_REPEATS, EMULATOR_REPEATS = 300, 3  # of equal forwards


def selftest(
    device: str = "cuda", arch: str | None = None, *, only: str | Iterable[str] | None = None,
    limit_s: float | None = None, repeats: int | None = None, stop: Interruption | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:  # fmt: skip
    """Test the kernels on ``device``: "cuda", "cuda:N" or "emulator".

    ``arch`` is the GPU architecture whose kernels are tested: by default that of the GPU, on the
    emulator the one with kernel families. ``only`` names parts of :data:`NAMES`, by default all;
    parts that need whole forwards include these. A kernel that does not end within ``limit_s``
    seconds is killed: 10 on a GPU, 120 on the emulator. ``repeats`` is the number of equal
    forwards. ``stop`` records signals, and ``progress`` receives the name of each part. The
    verdicts have an effect when ``Report.keep()`` has written them.

    Raises ``ValueError`` or ``TypeError`` for bad arguments, ``DeviceError`` for an unavailable
    device and ``Interrupted`` after a signal.
    """
    if not isinstance(device, str) or not re.fullmatch(r"cuda(:\d+)?|emulator", device):
        raise ValueError(f"device: expected {DEVICES}, got {device!r}")
    parts = _parts(only)
    _check(limit_s, repeats)
    emulated = device == "emulator"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeviceWarning)  # of earlier verdicts
        backend: Any = get_backend(device, kernels_arch(device, arch))
    name = backend.arch.name
    gpu = None if emulated else _C.device_info()["devices"][int(device.partition(":")[2] or 0)]
    with temporary_folder("vgg-cuda-selftest-") as cache:
        settings = Settings(
            device, name, _C.arch(name).families, switches().disable, switches().pdl,
            _default(limit_s, EMULATOR_LIMIT_S if emulated else GPU_LIMIT_S),
            _default(repeats, EMULATOR_REPEATS if emulated else GPU_REPEATS),
            parts, str(cache),
        )  # fmt: skip
        run = Sequence(settings, stop or Interruption(), progress)
        run.run()
    header = None if gpu is None else device_header(gpu, name)
    where = "the emulator" if gpu is None else gpu["name"]
    return Report(device, where, name, run.parts, header, run.stopped)


def _parts(only: object) -> frozenset[str]:
    if only is None:
        return frozenset(NAMES)
    expected = f"only: expected some of {', '.join(NAMES)}"
    if not isinstance(only, Iterable):
        raise TypeError(f"{expected}, got {only!r}")
    names = [only] if isinstance(only, str) else list(only)
    if not names:
        raise ValueError(f"{expected}, got none")
    if unknown := [name for name in names if name not in NAMES]:
        raise ValueError(f"{expected}, got {', '.join(map(repr, unknown))}")
    return frozenset(names) | {"forward"} if {EARLY, "graph"} & {*names} else frozenset(names)


def _check(limit_s: object, repeats: object) -> None:
    if limit_s is not None:
        expected = f"limit_s: expected a number of seconds > 0, got {limit_s!r}"
        if isinstance(limit_s, bool) or not isinstance(limit_s, (int, float)):
            raise TypeError(expected)
        if not 0 < limit_s < math.inf:
            raise ValueError(expected)
    if repeats is not None:
        expected = f"repeats: expected an integer >= 1, got {repeats!r}"
        if isinstance(repeats, bool) or not isinstance(repeats, int):
            raise TypeError(expected)
        if repeats < 1:
            raise ValueError(expected)


def _default(value: Any, default: Any) -> Any:
    return default if value is None else value
