"""Forwards captured as CUDA graphs, on the emulator and on a fake GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support.fake_cupy import FakeTensor, Log, Stream, asarray, fake_gpus, ndarray
from support.kernel_reference import draw

from vgg_cuda import VGG
from vgg_cuda.configs import Config
from vgg_cuda.weights import he_weights

pytestmark = pytest.mark.emulator

SMALL = Config("small", (8, 16, "M", 16, "M", 24, "M", 24, "M", 32, "M"), (48, 48, 8))
WEIGHTS = he_weights(SMALL, 3)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    with fake_gpus(monkeypatch, (9, 0)) as log:
        yield log


@pytest.fixture(scope="module")
def model() -> VGG:
    return VGG(WEIGHTS, device="emulator")


def same(y: Any, expected: np.ndarray) -> bool:
    return np.asarray(y.view(np.ndarray)).tobytes() == expected.tobytes()


def test_graph_matches_call(model: VGG) -> None:
    graph = model.capture((2, 32, 40, 3))
    assert repr(graph) == "<CapturedForward [2, 32, 40, 3] float16 -> [2, 8] float16>"
    for seed in range(3):
        x = draw((2, 32, 40, 3), "float16", seed=seed)
        y = graph(x)
        assert y is graph.y
        assert y.tobytes() == model(x).tobytes()
    graph.x[...] = draw((2, 32, 40, 3), "float16", seed=1)
    again = graph()
    assert again.tobytes() == model(graph.x).tobytes()
    digits = VGG.load("digits", device="emulator")
    pixels = draw((3, 32, 32, 3), "uint8")
    probabilities = digits.capture(pixels.shape, np.uint8)(pixels)
    assert probabilities.tobytes() == digits(pixels).tobytes()


def test_graph_on_fake_gpu(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = VGG(WEIGHTS, device="cuda"), draw((2, 32, 32, 3), "float16")
    expected = model(x)
    before, loaded = log.synchronized, log.memory.used
    graph = model.capture((2, 32, 32, 3))
    assert log.synchronized > before  # its memory may have been in use
    assert {stream for _, stream in log.launched_on[-10:]} == {2048}
    assert log.memory.used - loaded == graph.memory.total - graph.memory.weights
    waited, launched, held = log.synchronized, len(log.launched_on), log.memory.used
    on_device = asarray(x)
    for given in (on_device, x):
        graph.y[...] = 0
        y = graph(given)
        assert isinstance(y, ndarray)
        assert y is graph.y
        assert same(y, expected)
    with Stream(64):
        graph(on_device)
    assert log.graphs_launched_on == [(0, 0), (0, 0), (0, 64)]
    assert (log.synchronized, len(log.launched_on)) == (waited, launched)
    assert log.memory.used == held + on_device.nbytes
    del graph, y
    assert log.memory.used == loaded + on_device.nbytes


def test_capture_blocks_synchronize(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    model = VGG(WEIGHTS, device="cuda")
    begin = Stream.begin_capture
    others = ThreadPoolExecutor(2)
    waiting = []

    def slowly(stream: Stream) -> None:
        begin(stream)
        waiting.append(others.submit(VGG, WEIGHTS, device="cpu"))
        waiting.append(others.submit(model._backend.synchronize))
        assert waiting[0].result(60)
        with pytest.raises(futures.TimeoutError):
            waiting[1].result(0.1)

    monkeypatch.setattr(Stream, "begin_capture", slowly)
    model.capture((1, 32, 32, 3))
    assert waiting[1].result(60) is None


def test_graph_uses_torch_stream(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from support.fake_cupy import fake_torch

    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    model, x = VGG(WEIGHTS, device="cuda"), draw((2, 32, 32, 3), "float16")
    y = model.capture(x.shape)(FakeTensor(x))
    assert isinstance(y, FakeTensor)
    assert y.array.tobytes() == model(x).tobytes()
    assert log.graphs_launched_on == [(0, 1000)]


@pytest.mark.parametrize("what", ["memory", "capture"])
def test_memory_and_capture_reject_bad_arguments(model: VGG, what: str) -> None:
    ask: Callable[..., Any] = getattr(model, what)
    for shape in ((2, 32, 32), (0, 32, 32, 3), (1, 31, 32, 3), (1, 3, 32, 32), 5, (1.5, 32, 32, 3)):
        with pytest.raises(ValueError, match=rf"{what}: shape: expected \(N, H, W, 3\) .*, got"):
            ask(shape)
    for n in (2**21, 10**30):
        with pytest.raises(ValueError, match=f"{what}: shape: expected at most N = 2097150 .*{n}"):
            ask((n, 32, 32, 3))
    with pytest.raises(ValueError, match=f"{what}: dtype: expected uint8 or float32 or float16"):
        ask((1, 32, 32, 3), "float64")
    with pytest.raises(ValueError, match=rf"{what}: expected a model on a GPU .* on the cpu"):
        getattr(VGG(WEIGHTS, device="cpu"), what)((1, 32, 32, 3))


def test_graph_rejects_bad_input(model: VGG) -> None:
    graph = model.capture((2, 32, 32, 3))
    with pytest.raises(ValueError, match=r"x: expected \[2, 32, 32, 3\], as captured, got"):
        graph(draw((1, 32, 32, 3), "float16"))
    with pytest.raises(TypeError, match="x: expected float16, as captured, got"):
        graph(draw((2, 32, 32, 3), "float32"))
    with pytest.raises(TypeError, match="expected an array"):
        graph([[1]])
    with pytest.raises(AttributeError):
        graph.x = draw((2, 32, 32, 3), "float16")  # the graph would still read the old array


def test_graph_without_memory_raises(log: Log) -> None:
    model = VGG(WEIGHTS, device="cuda")
    memory = model.memory((4, 32, 32, 3))
    log.capacity = memory.total - 1
    with pytest.raises(MemoryError, match=r"a graph of \[4, 32, 32, 3\]: needs .* free on cuda:0"):
        model.capture((4, 32, 32, 3))
    log.capacity = memory.total
    model.capture((4, 32, 32, 3))


def test_graph_and_memory_for_tf32(log: Log) -> None:
    x = draw((2, 32, 32, 3), "float32")
    model = VGG(WEIGHTS, device="cuda", dtype="tf32")
    memory = model.memory(x.shape)
    assert memory == model.memory(x.shape, "float32")
    assert memory.input == x.nbytes
    graph = model.capture(x.shape)
    assert same(graph(x), VGG(WEIGHTS, device="emulator", dtype="tf32", arch="sm_90")(x))
