"""Planned forwards: their arenas, memory limits and split batches."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.fake_cupy import Log, OutOfMemoryError, asarray, fake_gpus, ndarray
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


def test_adaptive_maxpool_eager_and_planned(model: VGG) -> None:
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
    """Return the byte ranges of step i's x, y and workspace in the arena, ends excluded."""
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
def test_arena_tensors_do_not_overlap(n: int, size: int, wanted: Any, dtype: str) -> None:
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


def test_forward_does_not_allocate(model: VGG, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_results_survive_the_next_call(model: VGG) -> None:
    one, two = draw((1, 32, 32, 3), "float16"), draw((1, 32, 32, 3), "float16", seed=1)
    names = ["conv1_1", "pool2", "relu6", "fc8"]
    first = model.features(one, names)
    before = {name: y.copy() for name, y in first.items()}
    model.features(two, names)
    assert all(first[name].tobytes() == before[name].tobytes() for name in names)
    assert model.features(one, []) == {}


def test_avgpool_of_single_pixels_is_skipped() -> None:
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


def test_threads_do_not_share_arenas(model: VGG) -> None:
    images = [draw((1, 32 + 4 * i, 32, 3), "float16", seed=i) for i in range(4)]
    expected = [model(x).tobytes() for x in images]
    with ThreadPoolExecutor(4) as pool:
        for found in [pool.map(lambda x: model(x).tobytes(), images) for _ in range(3)]:
            assert list(found) == expected


def test_model_is_freed_without_collection() -> None:
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


def test_empty_batch_gives_empty_results(model: VGG, log: Log) -> None:
    gpu = VGG(WEIGHTS, device="cuda")
    x = draw((0, 32, 40, 3), "float32")
    for y in (model(x), gpu(x), gpu(asarray(x))):
        assert (y.shape, y.dtype) == ((0, 8), np.dtype("float16"))
    assert model.features(x, "pool1")["pool1"].shape == (0, 16, 20, 16)


# ---- Memory limits ----


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (5, 40, 36, 3)])
def test_memory_predicts_peak_of_call(log: Log, shape: tuple[int, ...], dtype: str) -> None:
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
def test_oversized_batch_is_split_evenly(log: Log, on_gpu: bool) -> None:
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


def test_batch_is_halved_after_failed_allocation(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = VGG(WEIGHTS, device="cuda"), draw((8, 32, 32, 3), "float16")
    most = model.memory((3, 32, 32, 3))
    log.capacity = log.memory.used + most.total - most.weights
    monkeypatch.setattr(type(log), "free", property(lambda _: 10**12, lambda *_: None), False)
    monkeypatch.setattr("support.fake_cupy.LOG.allocator", object())  # free memory is unknown
    expected = parts_of(VGG(WEIGHTS, device="emulator", arch="sm_90"), x, [2, 2, 2, 2])
    assert same(model(x), expected)


@pytest.mark.parametrize("reported", [True, False])
def test_oversized_image_raises_memory_error(log: Log, reported: bool) -> None:
    model, x = VGG(WEIGHTS, device="cuda"), draw((4, 64, 64, 3), "float16")
    log.capacity = log.memory.used + 4 * x[0].nbytes
    if not reported:
        log.allocator = None
    with pytest.raises(MemoryError, match=r"a forward of \[1, 64, 64, 3\]: needs .* for the tens"):
        model(x)
    log.capacity = log.memory.used + 100
    with pytest.raises(OutOfMemoryError):
        model(x[:1])  # the upload itself
    assert log.launched_on == []


def test_oversized_results_raise_memory_error(log: Log) -> None:
    model, x = VGG(WEIGHTS, device="cuda"), asarray(draw((6, 64, 64, 3), "float16"))
    one = model.features(x[:1], "relu1_1")["relu1_1"].nbytes
    log.capacity = log.memory.used + 4 * one
    with pytest.raises(MemoryError, match=r"a batch of \[6, 64, 64, 3\]: needs .* its results"):
        model.features(x, "relu1_1")


def test_batch_is_split_at_pixel_limit(model: VGG, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vgg_cuda.forward.MAX_PIXELS", 2 * 32 * 32 + 5)
    monkeypatch.setattr(EmulatorBackend, "batch_limit", None)
    x = draw((5, 32, 32, 3), "float16")
    for layout, images in (("NHWC", x), ("NCHW", x.transpose(0, 3, 1, 2))):
        with recording() as entries:
            y = model(images, layout=layout)
        assert sum("first" in e["kernel"] for e in entries) == 3
        assert y.tobytes() == parts_of(model, x, [2, 2, 1]).tobytes()


def test_first_launch_waits_for_earlier_work(log: Log) -> None:
    """Early launches read the weights at once, so packing them must have ended."""
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


def test_digits_probabilities_on_fake_gpu(log: Log) -> None:
    weights = load_weights("digits")
    pixels = draw((5, 32, 32, 3), "uint8")
    expected = VGG(weights, device="emulator", arch="sm_90")(pixels)
    assert same(VGG(weights, device="cuda")(pixels), expected)
