"""Models that tune on the fake GPU, whose clock has made-up times."""

from __future__ import annotations

import numpy as np
import pytest
from support.fake_cupy import Log
from support.tuning import (
    FAST,
    SIDE,
    Launches,
    MadeUpTimer,
    entries_of,
    images,
    model,
    planned,
    weights,
)

from vgg_cuda import _C, VGG, DeviceWarning, backends, verify
from vgg_cuda.backends.switches import TUNE, switches

pytestmark = pytest.mark.emulator


def forget_backends() -> None:
    switches.cache_clear()
    backends._cuda.cache_clear()


CONVS, DENSE = ["m64n64"] * 3, ["dense_m16"] * 2
TUNED = ["conv3x3", *CONVS, "avgpool", *DENSE, "softmax"]  # the block is apart


def test_model_launches_the_fastest(timer: MadeUpTimer, launches: Launches) -> None:
    tuned, never = model("now"), model("never")
    assert planned(tuned) == TUNED
    assert planned(never)[0] == "fused_conv1_block"
    assert set(planned(never)).isdisjoint(FAST.values())
    launches.plans.clear()
    y = tuned(images())
    assert [plan.variant for plan in launches.plans] == ["", *CONVS, *DENSE]
    assert verify(tuned, weights(), images()).ok
    assert np.abs(np.asarray(y) - np.asarray(never(images()))).max() < 1e-2


def test_entries_have_what_was_found(timer: MadeUpTimer) -> None:
    tuned = model("now")
    planned(tuned)
    found = entries_of(tuned)
    assert len(found) == 6  # a block, three convolutions, two dense layers
    [block] = [entry for entry in found.values() if entry.op == "fused_conv1_block"]
    assert (block.variant, block.planned) == ("apart", "fused")
    assert block.times["fused"] == pytest.approx(9)
    second = next(entry for entry in found.values() if entry.sizes == (2, 16, 16, 64, 64))
    assert block.times["apart"] == pytest.approx(2 + second.time)
    for entry in found.values():
        assert entry.times[entry.variant] == min(entry.times.values())
        assert entry.planned in entry.times
        assert not entry.dropped


def test_estimates_rule_out_the_slowest(timer: MadeUpTimer) -> None:
    tuned = model("now")
    planned(tuned)
    arch = tuned._backend.arch  # type: ignore[attr-defined]
    skipped = 0
    for entry in entries_of(tuned).values():
        if entry.op == "fused_conv1_block":
            continue
        plan, names = getattr(_C, f"plan_{entry.op}"), getattr(_C, f"{entry.op}_variants")
        plans = [
            plan(*entry.sizes, **entry.options, arch=arch, variant=name)
            for name in names(*entry.sizes, **entry.options, arch=arch)
        ]
        for portable in (True, False):
            kind = [plan for plan in plans if (plan.family == "portable") == portable]
            limit = 1.5 * min(plan.estimate["cycles"] for plan in kind)
            near = {plan.variant for plan in kind if plan.estimate["cycles"] <= limit}
            assert near == {plan.variant for plan in kind} & set(entry.times)
        assert entry.candidates == len(plans)
        skipped += len(plans) - len(entry.times)
    assert skipped > 0


def test_cached_measures_nothing(timer: MadeUpTimer) -> None:
    before = planned(model("cached"))
    assert before == planned(model("never"))
    tuned = planned(model("now"))
    count = len(timer.measured)
    assert planned(model("cached")) == tuned
    assert planned(model("cached"), n=1) == planned(model("never"), n=1)  # another batch
    assert planned(model("now")) == tuned
    assert len(timer.measured) == count


