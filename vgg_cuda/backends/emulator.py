"""The emulator backend: NumPy arrays, and the GPU's compiled kernels executed on the CPU.

The emulator is for tests. It raises ``_C.EmulatorError`` for races, deadlocks and accesses out of
bounds. csrc/emulator/README.md describes what it models.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _C
from ..arrays import numpy_dtype
from .families import arch_named, families_of
from .kernels import KernelBackend
from .operations import Spec
from .options import current_options

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

ALIGNMENT = 256  # bytes, as of a GPU's allocator, so that memory traffic is counted alike
MIN_CHECKED_BYTES = 64 << 20


def why_unavailable() -> str | None:
    """Return why there is no emulator, and how to get it; None if the build has it."""
    if _C.built_with_emulator():
        return None
    return (
        "this build of vgg_cuda has no emulator: install from its sources with "
        '"pip install . -C cmake.define.VGG_CUDA_EMULATOR=ON", or run "make dev" there'
    )


class EmulatorBackend(KernelBackend):
    """The operations of a VGG on an emulated GPU of architecture ``arch``.

    By default ``arch`` is ``VGG_CUDA_ARCH``, else "sm_80". Raises ``RuntimeError`` if the build has
    no emulator, ``ValueError`` for an unknown ``arch``.
    """

    name = "emulator"
    device = "emulator"
    batch_limit: int | None = 32

    def __init__(self, arch: str | _C.Arch | None = None) -> None:
        reason = why_unavailable()
        if reason is not None:
            raise RuntimeError(reason)
        if not isinstance(arch, _C.Arch):
            named = arch_named(arch, _C.arch_names(), "the emulator")
            arch = _C.arch("sm_80") if named is None else named
        super().__init__(families_of(arch, _C.arch_names()))
        bfloat16 = ("bfloat16",) if importlib.util.find_spec("ml_dtypes") else ()
        self.dtypes = ("float16", "float32", *bfloat16)

    def report_families(self) -> None:
        pass  # only the user switches families off here

    def on_stream(self, stream: Any) -> contextlib.AbstractContextManager[None]:
        if stream is not None:
            raise ValueError(
                f"stream: expected None on the emulator, which has no streams, got {stream!r}"
            )
        return contextlib.nullcontext()

    def asarray(self, x: Any, dtype: DTypeLike) -> NDArray[Any]:
        """Return x as a C-contiguous array; new arrays start at a multiple of 256 bytes."""
        dtype = numpy_dtype(dtype)
        source: NDArray[Any] = np.asarray(x)
        if source.dtype == dtype and source.flags.c_contiguous and source.flags.aligned:
            return source
        array = self.new_array(source.shape, dtype.name)
        with np.errstate(over="ignore"):  # values beyond float16 become infinite
            array[...] = source
        return array

    def image_dtype(self, x: Any, dtype: str) -> str:
        given = str(x.dtype.name)
        return given if given in ("uint8", "float32", dtype) else numpy_dtype(dtype).name

    def synchronize(self) -> None:
        pass

    def to_numpy(self, x: NDArray[Any]) -> NDArray[Any]:
        return x

    def executor(self, early: bool = False) -> _C.Emulator:
        return _C.Emulator(**asdict(current_options()))

    def counters(self, executor: Any, plan: _C.Plan) -> dict[str, int]:
        counted: dict[str, int] = executor.counters()
        return {
            **counted,
            "useful_macs": plan.macs,
            "bank_conflicts": counted["shared_wavefronts"] - counted["shared_ideal"],
        }

    def new_array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        size = math.prod(shape) * numpy_dtype(dtype).itemsize
        memory = np.empty(size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        array: NDArray[Any] = memory[start : start + size].view(numpy_dtype(dtype)).reshape(shape)
        return array

    host_array = new_array

    def view(self, memory: NDArray[Any], offset: int, spec: Spec) -> NDArray[Any]:
        array: NDArray[Any] = np.ndarray(spec.shape, numpy_dtype(spec.dtype), memory.data, offset)
        return array

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        run()
        return run  # the emulator has no graphs

    def free_bytes(self, needed: int) -> int | None:
        return None if needed < MIN_CHECKED_BYTES else self.reported_bytes()

    def reported_bytes(self) -> int | None:
        with contextlib.suppress(OSError), open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
        return None
