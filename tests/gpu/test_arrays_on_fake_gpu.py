"""Other libraries' arrays on a fake GPU: which stream is told to whom, and what may be written.

See fake_cupy.py; DLPack and ``__cuda_array_interface__`` say what a producer and a consumer owe.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.fake_cupy import (
    FakeJaxArray,
    FakeTensor,
    Log,
    Stream,
    asarray,
    fake_gpus,
    fake_torch,
    ndarray,
)
from support.kernel_reference import draw as draw_in

from vgg_cuda import ops

pytestmark = pytest.mark.emulator


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    with fake_gpus(monkeypatch, (9, 0), (8, 6)) as log:
        monkeypatch.setitem(sys.modules, "torch", fake_torch())
        yield log


HALF = draw_in((2, 6, 6, 16), "float16")
EXPECTED = np.maximum(HALF, 0)


@pytest.mark.parametrize("array", [FakeTensor, FakeJaxArray], ids=["torch", "jax"])
@pytest.mark.parametrize(
    "stream", [1, 2, 64, Stream(96)], ids=["legacy", "per-thread", "handle", "cupy"]
)
def test_given_stream_is_passed_to_the_producer(log: Log, array: Any, stream: Any) -> None:
    """Else the producer's work is ordered before another stream's than the one that reads x."""
    here = (1, getattr(stream, "ptr", stream))
    y = ops.relu(array(HALF, 1), stream=stream)
    assert isinstance(y, array)
    np.testing.assert_array_equal(y.array, EXPECTED)
    assert log.shared_on == log.launched_on == log.given_back_on == [here]
    assert (log.streams, log.device, log.synchronized) == ([0], 0, 0)


def test_default_stream_is_the_current_one_of_cupy(log: Log) -> None:
    with Stream(192):
        ops.relu(FakeJaxArray(HALF))
    assert log.shared_on == log.launched_on == log.given_back_on == [(0, 192)]


def test_weights_are_shared_on_their_reading_stream(log: Log) -> None:
    w = FakeJaxArray(draw_in((8, 3, 3, 16), "float16", 0.1, seed=1))
    ops.conv3x3(FakeJaxArray(HALF), w, stream=64)
    assert set(log.shared_on) == set(log.launched_on) == set(log.given_back_on) == {(0, 64)}
    assert len(log.shared_on) == 2


def test_per_thread_default_stream(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy's may be the thread's; PyTorch, which knows none, is on the legacy one."""
    torch_: Any = sys.modules["torch"]
    legacy = SimpleNamespace(cuda_stream=0)
    monkeypatch.setattr(torch_.cuda, "current_stream", lambda device: legacy)
    with Stream(2):
        ops.relu(FakeTensor(HALF))
    assert log.shared_on == log.launched_on == log.given_back_on == [(0, 1)]
    ops.relu(FakeTensor(HALF))
    assert log.launched_on[-1] == (0, 0)


def test_unknown_stream_is_refused(log: Log) -> None:
    for x in (asarray(HALF), FakeTensor(HALF), FakeJaxArray(HALF)):
        with pytest.raises(ValueError, match="relu: stream: expected an address, got -1"):
            ops.relu(x, stream=-1)
        with pytest.raises(TypeError, match="relu: stream: expected a stream of CuPy or PyTorch"):
            ops.relu(x, stream="default")
    assert log.launched_on == []
    assert log.streams == [0]


class Bare:
    """An array with ``__cuda_array_interface__`` and no DLPack."""

    def __init__(self, array: np.ndarray, read_only: bool = False, **more: Any) -> None:
        self.array = asarray(array)
        self.shape, self.dtype = array.shape, array.dtype
        interface = self.array.__cuda_array_interface__
        data = (interface["data"][0], read_only)
        self.__cuda_array_interface__ = {**interface, "data": data, **more}
        self.__array_interface__ = self.array.__array_interface__  # the fake's asarray reads it


@pytest.mark.parametrize(("named", "waits"), [(64, [64]), (1, [1]), (2, [2]), (None, [])])
def test_stream_of_a_cuda_array_interface(log: Log, named: Any, waits: list[int]) -> None:
    y = ops.relu(Bare(HALF, stream=named))
    assert isinstance(y, ndarray)
    np.testing.assert_array_equal(y.view(np.ndarray), EXPECTED)
    assert log.waited_for == waits
    ops.relu(Bare(HALF))  # version 2 has none
    assert log.waited_for == waits


def test_managed_memory(log: Log) -> None:
    y = ops.relu(FakeJaxArray(HALF, 1, device_type=13))
    np.testing.assert_array_equal(y.array, EXPECTED)
    assert log.launched_on[0][0] == 1


@pytest.mark.usefixtures("log")
def test_read_only_out_is_refused() -> None:
    """CuPy shares such memory as if it could be written."""
    with pytest.raises(ValueError, match="out: expected a writable array, got a read-only JAX"):
        ops.relu(FakeJaxArray(HALF), out=FakeJaxArray(np.zeros_like(HALF)))
    with pytest.raises(ValueError, match="out: expected a writable array, got a read-only one"):
        ops.relu(Bare(HALF), out=Bare(np.zeros_like(HALF), read_only=True))
    out = Bare(np.zeros_like(HALF))
    assert ops.relu(Bare(HALF), out=out) is out