def test_default_is_the_environment_variable(
    timer: MadeUpTimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VGG_CUDA_TUNE", "now")
    switches.cache_clear()
    assert planned(VGG(weights(), device="cuda")) == TUNED


def test_bad_mode() -> None:
    with pytest.raises(ValueError, match="tune: expected one of never, cached, now, got 'always'"):
        VGG.load("digits", tune="always")
    with pytest.raises(ValueError, match="tune: expected one of"):
        VGG.from_config("vgg11", tune="")


def test_cpu_ignores_tuning() -> None:
    image = np.zeros((1, 32, 32, 3), np.uint8)
    assert np.array_equal(*(VGG.load("digits", device="cpu", tune=t)(image) for t in TUNE[1:]))


def test_wrong_and_refused_kernels_are_dropped(
    log: Log, timer: MadeUpTimer, launches: Launches
) -> None:
    timer.price = lambda plan: 1.0 if plan.family == "portable" else 1e-6
    fast = planned(model("never"))[1]
    assert fast.startswith("halo")
    launches.wrong = {fast}
    log.refuses = lambda plan: plan.variant == "dense_m16"
    tuned = model("now")
    with pytest.warns(DeviceWarning) as warned:
        names = planned(tuned)
    assert not {fast, "dense_m16"} & set(names)
    texts = [str(w.message) for w in warned]
    assert any(f"{fast} is not used: its result differs" in t and "selftest" in t for t in texts)
    assert any("dense_m16 is not used" in t and "cudaErrorInvalidValue" in t for t in texts)
    for entry in entries_of(tuned).values():
        assert not set(entry.dropped) & set(entry.times)
    launches.wrong, log.refuses = set(), lambda plan: False
    assert planned(model("cached")) == names
    assert np.isfinite(np.asarray(tuned(images()))).all()


def test_memory_that_is_too_small_keeps_the_estimate(log: Log, timer: MadeUpTimer) -> None:
    tuned = model("now")
    log.free = 440_000
    with pytest.warns(DeviceWarning, match=r"tuning conv3x3 .*: needs .* are free on cuda:0"):
        names = planned(tuned)
    widest = planned(model("never"))[2]
    assert names == ["conv3x3", *CONVS[:2], widest, "avgpool", *DENSE, "softmax"]
    assert all(
        entry.sizes[-1] == 64 or entry.op == "linear" for entry in entries_of(tuned).values()
    )


def test_only_batches_that_run_are_measured(log: Log, timer: MadeUpTimer) -> None:
    """Memory is too small for the whole batch, and to measure its parts' largest layers."""
    tuned = model("now")
    memory = model("never").memory((3, SIDE, SIDE, 3), "uint8")
    log.capacity = log.memory.used + memory.total - memory.weights
    with pytest.warns(DeviceWarning) as warned:
        y = tuned(images(4))
    assert np.isfinite(np.asarray(y)).all()
    batches = {entry.sizes[0] for entry in entries_of(tuned).values()}
    failed = {str(w.message).split()[2].partition("x")[0] for w in warned}
    assert (batches, failed) == ({2}, {"2"})


def test_capture_launches_what_was_tuned_before(
    log: Log, timer: MadeUpTimer, launches: Launches
) -> None:
    tuned = model("now")
    graph = tuned.capture((2, SIDE, SIDE, 3), "uint8")
    assert timer.measured
    assert [plan.variant for plan in launches.plans[-6:]] == ["", *CONVS, *DENSE]
    y = np.array(graph(images()))
    assert np.array_equal(y, np.asarray(tuned(images())))


def test_nothing_is_measured_while_a_stream_captures(
    log: Log, timer: MadeUpTimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = model("now")
    monkeypatch.setattr(type(tuned._backend), "is_capturing", lambda self: True)
    assert planned(tuned) == planned(model("never"))
    assert not timer.measured


def test_families_that_are_off(timer: MadeUpTimer, monkeypatch: pytest.MonkeyPatch) -> None:
    timer.price = lambda plan: 1.0 if plan.family == "portable" else 1e-6
    tuned = model("now")
    names = planned(tuned)
    assert any(name.startswith("halo") for name in names)
    monkeypatch.setenv("VGG_CUDA_DISABLE", "halo")
    forget_backends()
    without = planned(model("cached"))
    assert not any(name.startswith("halo") for name in without)
    planned(model("now"))  # measures what had chosen a halo kernel, and keeps the other entries
    monkeypatch.delenv("VGG_CUDA_DISABLE")
    forget_backends()
    assert planned(model("cached")) == names


def test_refusal_at_a_call_plans_with_other_entries(
    log: Log, timer: MadeUpTimer, launches: Launches
) -> None:
    timer.price = lambda plan: 1.0 if plan.family == "portable" else 1e-6
    planned(model("now"))
    cached = model("cached")
    assert any(name.startswith("halo") for name in planned(cached))
    expected = np.asarray(model("never")(images()))
    log.refuses = lambda plan: plan.family == "halo"
    with pytest.warns(DeviceWarning, match="the family halo are off"):
        y = np.asarray(cached(images()))
    assert not any(name.startswith("halo") for name in planned(cached))
    assert np.abs(y - expected).max() < 1e-2


def test_cleared_cache_for_small_operands(timer: MadeUpTimer) -> None:
    planned(model("now"))
    assert all(timer.cleared)
    timer.cache_bytes = 1
    timer.cleared.clear()
    planned(model("now"), n=1)
    assert not any(timer.cleared)
