"""Forwards with a kernel that the driver of a fake GPU refuses: they run again from their start."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.fake_cupy import Log, Stream, asarray
from support.kernel_reference import draw
from support.refused_kernels import (
    IN_TURN,
    Without,
    bits,
    families_in_turn,
    refusals,
    refuse,
    reported,
    run_without,
    two_gpus,
)

from vgg_cuda import _C, VGG, DeviceWarning
from vgg_cuda.backends import KernelError, recording
from vgg_cuda.backends.families import PORTABLE
from vgg_cuda.configs import Config
from vgg_cuda.weights import he_weights

pytestmark = pytest.mark.emulator

WEIGHTS = he_weights(Config("small", (64, 64, "M", 128, 128, "M"), (64, 10), pool_grid=1), 3)
SHAPE = (3, 8, 8, 3)
X = draw(SHAPE, "float16")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    yield from two_gpus(monkeypatch)


@pytest.fixture
def without(log: Log, monkeypatch: pytest.MonkeyPatch) -> Without:
    return run_without(monkeypatch)


@families_in_turn
def test_forwards_run_from_their_start(log: Log, without: Without, names: tuple[str, ...]) -> None:
    def kernels() -> tuple[bytes, list[str]]:
        with recording() as launched:
            y = VGG(WEIGHTS, device="cuda")(X)
        return bits(y), [entry["kernel"] for entry in launched]

    expected = without(names, kernels)
    model = VGG(WEIGHTS, device="cuda")
    model(X)  # its plans are kept, and have kernels of all families
    loaded, before = log.memory.used, model.memory(SHAPE)
    log.memory.most_used = 0
    refuse(log, names)
    with refusals(names) as found, recording() as launched:
        y = model(X)
    assert reported(found) == sorted(names)
    assert (bits(y), [entry["kernel"] for entry in launched]) == expected
    assert not log.early[-len(launched)]
    assert all(log.early[1 - len(launched) :])
    after = model.memory(SHAPE)
    assert log.memory.most_used == max(before.total, after.total)  # never both arenas
    assert log.memory.used == loaded
    assert bits(model(asarray(X))) == expected[0]
    assert len(log.refused) == len(names)


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize(("names", "size"), [(("halo",), 3), (("halo", "swap_ab"), 1)])
def test_parts_of_a_batch(
    log: Log, without: Without, names: tuple[str, ...], size: int, on_gpu: bool
) -> None:
    """Parts of three images are planned again; if they need more memory then, each image alone."""
    pixels = draw((6, *SHAPE[1:]), "float16")
    given: Any = asarray(pixels) if on_gpu else pixels
    parts = [pixels[i : i + size] for i in range(0, 6, size)]
    expected = without(names, lambda: [VGG(WEIGHTS, device="cuda")(part) for part in parts])
    model = VGG(WEIGHTS, device="cuda")
    before = model.memory((5, *SHAPE[1:]))
    log.capacity = log.memory.used + before.total - before.weights - 1
    refuse(log, names)
    with refusals(names), recording() as launched:
        y = model(given)
    assert bits(y) == b"".join(map(bits, expected))
    assert len(log.refused) == len(names)
    kernels = [entry["kernel"] for entry in launched]
    assert kernels == kernels[: len(kernels) // len(parts)] * len(parts)


def test_image_without_memory_for_its_second_plan(log: Log, without: Without) -> None:
    names, one = ("halo", "swap_ab"), (1, *SHAPE[1:])
    expected = without(names, lambda: bits(VGG(WEIGHTS, device="cuda")(X)))
    model = VGG(WEIGHTS, device="cuda")
    log.capacity = log.memory.used - model.memory(one).weights + model.memory(one).total
    refuse(log, names)
    with refusals(names), pytest.raises(MemoryError, match=r"a forward of \[1, .*smaller images"):
        model(X[:1])
    log.capacity = 10**12
    assert bits(model(X)) == expected


def test_threads_meet_refusals_together(log: Log, without: Without) -> None:
    names = ("halo", "swap_ab", "dense", "fused_conv1_block")
    expected = without(names, lambda: bits(VGG(WEIGHTS, device="cuda")(X)))
    model = VGG(WEIGHTS, device="cuda")
    refuse(log, names)
    with refusals(names) as found, ThreadPoolExecutor(4) as pool:
        assert {bits(y) for y in pool.map(model, [X] * 8)} == {expected}
    assert reported(found) == sorted(names)


def test_warnings_as_errors_end_one_call(log: Log, without: Without) -> None:
    expected = without(("halo",), lambda: bits(VGG(WEIGHTS, device="cuda")(X)))
    model = VGG(WEIGHTS, device="cuda")
    refuse(log, ("halo",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DeviceWarning, match="halo"):
            model(X)
        assert bits(model(X)) == expected


# ---- Captured forwards ----


@pytest.mark.parametrize(
    ("names", "late"), [*((names, False) for names in IN_TURN), (IN_TURN[-1], True)]
)
def test_captures_begin_again(
    log: Log, without: Without, names: tuple[str, ...], late: bool
) -> None:
    expected = without(names, lambda: bits(VGG(WEIGHTS, device="cuda")(X)))
    model = VGG(WEIGHTS, device="cuda")
    earlier = model.capture(SHAPE)
    kept, loaded, waited = bits(earlier(X)), log.memory.used, log.synchronized

    def planted(plan: _C.Plan) -> bool:
        return plan.family in names and (log.capturing is not None or not late)

    log.refuses = planted
    with refusals(names) as found:
        graph = model.capture(SHAPE)
    assert reported(found) == sorted(names)
    assert (log.capturing, log.streams, log.device) == (None, [0], 0)
    assert log.synchronized - waited == 2 * (1 + len(names))  # also before arrays are freed
    assert log.memory.used - loaded == graph.memory.total - graph.memory.weights
    assert graph.memory == model.memory(SHAPE, "float16")
    assert bits(graph(X)) == expected
    assert bits(earlier(X)) == kept
    assert bits(model(X)) == expected


def test_capture_that_an_error_has_ended(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    end = Stream.end_capture

    def ended(stream: Stream) -> Any:
        end(stream)
        raise RuntimeError("cudaErrorStreamCaptureInvalidated")

    model = VGG(WEIGHTS, device="cuda")
    log.refuses = lambda plan: plan.family == PORTABLE and log.capturing is not None
    monkeypatch.setattr(Stream, "end_capture", ended)
    with pytest.raises(KernelError, match="cuda:0 refused"):
        model.capture(SHAPE)
    assert log.capturing is None
