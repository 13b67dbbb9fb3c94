"""Time of launches on a GPU, measured with CUDA events."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any, Protocol

from ..backends.kernels import KernelBackend

WARM_UP = 2
LAUNCHES = 11  # whose median counts
MIN_SCRATCH_BYTES = 256 << 20


class Timer(Protocol):
    """A clock for launches on one device."""

    cache_bytes: int
    """Size of the device's L2 cache."""

    scratch_bytes: int
    """Device memory that :meth:`measure` allocates to clear the cache."""

    def measure(self, run: Callable[[], None], clear_cache: bool) -> float:
        """Return the seconds that the launches of ``run()`` take; ``run`` only enqueues.

        ``clear_cache``: no operand is in the L2 cache when the launches begin.
        """
        ...


class CudaTimer:
    """The clock of a GPU: events around each of several launches, on CuPy's current stream.

    The cache is cleared by writing a buffer that is larger than the cache. The write also keeps the
    GPU busy while the launch behind it is enqueued, so that the time does not include the host's.
    Launches whose operands exceed the cache take longer than the host needs.
    """

    def __init__(self, backend: KernelBackend) -> None:
        import cupy

        self._cupy, self._on = cupy, backend
        assert backend.gpu is not None
        properties = cupy.cuda.runtime.getDeviceProperties(backend.gpu["index"])
        self.cache_bytes = int(properties["l2CacheSize"])
        self.scratch_bytes = max(MIN_SCRATCH_BYTES, 2 * self.cache_bytes)

    def measure(self, run: Callable[[], None], clear_cache: bool) -> float:
        cuda = self._cupy.cuda
        scratch = self._on.new_array((self.scratch_bytes,), "uint8") if clear_cache else None
        events: list[tuple[Any, Any]] = []
        for _ in range(WARM_UP + LAUNCHES):
            if scratch is not None:
                scratch.fill(0)
            start, stop = cuda.Event(), cuda.Event()
            start.record()
            run()
            stop.record()
            events.append((start, stop))
        events[-1][1].synchronize()
        times = [cuda.get_elapsed_time(*pair) for pair in events[WARM_UP:]]
        return float(median(times)) / 1e3
