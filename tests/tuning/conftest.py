"""A cache folder, fake GPU and clock for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_cupy import Log, fake_gpus
from support.tuning import Launches, MadeUpTimer, made_up

from vgg_cuda import _C, backends
from vgg_cuda.backends.switches import switches
from vgg_cuda.system import notices


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VGG_CUDA_CACHE", str(tmp_path / "cache"))
    notices.forget()
    _forget_switches()
    yield tmp_path / "cache"
    _forget_switches()


def _forget_switches() -> None:
    switches.cache_clear()
    backends._emulator.cache_clear()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    with fake_gpus(monkeypatch, (9, 0)) as log:
        # other tests search these kernels for races
        monkeypatch.setattr(_C, "Cuda", lambda stream, early=False: _C.Emulator(races=False))
        yield log


@pytest.fixture
def launches(log: Log, monkeypatch: pytest.MonkeyPatch) -> Launches:
    return Launches(monkeypatch)


@pytest.fixture
def timer(launches: Launches, monkeypatch: pytest.MonkeyPatch) -> MadeUpTimer:
    return made_up(monkeypatch, launches)
