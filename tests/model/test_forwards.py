"""Whole forwards where kernels are launched: their memory, batches that do not fit, graphs."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.fake_cupy import FakeTensor, Log, OutOfMemoryError, Stream, asarray, fake_gpus, ndarray
from support.kernel_reference import draw

from vgg_cuda import VGG, ops, reference
from vgg_cuda.backends import get_backend, recording
from vgg_cuda.backends.emulator import EmulatorBackend
from vgg_cuda.backends.operations import Spec
from vgg_cuda.configs import Config, get_config
from vgg_cuda.forward.eager import Eager
from vgg_cuda.forward.plan import INPUT, Forward, Recorder, Value, assign_offsets, plan_forward
from vgg_cuda.layers import taps
from vgg_cuda.weights import he_weights, load_weights

pytestmark = pytest.mark.emulator

SMALL = Config("small", (8, 16, "M", 16, "M", 24, "M", 24, "M", 32, "M"), (48, 48, 8))
WEIGHTS = he_weights(SMALL, 3)
PRESET = WEIGHTS.preset


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    with fake_gpus(monkeypatch, (9, 0)) as log:
        yield log


@pytest.fixture(scope="module")
def model() -> VGG:
    return VGG(WEIGHTS, device="emulator")


def same(y: Any, expected: np.ndarray) -> bool:
    return np.asarray(y.view(np.ndarray)).tobytes() == expected.tobytes()


def test_an_adaptive_maximum_in_both_kinds_of_forward(model: VGG) -> None:
    x = draw((2, 9, 5, 16), "float32")
    eager = Eager(VGG(WEIGHTS, device="cpu")._network)
    np.testing.assert_array_equal(eager.adaptive_maxpool(x, 2), reference.adaptive_maxpool(x, 2))
    on, recorder = get_backend("emulator"), Recorder(model._network, get_backend("emulator").plan)
    value = recorder.adaptive_maxpool(Value(INPUT, Spec(x.shape, "float32")), 2)
    y = np.empty(value.shape, np.float32)
    forward = assign_offsets(recorder.steps, {value.source: "pooled"})
    forward.run(on, x, np.empty(forward.arena_bytes, np.uint8), {"pooled": y})
    np.testing.assert_array_equal(y, reference.adaptive_maxpool(x, 2))


# ---- The arena ----


def regions(forward: Forward, i: int) -> list[tuple[int, int]]:
    """Where step i's x, y and workspace lie in the arena: first byte, and behind the last."""
    step = forward.steps[i]
    found = []
    source = forward.steps[step.x.source] if step.x.source >= 0 else None
    if source is not None and source.y is not None:
        found.append((source.y, source.y + source.operation.y.nbytes))
    if step.y is not None:
        found.append((step.y, step.y + step.operation.y.nbytes))
    if step.operation.workspace_bytes:
        found.append((step.workspace, step.workspace + step.operation.workspace_bytes))
    return found


