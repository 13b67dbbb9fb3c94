"""Benchmarks on a GPU: events, graphs and a cleared cache, which a fake GPU cannot show."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.bench_fakes import TINY, locally, tiny_file

from vgg_cuda.bench.options import Options, resolve
from vgg_cuda.bench.report import Report
from vgg_cuda.bench.suite import Suite
from vgg_cuda.system.interruption import Interruption

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    from vgg_cuda.bench.peers import ceilings

    monkeypatch.setattr(ceilings, "GPU_COPY_BYTES", 64 << 20)
    monkeypatch.setattr(ceilings, "GPU_SIDE", 1024)


def measured(folder: Path, **given: Any) -> Report:
    usual = {"kind": "model", "network": tiny_file(folder, TINY), "size": 32, "device": "cuda"}
    options = Options(**usual | {"batches": (1, 5), "timeout": 0.2, "peers": ()} | given)
    return Suite(resolve(options), Interruption(), start=locally([])).run()


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "plain"])
@pytest.mark.parametrize("dtype", ["float16", "tf32", "float32"])
@pytest.mark.parametrize("kind", ["model", "kernel"])
def test_benchmark_times_of_device_and_host(
    tmp_path: Path, kind: Any, dtype: str, graph: bool
) -> None:
    report = measured(tmp_path, kind=kind, dtype=dtype, graph=graph)
    assert set(report.ceilings) == {"copy", "matmul"}
    for row in report.results:
        assert row.status == "ok", row.reason
        assert row.how == ("CUDA graph" if graph else "plain calls")
        assert row.device_s == row.median_s
        assert 0 < row.median_s < 0.1
        assert 0 < row.enqueue_s < 0.1
        assert (row.host_to_device_s is not None) == (kind == "model")
        assert row.kernels
    Report.to_json(report)


@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
def test_benchmark_beside_pytorch(tmp_path: Path) -> None:
    report = measured(tmp_path, peers=("torch",), dtype="float16")
    for row in report.results:
        assert row.status in ("ok", "n/a"), row.reason  # a PyTorch without CUDA
        assert row.peer == "vgg_cuda" or row.status == "n/a" or row.ratio > 0


def test_profile_has_every_launch(tmp_path: Path) -> None:
    report = measured(tmp_path, kind="profile", batches=(4,), dtype="float16")
    assert [row.status for row in report.results] == ["ok"] * len(report.results)
    assert sum(row.share for row in report.results) == pytest.approx(1)
    assert all(0 < row.median_s < 0.1 for row in report.results)
