"""The backends, and the choice of one by device name."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..arrays import is_cupy, kind
from .base import Array, Backend, PackedAffine, PackedConv3x3, PackedLinear
from .errors import DeviceError, DeviceLostError, KernelError
from .stats import Stats, recording
from .switches import SwitchError, switches

__all__ = [
    "WITHOUT_EXTENSION",
    "Array",
    "Backend",
    "DeviceError",
    "DeviceLostError",
    "KernelError",
    "PackedAffine",
    "PackedConv3x3",
    "PackedLinear",
    "Stats",
    "SwitchError",
    "get_backend",
    "is_backend",
    "of_array",
    "recording",
    "why_missing",
]


WITHOUT_EXTENSION = (
    f"{Path(__file__).parents[1]} is a folder of sources without the compiled extension: "
    'install the package and run from another folder, or run "make dev" there'
)
DEVICES = '"auto", "cpu", "cuda", "cuda:N" or "emulator"'


def is_backend(x: object) -> bool:
    """Return whether ``x`` is a backend, as returned by :func:`get_backend`."""
    return hasattr(x, "pack_conv3x3") and hasattr(x, "on_stream")


def get_backend(device: Any = "auto", arch: str | None = None) -> Backend:
    """Return the backend for ``device``: "auto", "cpu", "cuda", "cuda:N" or "emulator".

    "auto" is the first GPU if it can be used, else the CPU; never the emulator. ``device`` may
    also be a ``torch.device``. ``arch``, such as "sm_80", is the GPU architecture whose kernels are
    launched: by default ``VGG_CUDA_ARCH``, else that of the device, on the emulator "sm_80". Raises
    ``ValueError`` for an unknown device, for an ``arch`` that the device cannot run, and (as
    :class:`SwitchError`) for an environment variable with an unknown value; ``TypeError`` for
    objects that are not names; :class:`DeviceError` with the reason for an unavailable device.
    """
    device = _device_name(device)
    if not isinstance(device, str):
        raise TypeError(f"device: expected {DEVICES}, got {device!r}")
    check_arch(arch)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|emulator", device):
        raise ValueError(f"device: expected {DEVICES}, got {device!r}")
    if device == "auto":
        device = "cuda" if why_missing("cuda") is None else "cpu"
    if device == "cpu":
        if arch is not None:
            raise ValueError(
                f"arch: expected None on the cpu, which runs no GPU kernels, got {arch!r}; "
                'device="emulator" runs them'
            )
        switches()  # report a bad environment variable on every device
        return _cpu()
    name, _, digits = device.partition(":")
    index = int(digits or 0)
    reason = why_missing(name, index)
    if reason is not None:
        raise DeviceError(f"device {device!r} is not available: {reason}")
    return _emulator(arch) if name == "emulator" else _cuda(index, arch)


def _device_name(device: Any) -> Any:
    return str(device) if kind(device) == "torch.device" else device


def check_arch(arch: Any) -> None:
    """Raise ``TypeError`` if ``arch`` is neither a name nor None."""
    if arch is not None and not isinstance(arch, str):
        raise TypeError(f'arch: expected a name such as "sm_80", got {arch!r}')


def check_known_arch(arch: Any) -> None:
    """Raise ``ValueError`` if ``arch`` is an unknown name, ``TypeError`` as :func:`check_arch`."""
    check_arch(arch)
    if arch is not None and find_spec("vgg_cuda._C") is not None:
        from .. import _C

        if arch not in _C.arch_names():
            raise ValueError(f"arch: expected one of {', '.join(_C.arch_names())}, got {arch!r}")


def of_array(x: Any, device: Any = None, arch: str | None = None) -> Backend:
    """Return the backend for ``device``, by default that of the NumPy or CuPy array ``x``.

    Raises errors as :func:`get_backend`, and ``ValueError`` if ``x`` is not in the memory of that
    device.
    """
    check_arch(arch)
    device = _device_name(device)
    on_gpu = is_cupy(x)
    place = f"cuda:{int(x.device.id)}" if on_gpu else "cpu"
    if device is None or device == "auto" or (device == "cuda" and on_gpu):
        # without get_backend: the GPU of an array is available
        return _cuda(int(x.device.id), arch) if on_gpu else get_backend("cpu", arch)
    backend = get_backend(device, arch)
    if backend.name == "cuda" and not on_gpu:
        raise ValueError(
            f"x: expected an array on {device}, got one in host memory; copy it with cupy.asarray()"
        )
    if on_gpu and backend.device != place:
        how = "cupy.asnumpy()" if backend.name != "cuda" else f"cupy.cuda.Device({device[5:]})"
        raise ValueError(
            f"x: expected an array for device {device}, got one on {place}; copy it with {how}"
        )
    return backend


def why_missing(name: str, index: int = 0) -> str | None:
    """Return why "cpu", "cuda" (GPU ``index``) or "emulator" is unavailable; None if available."""
    if name == "cpu":
        return None
    if find_spec("vgg_cuda._C") is None:
        return WITHOUT_EXTENSION
    if name == "emulator":
        from . import emulator

        return emulator.why_unavailable()
    from . import cuda

    return cuda.why_unavailable(index)


@cache
def _cpu() -> Backend:
    from .cpu import CpuBackend

    return CpuBackend()


@cache
def _cuda(index: int, arch: str | None) -> Backend:
    from .cuda import CudaBackend

    return CudaBackend(index, arch)


@cache
def _emulator(arch: str | None) -> Backend:
    from .emulator import EmulatorBackend

    return EmulatorBackend(arch)
