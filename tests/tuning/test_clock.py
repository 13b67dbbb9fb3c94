"""The CUDA clock, with events of a made-up GPU."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from support.fake_cupy import Log

from vgg_cuda.backends import get_backend
from vgg_cuda.tuning.clock import LAUNCHES, WARM_UP, CudaTimer

pytestmark = pytest.mark.emulator
MEDIAN_S = (LAUNCHES + 1) / 2 / 1e3


class Gpu:
    """A queue of launches, in which events read the time.

    The launches of a warm-up take 100 ms, the later ones 1, 2, 3 and so on.
    """

    def __init__(self) -> None:
        self.now, self.done = 0.0, 0

    def launch(self) -> None:
        self.done += 1
        self.now += 100 if self.done <= WARM_UP else self.done - WARM_UP


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
    assert timer.measure(gpu.launch, clear_cache=False) == pytest.approx(MEDIAN_S)
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
    assert timer.measure(gpu.launch, clear_cache=True) == pytest.approx(MEDIAN_S)
    assert filled == [timer.scratch_bytes] * (WARM_UP + LAUNCHES)
    assert timer.scratch_bytes >= 2 * timer.cache_bytes