@pytest.mark.parametrize("dtype", ["float16", "tf32", "float32"])
@pytest.mark.parametrize(
    ("n", "size", "wanted"),
    [
        (1, 32, {"prob"}), (1, 224, {"fc8"}), (64, 224, {"fc8"}), (3, 65, {"pool5"}),
        (2, 97, {"relu1_1", "conv2_1", "pool3", "avgpool", "fc6", "relu7", "prob"}),
        (2, 64, "all"),
    ],
)  # fmt: skip
def test_tensors_in_use_never_share_memory(n: int, size: int, wanted: Any, dtype: str) -> None:
    config = get_config("vgg13")
    names = set(taps(config)) if wanted == "all" else wanted
    convs = {c.name: SimpleNamespace(out_channels=c.out_channels) for c in config.convs}
    dense = {d.name: SimpleNamespace(out_features=d.out_features) for d in config.dense}
    for layer in (*convs.values(), *dense.values()):
        layer.dtype = dtype
    network: Any = SimpleNamespace(config=config, convs=convs, dense=dense, preset=PRESET)
    for arch in ("sm_80", "sm_90", "sm_90a"):
        plan = get_backend("emulator", arch).plan  # type: ignore[attr-defined]
        forward = plan_forward(network, plan, Spec((n, size, size, 3), "uint8"), names)
        assert set(forward.results.values()) == names
        needs = []
        for i, step in enumerate(forward.steps):
            assert step.x.source == i - 1
            assert (step.y is None) == (i in forward.results)
            found = sorted(regions(forward, i))
            assert all(start % 256 == 0 for start, _ in found)
            assert all(a[1] <= b[0] for a, b in pairwise(found))
            assert not found or found[-1][1] <= forward.arena_bytes
            needs.append(sum(-(-(end - start) // 256) * 256 for start, end in found))
        assert forward.arena_bytes == max(needs)


def test_a_forward_allocates_nothing(model: VGG, monkeypatch: pytest.MonkeyPatch) -> None:
    x = draw((2, 36, 40, 3), "float16")
    expected = model(x)
    run = Forward.run

    def refuse(*_: Any) -> None:
        raise AssertionError("allocation in a forward")

    def watched(self: Forward, *arguments: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(EmulatorBackend, "new_array", refuse)
            patch.setattr(EmulatorBackend, "asarray", refuse)
            patch.setattr(EmulatorBackend, "free_bytes", refuse)
            run(self, *arguments)

    monkeypatch.setattr(Forward, "run", watched)
    assert model(x).tobytes() == expected.tobytes()
    monkeypatch.setattr(EmulatorBackend, "view", lambda on, *_: on.new_array((1,), "uint8"))
    with pytest.raises(AssertionError, match="allocation"):
        model(x)


def test_results_are_the_callers_own(model: VGG) -> None:
    one, two = draw((1, 32, 32, 3), "float16"), draw((1, 32, 32, 3), "float16", seed=1)
    names = ["conv1_1", "pool2", "relu6", "fc8"]
    first = model.features(one, names)
    before = {name: y.copy() for name, y in first.items()}
    model.features(two, names)
    assert all(first[name].tobytes() == before[name].tobytes() for name in names)
    assert model.features(one, []) == {}


def test_an_average_of_single_pixels_is_left_out() -> None:
    config = Config("grid1", SMALL.widths, SMALL.head, pool_grid=1)
    model = VGG(he_weights(config, 3), device="emulator")
    x = draw((2, 32, 32, 3), "float16")
    with recording() as plain:
        y = model(x)
    with recording() as tapped:
        found = model.features(x, ["avgpool", "fc8"])
    assert found["fc8"].tobytes() == y.tobytes()
    kernels = [[entry["kernel"] for entry in entries] for entries in (plain, tapped)]
    assert [k for k in kernels[1] if "avgpool" not in k] == kernels[0] != kernels[1]


def test_threads_have_arenas_of_their_own(model: VGG) -> None:
    images = [draw((1, 32 + 4 * i, 32, 3), "float16", seed=i) for i in range(4)]
    expected = [model(x).tobytes() for x in images]
    with ThreadPoolExecutor(4) as pool:
        for found in [pool.map(lambda x: model(x).tobytes(), images) for _ in range(3)]:
            assert list(found) == expected


def test_a_model_is_gone_when_nobody_has_it() -> None:
    gc.collect()
    gc.disable()
    try:
        model = VGG(WEIGHTS, device="emulator")
        model(draw((1, 32, 32, 3), "float16"))
        graph = model.capture((1, 32, 32, 3))
        graph()
        held = weakref.ref(model._network.convs["conv1_1"].w)
        del model, graph
        assert held() is None
    finally:
        gc.enable()


def test_no_images(model: VGG, log: Log) -> None:
    gpu = VGG(WEIGHTS, device="cuda")
    x = draw((0, 32, 40, 3), "float32")
    for y in (model(x), gpu(x), gpu(asarray(x))):
        assert (y.shape, y.dtype) == ((0, 8), np.dtype("float16"))
    assert model.features(x, "pool1")["pool1"].shape == (0, 16, 20, 16)


# ---- Memory, predicted and too little ----


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (5, 40, 36, 3)])
def test_memory_is_what_a_call_takes(log: Log, shape: tuple[int, ...], dtype: str) -> None:
    model = VGG(WEIGHTS, device="cuda")
    loaded = log.memory.used
    memory = model.memory(shape, dtype)
    assert memory.weights == loaded
    log.memory.most_used = log.memory.used
    x = draw(shape, dtype)
    y = model(x)
    assert log.memory.most_used == memory.total
    log.capacity = memory.total
    assert model(x).tobytes() == y.tobytes()
    assert log.memory.used == loaded
    assert memory.total == memory.weights + memory.input + memory.arena + memory.results


def parts_of(model: VGG, x: np.ndarray, sizes: list[int]) -> np.ndarray:
    edges = np.cumsum([0, *sizes])
    return np.concatenate([model(x[i:j]) for i, j in pairwise(edges)])


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_batch_that_does_not_fit_is_split_evenly(log: Log, on_gpu: bool) -> None:
    model, x = VGG(WEIGHTS, device="cuda"), draw((11, 32, 32, 3), "float16")
    expected = parts_of(VGG(WEIGHTS, device="emulator", arch="sm_90"), x, [4, 4, 3])
    given: Any = asarray(x) if on_gpu else x
    part = model.memory((5, 32, 32, 3))
    log.capacity = log.memory.used + part.arena + part.results
    log.capacity += 11 * part.results // 5 if on_gpu else part.input
    with recording() as entries:
        y = model(given)
    assert isinstance(y, ndarray) == on_gpu
    assert same(y, expected)
    first = [e for e in entries if "first" in e["kernel"]]
    assert [e["plan"]["tiling"]["gemm_m"] for e in first] == [n * 32 * 32 for n in (4, 4, 3)]
    log.capacity = 10**12
    with recording() as entries:
        assert model(given).shape == (11, 8)
    assert sum("first" in e["kernel"] for e in entries) == 1


def test_a_device_that_promised_too_much(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = VGG(WEIGHTS, device="cuda"), draw((8, 32, 32, 3), "float16")
    most = model.memory((3, 32, 32, 3))
    log.capacity = log.memory.used + most.total - most.weights
    monkeypatch.setattr(type(log), "free", property(lambda _: 10**12, lambda *_: None), False)
    monkeypatch.setattr("support.fake_cupy.LOG.allocator", object())  # nobody says what is free
    expected = parts_of(VGG(WEIGHTS, device="emulator", arch="sm_90"), x, [2, 2, 2, 2])
    assert same(model(x), expected)


@pytest.mark.parametrize("told", [True, False])
def test_an_image_that_does_not_fit(log: Log, told: bool) -> None:
    model, x = VGG(WEIGHTS, device="cuda"), draw((4, 64, 64, 3), "float16")
    log.capacity = log.memory.used + 4 * x[0].nbytes
    if not told:
        log.allocator = None
    with pytest.raises(MemoryError, match=r"a forward of \[1, 64, 64, 3\]: needs .* for the tens"):
        model(x)
    log.capacity = log.memory.used + 100
    with pytest.raises(OutOfMemoryError):
        model(x[:1])  # the upload itself
    assert log.launched_on == []


def test_results_that_do_not_fit(log: Log) -> None:
    model, x = VGG(WEIGHTS, device="cuda"), asarray(draw((6, 64, 64, 3), "float16"))
    one = model.features(x[:1], "relu1_1")["relu1_1"].nbytes
    log.capacity = log.memory.used + 4 * one
    with pytest.raises(MemoryError, match=r"a batch of \[6, 64, 64, 3\]: needs .* its results"):
        model.features(x, "relu1_1")


def test_more_pixels_than_a_launch_counts(model: VGG, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vgg_cuda.forward.MAX_PIXELS", 2 * 32 * 32 + 5)
    monkeypatch.setattr(EmulatorBackend, "batch_limit", None)
    x = draw((5, 32, 32, 3), "float16")
    for layout, images in (("NHWC", x), ("NCHW", x.transpose(0, 3, 1, 2))):
        with recording() as entries:
            y = model(images, layout=layout)
        assert sum("first" in e["kernel"] for e in entries) == 3
        assert y.tobytes() == parts_of(model, x, [2, 2, 1]).tobytes()


# ---- Graphs ----


def test_a_graph_is_the_call_again(model: VGG) -> None:
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


def test_the_first_launch_of_a_forward_begins_when_all_before_it_has_ended(log: Log) -> None:
    """Who makes the weights, which early launches read at once, is before it."""
    model, x = VGG(WEIGHTS, device="cuda"), draw((2, 32, 32, 3), "float16")
    del log.early[:]
    model(x)
    launches = len(log.early)
    assert launches > 5
    assert log.early == [False] + [True] * (launches - 1)
    model(x)
    assert log.early[launches:] == log.early[:launches]
    ops.relu(asarray(x))
    assert not log.early[-1]


def test_a_graph_on_a_gpu(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = VGG(WEIGHTS, device="cuda"), draw((2, 32, 32, 3), "float16")
    expected = model(x)
    before, loaded = log.synchronized, log.memory.used
    graph = model.capture((2, 32, 32, 3))
    assert log.synchronized > before  # what it uses may have been in use
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


def test_nobody_waits_for_a_gpu_that_captures(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_graph_and_pytorch(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from support.fake_cupy import fake_torch

    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    model, x = VGG(WEIGHTS, device="cuda"), draw((2, 32, 32, 3), "float16")
    y = model.capture(x.shape)(FakeTensor(x))
    assert isinstance(y, FakeTensor)
    assert y.array.tobytes() == model(x).tobytes()
    assert log.graphs_launched_on == [(0, 1000)]


@pytest.mark.parametrize("what", ["memory", "capture"])
def test_what_cannot_be_planned(model: VGG, what: str) -> None:
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


def test_what_a_graph_refuses(model: VGG) -> None:
    graph = model.capture((2, 32, 32, 3))
    with pytest.raises(ValueError, match=r"x: expected \[2, 32, 32, 3\], as captured, got"):
        graph(draw((1, 32, 32, 3), "float16"))
    with pytest.raises(TypeError, match="x: expected float16, as captured, got"):
        graph(draw((2, 32, 32, 3), "float32"))
    with pytest.raises(TypeError, match="expected an array"):
        graph([[1]])
    with pytest.raises(AttributeError):
        graph.x = draw((2, 32, 32, 3), "float16")  # it would go on reading the old one


def test_too_little_memory_for_a_graph(log: Log) -> None:
    model = VGG(WEIGHTS, device="cuda")
    memory = model.memory((4, 32, 32, 3))
    log.capacity = memory.total - 1
    with pytest.raises(MemoryError, match=r"a graph of \[4, 32, 32, 3\]: needs .* free on cuda:0"):
        model.capture((4, 32, 32, 3))
    log.capacity = memory.total
    model.capture((4, 32, 32, 3))


def test_a_graph_and_memory_of_tf32(log: Log) -> None:
    x = draw((2, 32, 32, 3), "float32")
    model = VGG(WEIGHTS, device="cuda", dtype="tf32")
    memory = model.memory(x.shape)
    assert memory == model.memory(x.shape, "float32")
    assert memory.input == x.nbytes
    graph = model.capture(x.shape)
    assert same(graph(x), VGG(WEIGHTS, device="emulator", dtype="tf32", arch="sm_90")(x))


def test_digits_in_probabilities(log: Log) -> None:
    weights = load_weights("digits")
    pixels = draw((5, 32, 32, 3), "uint8")
    expected = VGG(weights, device="emulator", arch="sm_90")(pixels)
    assert same(VGG(weights, device="cuda")(pixels), expected)
