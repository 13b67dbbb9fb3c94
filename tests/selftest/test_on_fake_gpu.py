"""The work of child processes on a fake GPU: launches, maps, forwards and graphs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from support.fake_cupy import Log, fake_gpus

from vgg_cuda import _C, DeviceWarning
from vgg_cuda.configs import Config
from vgg_cuda.selftest import cases, forwards, kernels, worker
from vgg_cuda.selftest.launches import Target
from vgg_cuda.selftest.outcome import Event, Job
from vgg_cuda.selftest.tally import Tally

pytestmark = pytest.mark.emulator


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Install a GPU with 20 SMs, which get less than one tile each, for the sake of speed."""
    monkeypatch.setattr(cases, "WAVES", 0.1)
    with fake_gpus(monkeypatch, (9, 0)) as found:
        yield found


@pytest.fixture
def target(log: Log) -> Target:
    return Target("cuda", "sm_90a")


def some(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """Keep two cases of a family with float64 and an exact one."""
    real = cases.family_cases

    def few(*arguments: Any) -> Iterator[cases.Case]:
        found = list(real(*arguments))
        yield from found[:2]
        yield next(case for case in found if case.exact)

    monkeypatch.setattr(kernels, "family_cases", few)


def test_kernels_of_a_family(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    some(monkeypatch, "fused_conv1_block")
    events: list[Event] = []
    tally = Tally(events.append)
    kernels.family(target, tally, "fused_conv1_block")
    found = tally.outcome()
    assert (found.verdict, found.detail, found.cases) == ("ok", "", 3)
    assert 0 < found.worst < 1
    assert len(events) == 3


def test_one_wrong_bit_of_an_exact_result(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of float64 cannot show it."""
    some(monkeypatch, "dense")
    run = Target.run

    def planted(self: Target, case: cases.Case, *arguments: Any) -> Any:
        found = run(self, case, *arguments)
        if case.exact and case.variant:
            found[-1].y.view("u2")[0, 5] ^= 1
        return found

    monkeypatch.setattr(Target, "run", planted)
    tally = Tally(lambda _: None)
    kernels.family(target, tally, "dense")
    found = tally.outcome()
    assert (found.verdict, found.families) == ("wrong", {"dense": "wrong"})
    assert "1 of " in found.detail
    assert " elements differ from the result of linear_" in found.detail


def test_maps_name_refused_families(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    every = list(islice(cases.vgg16_cases(target.arch, ["float16"]), 60))
    monkeypatch.setattr(kernels, "vgg16_cases", lambda *_: every)
    monkeypatch.setattr(kernels, "family_cases", lambda *_: [])
    monkeypatch.setattr(kernels, "portable_cases", lambda *_: [])
    real = _C.conv3x3

    def refuses(plan: _C.Plan, *arguments: Any, **options: Any) -> None:
        if plan.family == "swap_ab":
            raise _C.LaunchRefused(f"{plan.kernel}: planted")
        real(plan, *arguments, **options)

    monkeypatch.setattr(_C, "conv3x3", refuses)
    tally = Tally(lambda _: None)
    kernels.maps(target, tally)
    found = tally.outcome()
    assert (found.verdict, found.families) == ("refused", {"swap_ab": "refused"})
    assert found.cases == 60


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the networks small."""
    small = Config("small", (64, 64, "M", 128, "M"), (10,), pool_grid=1)
    for name in ("SMALL", "LARGE"):
        monkeypatch.setattr(forwards, name, small)
    monkeypatch.setattr(forwards, "SMALL_SHAPE", (1, 8, 8, 3))
    monkeypatch.setattr(forwards, "LARGE_SIDE", 8)
    monkeypatch.setattr(forwards, "LARGE_BATCHES", {2: 1.0, 3: 0.5})


def test_forwards_and_graphs_have_the_same_bits(target: Target, small: None) -> None:
    plain, graph, planted = (Tally(lambda _: None) for _ in range(3))
    forwards.forward(target, plain, 2)
    assert plain.outcome().verdict == "ok"
    assert len(plain.digests) == 4
    forwards.graph(target, graph, 2, plain.digests)
    assert graph.outcome().verdict == "ok"
    name = next(iter(plain.digests))
    forwards.again(target, planted, 1, {**plain.digests, name: "another"})
    found = planted.outcome()
    assert found.verdict == "wrong"
    assert found.detail == f"{name}: repeat 1 differs from a forward without early launches"
    assert "halo" in found.families


def test_forward_reports_replaced_families(
    log: Log, target: Target, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver refuses a launch: the results are right, but the family is off."""
    monkeypatch.setattr(forwards, "LARGE_BATCHES", {})
    log.refuses = lambda plan: plan.family == "dense"
    sent: list[Event] = []
    with pytest.warns(DeviceWarning, match="dense"):
        outcome = worker.tested(Job("forward", "cuda", "sm_90a"), sent.append)
    assert (outcome.verdict, outcome.families) == ("refused", {"dense": "refused"})
