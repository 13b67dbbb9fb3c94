"""The backends, and which of them a device name means."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..arrays import is_cupy, kind
from .base import Array, Backend, PackedConv3x3, PackedLinear
from .stats import Stats, recording

__all__ = [
    "WITHOUT_EXTENSION",
    "Array",
    "Backend",
    "DeviceError",
    "PackedConv3x3",
    "PackedLinear",
    "Stats",
    "get_backend",
    "is_backend",
    "of_array",
    "recording",
    "why_missing",
]


class DeviceError(RuntimeError):
    """A device that is not there; the text says why and what to do."""


WITHOUT_EXTENSION = (
    f"{Path(__file__).parents[1]} is a folder of sources, without the compiled extension: "
    'install it and run from another folder, or run "make dev" there'
)
DEVICES = '"auto", "cpu", "cuda", "cuda:N" or "emulator"'


def is_backend(x: object) -> bool:
    """Whether ``x`` is a backend, as :func:`get_backend` returns them."""
    return hasattr(x, "pack_conv3x3") and hasattr(x, "on_stream")


def get_backend(device: Any = "auto", arch: str | None = None) -> Backend:
    """The backend for ``device``: "auto", "cpu", "cuda", "cuda:N" or "emulator".

    "auto" is the first GPU where there is one that works, else the CPU; never the emulator.
    ``arch``, "sm_80" for example, is the GPU whose kernels are launched: by default the device's
    own, on the emulator "sm_80". A ``torch.device`` is as good as its name. Raises ``ValueError``
    for another name and for an ``arch`` that the device cannot run, ``TypeError`` for what is no
    name, :class:`DeviceError`, saying why, for a device that is not there.
    """
    device = _device_name(device)
    if not isinstance(device, str):
        raise TypeError(f"unknown device {device!r}: expected {DEVICES}")
    check_arch(arch)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|emulator", device):
        raise ValueError(f"unknown device {device!r}: expected {DEVICES}")
    if device == "auto":
        device = "cuda" if why_missing("cuda") is None else "cpu"
    if device == "cpu":
        if arch is not None:
            raise ValueError(
                f"arch {arch!r}: the cpu runs no kernels of GPUs; device='emulator' does"
            )
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
    """Raises ``TypeError`` where ``arch`` is neither a name nor None."""
    if arch is not None and not isinstance(arch, str):
        raise TypeError(f'arch: expected a name such as "sm_80", got {arch!r}')


def of_array(x: Any, device: Any = None, arch: str | None = None) -> Backend:
    """The backend for ``device``; by default the one where the NumPy or CuPy array ``x`` lives.

    Raises as :func:`get_backend`, and ``ValueError`` where ``x`` is not in that device's memory:
    nothing is moved between devices unasked.
    """
    check_arch(arch)
    device = _device_name(device)
    on_gpu = is_cupy(x)
    place = f"cuda:{int(x.device.id)}" if on_gpu else "cpu"
    if device is None or device == "auto" or (device == "cuda" and on_gpu):
        # no get_backend: the GPU of an array is there
        return _cuda(int(x.device.id), arch) if on_gpu else get_backend("cpu", arch)
    backend = get_backend(device, arch)
    if backend.name == "cuda" and not on_gpu:
        raise ValueError(
            f"x: is in host memory, but device is {device!r}: move it there with cupy.asarray()"
        )
    if on_gpu and backend.device != place:
        how = "cupy.asnumpy()" if backend.name != "cuda" else f"cupy.cuda.Device({device[5:]})"
        raise ValueError(f"x: is on {place}, but device is {device!r}: move it there with {how}")
    return backend


def why_missing(name: str, index: int = 0) -> str | None:
    """Why a backend, "cpu", "cuda" (on GPU ``index``) or "emulator", cannot be used; or None."""
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

    return EmulatorBackend("sm_80" if arch is None else arch)
