"""The device of a kernel backend: its arrays, streams, launches and memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .. import _C
from ..arrays import numpy_dtype
from ..text import format_bytes
from .operations import Array, Spec


class KernelDevice(ABC):
    """A device that runs compiled kernels: a GPU, or the emulator of one."""

    name: str
    device: str
    gpu: _C.Device | None = None
    """Description of the GPU; None on the emulator."""
    dtypes: tuple[str, ...]
    batch_limit: int | None = None

    @property
    def precisions(self) -> tuple[str, ...]:
        return (*self.dtypes, "tf32")

    def active(self) -> AbstractContextManager[Any]:
        """Return a context for all work on the device."""
        return nullcontext()

    def session(self) -> AbstractContextManager[None]:
        return nullcontext()  # operations share no state: each names its device and stream

    @abstractmethod
    def report_families(self) -> None: ...

    @abstractmethod
    def synchronize(self) -> None: ...

    @abstractmethod
    def on_stream(self, stream: Any) -> AbstractContextManager[Any]: ...

    # ---- Arrays ----

    @abstractmethod
    def asarray(self, x: Any, dtype: DTypeLike) -> Array: ...

    @abstractmethod
    def to_numpy(self, x: Array) -> NDArray[Any]: ...

    @abstractmethod
    def image_dtype(self, x: Any, dtype: str) -> str:
        """Return the dtype on the device of images x, for a computation in ``dtype``."""

    def as_images(self, x: Any, dtype: str) -> Array:
        return self.asarray(x, self.image_dtype(x, dtype))

    @abstractmethod
    def new_array(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an uninitialised array on the device."""

    def host_array(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Return an uninitialised array in host memory."""
        return np.empty(shape, numpy_dtype(dtype))

    @abstractmethod
    def view(self, memory: Array, offset: int, spec: Spec) -> Array:
        """Return an array at byte ``offset`` of ``memory``, an array of bytes."""

    # ---- Launches ----

    @abstractmethod
    def executor(self, early: bool = False) -> _C.Executor:
        """Return the executor of one operation's launches, on the current stream.

        With ``early`` the first launch may begin before the previous one of the forward ends.
        """

    def is_capturing(self) -> bool:
        """Return whether launches on the current stream become a part of a CUDA graph."""
        return False

    @abstractmethod
    def counters(self, executor: Any, plan: _C.Plan) -> dict[str, int]:
        """Return what ``executor`` counted while it ran ``plan``."""

    @abstractmethod
    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """Return a function that repeats all launches of ``run()`` on the current stream.

        ``run`` is called at once, maybe twice, and must neither allocate nor wait.
        """

    # ---- Memory ----

    @abstractmethod
    def free_bytes(self, needed: int) -> int | None:
        """Return the memory available on the device; None if only allocating can tell."""

    @abstractmethod
    def reported_bytes(self) -> int | None:
        """Return the free memory that the device reports, for a message; None if unknown."""

    @contextmanager
    def reserving(
        self, what: str, needed: int, uses: Sequence[str], less: str = "smaller batches"
    ) -> Iterator[None]:
        """Wrap the allocation of ``needed`` bytes, so that a ``MemoryError`` names the sizes.

        ``what`` is the subject of the message, ``uses`` the sizes with their purposes, ``less``
        what to do. If the device reports too little memory, the error comes before the block runs.
        """

        def failure(free: int | None) -> MemoryError:
            available = "" if free is None else f", {format_bytes(free)} are free on {self.device}"
            return MemoryError(f"{what}: needs {' and '.join(uses)}{available}; {less} need less")

        free = self.free_bytes(needed)
        if free is not None and needed > free:
            raise failure(free)
        try:
            yield
        except MemoryError as error:  # or CuPy's OutOfMemoryError, a subclass
            raise failure(self.reported_bytes()) from error
