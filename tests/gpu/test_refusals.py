"""Kernels that the driver of a fake GPU refuses: other kernels compute the same results."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support.fake_cupy import Log, Stream, asarray, fake_gpus
from support.kernel_reference import draw

from vgg_cuda import _C, VGG, DeviceWarning, backends, ops
from vgg_cuda.backends import KernelError, get_backend, recording
from vgg_cuda.backends.families import PORTABLE
from vgg_cuda.backends.switches import DISABLE, switches
from vgg_cuda.configs import Config
from vgg_cuda.weights import he_weights

pytestmark = pytest.mark.emulator

WEIGHTS = he_weights(Config("small", (64, 64, "M", 128, 128, "M"), (64, 10), pool_grid=1), 3)
SHAPE = (3, 8, 12, 3)
X = draw(SHAPE, "float16")

IN_TURN = (
    ("halo",),  # swap_ab replaces it
    ("dense",),
    ("fused_conv1_block",),
    ("halo", "swap_ab"),  # the second one is refused in the second attempt
    ("halo", "swap_ab", "dense", "fused_conv1_block"),
)
families_in_turn = pytest.mark.parametrize("names", IN_TURN, ids="+".join)

Without = Callable[[tuple[str, ...], Callable[[], Any]], Any]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    with fake_gpus(monkeypatch, (9, 0), (9, 0)) as log:
        yield log
    switches.cache_clear()


@pytest.fixture
def without(log: Log, monkeypatch: pytest.MonkeyPatch) -> Without:
    """Run a function with kernel families switched off by the user."""

    def run(names: tuple[str, ...], function: Callable[[], Any]) -> Any:
        with monkeypatch.context() as patch:
            patch.setenv(DISABLE, ",".join(names))
            switches.cache_clear()
            backends._cuda.cache_clear()
            result = function()
        switches.cache_clear()
        backends._cuda.cache_clear()
        return result

    return run


def refuse(log: Log, names: tuple[str, ...]) -> None:
    log.refuses = lambda plan: plan.family in names


def bits(y: Any) -> bytes:
    return np.asarray(y.view(np.ndarray)).tobytes()


def refusals(names: tuple[str, ...]) -> Any:
    """Expect one warning for each family, in this order or another."""
    return pytest.warns(DeviceWarning, match=rf"cuda:0: the driver refused .*({'|'.join(names)})")


def reported(found: Any) -> list[str]:
    """Return the families that the warnings ``found`` name, in alphabetical order."""
    return sorted(str(each.message).split("family ")[1].split()[0] for each in found)


# ---- Single operations ----


def eager() -> list[bytes]:
    """Return the results of operations with kernels of all families."""
    w = [draw((k, 3, 3, c), "float16", 0.1, seed=k) for c, k in ((3, 64), (64, 64), (64, 128))]
    x, y = asarray(X), asarray(draw((2, 8, 8, 128), "float16"))
    found = [
        ops.fused_conv1_block(x, w[0], None, w[1], None),
        ops.conv3x3(ops.conv3x3(x, w[0]), w[2], relu=True, pool=True),
        ops.conv3x3(y, draw((128, 3, 3, 128), "float16", 0.1)),  # a split sum
        ops.linear(asarray(draw((5, 96), "float16")), draw((40, 96), "float16", 0.1)),
    ]
    assert bits(x) == X.tobytes()
    return [bits(y) for y in found]


@families_in_turn
def test_operations_are_planned_again(log: Log, without: Without, names: tuple[str, ...]) -> None:
    expected = without(names, eager)
    refuse(log, names)
    with refusals(names) as found:
        assert eager() == expected
    assert reported(found) == sorted(names)
    count = len(log.refused)
    assert count == len(names)
    assert eager() == expected
    assert len(log.refused) == count
    assert sorted(get_backend("cuda:0").families_off) == sorted(names)  # type: ignore[attr-defined]


def test_out_is_written_after_a_refusal(log: Log, without: Without) -> None:
    y, w = asarray(draw((2, 8, 8, 128), "float16")), draw((128, 3, 3, 128), "float16", 0.1)
    expected = without(("halo",), lambda: ops.conv3x3(y, w))
    refuse(log, ("halo",))
    out = asarray(np.zeros((2, 8, 8, 128), np.float16))
    with refusals(("halo",)):
        _, stats = ops.conv3x3(y, w, out=out, return_stats=True)
    assert bits(out) == bits(expected)
    assert stats["plan"]["family"] == "swap_ab"


def test_refusals_concern_one_device(log: Log) -> None:
    refuse(log, ("halo",))
    others = [get_backend("cuda:0", "sm_90a"), get_backend("cuda:1"), get_backend("emulator")]
    before: Any = get_backend("cuda:0")
    planner = before.plan
    with refusals(("halo",)):
        eager()
    assert before.plan is not planner
    assert before.families_off["halo"].startswith("refused by the driver: conv3x3_f16_halo_")
    assert [list(on.families_off) for on in others] == [["halo"], [], []]  # type: ignore[attr-defined]
    backends._cuda.cache_clear()
    assert list(get_backend("cuda:0").families_off) == ["halo"]  # type: ignore[attr-defined]


def test_portable_kernels_have_no_replacement(log: Log) -> None:
    log.refuses = lambda plan: True
    with pytest.raises(KernelError) as caught:
        ops.relu(asarray(X))
    assert str(caught.value) == (
        "cuda:0 refused relu_f16_v8, planned for sm_90a (relu_f16_v8: cudaErrorInvalidValue: "
        "invalid argument); environment variables that select other launches: "
        "VGG_CUDA_ARCH=sm_80, VGG_CUDA_PDL=0"
    )
    log.refuses = lambda plan: False
    assert ops.relu(asarray(X)).shape == X.shape


def test_other_errors_name_the_switches(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(plan: _C.Plan, *_: Any, **__: Any) -> None:
        raise _C.CudaError(f"{plan.kernel}: cudaErrorNotPermitted: operation not permitted")

    monkeypatch.setattr(_C, "linear", fail)
    text = (
        r"could not run linear_f16_dense.*, planned for sm_90a \(.*NotPermitted.*\); .* launches: "
        "VGG_CUDA_DISABLE=dense, VGG_CUDA_ARCH=sm_80, VGG_CUDA_PDL=0"
    )
    with pytest.raises(KernelError, match=text):
        ops.linear(asarray(draw((5, 96), "float16")), draw((40, 96), "float16"))


# ---- Whole forwards ----


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


@families_in_turn
@pytest.mark.parametrize("late", [False, True], ids=["before", "during"])
def test_captures_begin_again(
    log: Log, without: Without, names: tuple[str, ...], late: bool
) -> None:
    expected = without(names, lambda: bits(VGG(WEIGHTS, device="cuda")(X)))
    model = VGG(WEIGHTS, device="cuda")
    earlier = model.capture(SHAPE)
    kept, loaded = bits(earlier(X)), log.memory.used

    def planted(plan: _C.Plan) -> bool:
        return plan.family in names and (log.capturing is not None or not late)

    log.refuses = planted
    with refusals(names) as found:
        graph = model.capture(SHAPE)
    assert reported(found) == sorted(names)
    assert (log.capturing, log.streams, log.device) == (None, [0], 0)
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
