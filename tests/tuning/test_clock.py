"""The CUDA clock, with events of a made-up GPU that takes a second for every launch."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from support.fake_cupy import Log

from vgg_cuda.backends import get_backend
from vgg_cuda.tuning.clock import LAUNCHES, WARM_UP, CudaTimer

pytestmark = pytest.mark.emulator


class Gpu:
    """A queue of launches: each takes ``takes`` ms, events read the time at their place."""

    def __init__(self) -> None:
        self.now, self.takes, self.done, self.cleared = 0.0, 1.0, 0, 0

    def launch(self) -> None:
        self.done += 1
        self.now += self.takes * (10 if self.done <= WARM_UP else 1)


@pytest.fixture
def gpu(log: Log) -> Gpu:
    gpu, cupy = Gpu(), sys.modules["cupy"]

    class Event:
        at: float | None = None

        def record(self) -> None:
            self.at = gpu.now

        def synchronize(self) -> None:
            assert self.at is not None

    cuda: Any = cupy.cuda
    cuda.Event = Event
    cuda.get_elapsed_time = lambda start, stop: stop.at - start.at
    cuda.runtime.getDeviceProperties = lambda index: {"l2CacheSize": 60 << 20}
    return gpu


def test_median_of_launches_after_a_warm_up(gpu: Gpu) -> None:
    timer = CudaTimer(get_backend("cuda"))  # type: ignore[arg-type]
    assert timer.cache_bytes == 60 << 20
    assert timer.measure(gpu.launch, clear_cache=False) == pytest.approx(1e-3)
    assert gpu.done == WARM_UP + LAUNCHES


def test_cache_is_cleared_outside_of_the_time(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = get_backend("cuda")
    timer = CudaTimer(backend)
    filled: list[int] = []

    def new_array(shape: tuple[int, ...], dtype: str) -> Any:
        def fill(value: int) -> None:
            gpu.now += 100
            filled.append(shape[0])

        return SimpleNamespace(fill=fill)

    monkeypatch.setattr(backend, "new_array", new_array)
    assert timer.measure(gpu.launch, clear_cache=True) == pytest.approx(1e-3)
    assert filled == [timer.scratch_bytes] * (WARM_UP + LAUNCHES)
    assert timer.scratch_bytes >= 2 * timer.cache_bytes
