"""Tables and pictures in the pages show the newest results."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import bench_reports

from vgg_cuda.bench.output import write

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"


def _render() -> Any:
    spec = importlib.util.spec_from_file_location("render", ROOT / "bench" / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


render = _render()
CPU = "<!-- results: cpu -->\nold\n<!-- end of results -->\n"


def test_pictures_are_those_of_their_reports() -> None:
    assert list(render.stale_plots()) == [], "run `make results`"


def test_results_are_all_of_a_known_kind() -> None:
    kinds = ("cpu", "gpu", "cpu-kernel", "gpu-kernel", "cpu-profile", "gpu-profile")
    for path in RESULTS.glob("*.json"):
        kind = path.stem[11:]
        assert kind in kinds or kind.startswith("plan-"), path.name
    for path, report in render.reports().items():
        assert report.date[:10] == path.name[:10]
        assert report.device_kind == {"cpu": "cpu", "gpu": "cuda"}[path.stem[11:14]]
        assert not report.interrupted


def test_a_table_of_programs_and_batches(tmp_path: Path) -> None:
    report = bench_reports.model()
    report.results[1] = replace(
        report.results[1], status="wrong", median_s=None, ratio=None, reason="error 0.3"
    )
    write(report, tmp_path / "2026-11-28-cpu.json")
    text = render.render(CPU, tmp_path)
    lines = text.split("\n")
    assert lines[1] == "| per image | batch 1 | batch 8 | error | peak memory |"
    ours = report.results[0].median_s
    assert ours is not None
    assert f"| vgg_cuda 0.1.0 | {1e3 * ours:.0f} ms, {1 / ours:.2f}/s (1.00x) | " in text
    assert lines[3].endswith(" | 3e-07 | 1.14 GB |")
    assert lines[4].startswith("| torch 2.13.0+cpu | wrong | ")
    assert lines[6] == "| jax | n/a | n/a |  |  |"
    assert "jax, batch 1, 8: n/a (not installed: pip install jax)." in text
    assert "torch, batch 1: wrong (error 0.3)." in text
    assert "AMD EPYC, 2 cores, 2026-11-28" in text
    assert "](bench/results/2026-11-28-cpu.svg)" in text
    assert "](bench/results/2026-11-28-cpu.json)" in text
    assert text.endswith("\n<!-- end of results -->\n")
    assert render.render(text, tmp_path) == text


def test_another_figure_is_another_readme(tmp_path: Path) -> None:
    report = bench_reports.model()
    write(report, tmp_path / "2026-11-28-cpu.json")
    text = render.render(CPU, tmp_path)
    median = report.results[0].median_s
    assert median is not None
    report.results[0] = replace(
        report.results[0], median_s=1.1 * median, confidence_s=(median, 1.2 * median)
    )
    write(report, tmp_path / "2026-11-28-cpu.json")
    assert render.render(text, tmp_path) != text


def test_the_newest_is_shown(tmp_path: Path) -> None:
    (tmp_path / "2026-11-22-cpu.json").write_text('{"schema": 1, "results": []}')
    for day in ("2026-11-27", "2026-11-28"):
        write(bench_reports.model(date=f"{day}T12:00:00+00:00"), tmp_path / f"{day}-cpu.json")
    write(bench_reports.layers(), tmp_path / "2026-11-29-cpu-kernel.json")
    text = render.render(CPU, tmp_path)
    assert "2026-11-28-cpu.json" in text
    assert "2026-11-27" not in text


def test_gpu_results_appear_when_there_are_some(tmp_path: Path) -> None:
    gpu = CPU.replace("cpu", "gpu")
    assert "No GPU measurement yet." in render.render(gpu, tmp_path)
    fields = {"device": "NVIDIA H200", "device_kind": "cuda"}
    write(bench_reports.model((1, 64), **fields), tmp_path / "2026-12-01-gpu.json")
    text = render.render(gpu, tmp_path)
    assert "No GPU" not in text
    assert "NVIDIA H200, 2026-11-28" in text
    layers = CPU.replace("cpu", "layers")
    assert "No GPU measurement yet." in render.render(layers, tmp_path)
    write(bench_reports.layers(**fields), tmp_path / "2026-12-01-gpu-kernel.json")
    text = render.render(layers, tmp_path, "../")
    assert "| conv3_2 |" in text.replace("\\", "")
    assert "](../bench/results/2026-12-01-gpu-kernel.svg)" in text


def test_predictions_come_from_the_plan(tmp_path: Path) -> None:
    plan = CPU.replace("cpu", "plan")
    assert "No plan yet." in render.render(plan, tmp_path)
    name = "2026-11-23-plan-vgg16-sm_90a-n64.json"
    data = {"total": {"floor_us": 80.0, "tiled_us": 100.0}}
    (tmp_path / name).write_text(json.dumps(data))
    text = render.render(plan, tmp_path)
    assert "reach 80 % of\nthe speed" in text
    assert f"]({'bench/results/' + name})" in text


def test_unknown_sections_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"results: expected one of cpu, .*, got 'unknown'"):
        render.render(CPU.replace("cpu", "unknown"), tmp_path)


def test_pictures_that_are_out_of_date_are_found(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "2026-11-28-cpu.json"
    report = bench_reports.model((1,))
    write(report, path)
    picture = path.with_suffix(".svg")
    assert list(render.stale_plots(tmp_path)) == [picture]
    render.plot(report, picture)
    assert render.stale_plots(tmp_path) == {}
    write(replace(report, seed=1), path)
    assert list(render.stale_plots(tmp_path)) == [picture]
