"""``vgg-cuda profile``: where the time of a forward goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bench_fakes import FLAT, TINY, locally, tiny_file
from support.tolerance import assert_close

from vgg_cuda import VGG
from vgg_cuda.bench import profiling
from vgg_cuda.bench.clock import HostClock
from vgg_cuda.bench.options import Options, resolve
from vgg_cuda.bench.report import Report
from vgg_cuda.bench.suite import Suite
from vgg_cuda.configs import Config
from vgg_cuda.system.interruption import Interruption


@pytest.fixture(autouse=True)
def _small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    from vgg_cuda.bench.peers import ceilings

    monkeypatch.setattr(ceilings, "COPY_BYTES", 1 << 20)
    monkeypatch.setattr(ceilings, "SIDE", 64)


def profile(folder: Path, config: Config, **given: Any) -> Report:
    usual = {"network": tiny_file(folder, config), "size": 32, "device": "cpu", "noise": 1.0}
    asked = resolve(Options("profile", **usual | {"timeout": 0.05} | given))
    return Suite(asked, Interruption(), start=locally([])).run()


def test_a_row_for_every_operation(tmp_path: Path) -> None:
    report = profile(tmp_path, TINY, batches=(2,))
    names = [each.name for each in report.results]
    assert names == [
        *(f"conv{i}_1 pool{i}" for i in range(1, 6)), "fc6", "fc7",
    ]  # fmt: skip
    assert report.kind == "profile"
    assert sum(each.share for each in report.results) == pytest.approx(1)
    for each in report.results:
        assert (each.peer, each.status, each.batch, each.ratio) == ("vgg_cuda", "ok", 2, None)
        assert each.median_s > 0
        assert each.samples >= 3
        assert each.flops_per_s > 0
        assert each.bytes_per_s > 0
        assert each.of_floor > 0
        assert each.bound in ("compute", "memory")
        assert each.relative_error <= 2e-5
    assert report.results[1].flops == 2 * 2 * 16 * 16 * 9 * 8 * 16
    Report.to_json(report)


def test_pools_are_bound_by_memory(tmp_path: Path) -> None:
    report = profile(tmp_path, FLAT)
    last = report.results[-1]
    assert last.name == "avgpool"
    assert last.median_s is not None
    assert (last.flops, last.bound) == (0, "memory")
    Report.to_json(report)


def test_batches_are_profiles_of_their_own(tmp_path: Path) -> None:
    report = profile(tmp_path, TINY, batches=(1, 3))
    assert [each.batch for each in report.results] == [1] * 7 + [3] * 7
    Report.to_json(report)


def test_maxima_to_a_grid_are_an_operation(tmp_path: Path) -> None:
    config = replace(FLAT, name="maxima", pooling="max")
    model = VGG.load(tiny_file(tmp_path, config), device="cpu")
    x = np.random.default_rng(0).standard_normal((1, 32, 32, 3), dtype=np.float32)
    names = [each["name"] for each in profiling._EagerSteps(model, x).described]
    assert names == ["conv1_1", "conv1_2 pool1", "conv2_1 pool2", "adaptive_maxpool"]


def test_parts_of_a_large_batch_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts are the same as in a call on the CPU, and give its result."""
    model = VGG.load(tiny_file(tmp_path), device="cpu")
    x = np.random.default_rng(0).standard_normal((5, 32, 32, 3), dtype=np.float32)
    monkeypatch.setattr(profiling, "max_images", lambda *_: 2)
    ticks = iter(range(10**6))
    steps = profiling._EagerSteps(model, x, lambda: float(next(ticks)))
    assert [each["layers"] for each in steps.described][-1] == ["fc7"]
    assert_close(steps.result(), model(x))
    assert steps.seconds() == [3.0] * 7  # a tick for each of three parts
    program = profiling.profiled(model, HostClock(), x, lambda: None)  # type: ignore[arg-type, return-value]
    span = program.clock.time(lambda: program.call(0))
    assert len(span.parts) == 7
    assert span.total_s == pytest.approx(sum(span.parts))
