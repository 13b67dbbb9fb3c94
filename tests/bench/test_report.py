"""Reports are read back as they were written, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import bench_reports

from vgg_cuda.bench.output import write
from vgg_cuda.bench.report import MAX_BYTES, from_object, read


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(bench_reports.model(), id="model"),
        pytest.param(bench_reports.layers("kernel", ("vgg_cuda", "torch")), id="kernel"),
        pytest.param(bench_reports.layers("profile"), id="profile"),
        pytest.param(bench_reports.report([], interrupted=True), id="nothing-measured"),
    ],
)
def test_round_trip(report: Any, tmp_path: Path) -> None:
    report.settings = {"batches": [1, 8], "noise": 0.03, "graph": None}
    report.environment = {"before": {"load_average": [0.1, 0.2, 0.3]}}
    write(report, tmp_path / "r.json")
    assert read(tmp_path / "r.json") == report
    text = (tmp_path / "r.json").read_text()
    assert text == read(tmp_path / "r.json").to_json()
    assert text.endswith("}\n")


def test_absent_fields_of_results_are_left_out() -> None:
    data = json.loads(bench_reports.model((1,)).to_json())
    assert data["schema"] == 2
    assert data["driver"] is None
    last = data["results"][-1]
    assert set(last) == {"name", "peer", "batch", "size", "dtype", "status", "reason"}


def test_numpy_floats_are_written_as_numbers(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    report = bench_reports.model((1,))
    report.results = [replace(report.results[0], load_s=np.float64(0.5))]
    write(report, tmp_path / "r.json")
    assert read(tmp_path / "r.json").results[0].load_s == 0.5


def test_invalid_report_is_not_written(tmp_path: Path) -> None:
    report = bench_reports.model((1,))
    report.results[0] = replace(report.results[0], relative_error=float("nan"))
    with pytest.raises(ValueError, match=r"results\[0\].relative_error: expected `float` >= 0"):
        write(report, tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


FILES = {
    "empty": (b"", "not JSON"),
    "text": (b"batch,median\n1,2\n", "not JSON"),
    "binary": (b"\x89PNG\r\n\xff\xfe", "not JSON"),
    "no-utf-8": (b'{"schema": "\xff"}', "not JSON"),
    "cut-short": (bench_reports.model().to_json()[:900].encode(), "not JSON"),
    "a-list": (b"[]", "expected an object with a schema"),
    "another-object": (b'{"weights": 1}', "expected an object with a schema"),
    "nested": (b"[" * 200_000, "nested too deeply"),
    "nested-settings": (
        bench_reports.model().to_json().replace("{}", "[" * 5000 + "]" * 5000, 1).encode(),
        "nested too deeply",
    ),
    "nan": (b'{"schema": NaN}', "not JSON"),
    "infinity": (b'{"schema": 2, "seed": Infinity}', "not JSON"),
    "schema-1": (b'{"schema": 1, "results": []}', "schema: expected 2, got '1': measure again"),
    "schema-true": (b'{"schema": true}', "schema: expected 2, got 'True'"),
    "schema-3": (b'{"schema": 3}', "schema: expected 2, got '3'"),
    "many-digits": (b'{"schema": ' + b"1" * 5000 + b"}", "out of range|schema"),
    "huge": (b" " * (MAX_BYTES + 1), "expected at most 32 MiB"),
}


@pytest.mark.parametrize("name", FILES)
def test_other_files_give_one_error(name: str, tmp_path: Path) -> None:
    data, message = FILES[name]
    path = tmp_path / "r.json"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_missing_files_raise_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"none\.json"):
        read(tmp_path / "none.json")
    with pytest.raises(OSError, match="directory"):
        read(tmp_path)


TOP = {
    "seed-fraction": ("seed", 1.5, "seed: expected `int`, got `float`"),
    "seed-bool": ("seed", True, "seed: expected `int`, got `bool`"),
    "seed-huge": ("seed", 10**30, "seed: expected `int` <= 9223372036854775807"),
    "date": ("date", "yesterday", "date: expected UTC"),
    "date-lines": ("date", "2026-11-28T12:00:00Z\n", "date: expected UTC"),
    "kind": ("kind", "layer", "kind: invalid enum value 'layer'"),
    "device-kind": ("device_kind", None, "device_kind: expected `str`, got `null`"),
    "versions": ("versions", {"torch": 2.13}, r"versions\[...\]: expected `str`, got `float`"),
    "results-object": ("results", {}, "results: expected `array`, got `object`"),
    "results-text": ("results", ["x"], r"results\[0\]: expected `object`, got `str`"),
    "ceilings": ("ceilings", {"copy": {"median_s": 1}}, "missing required field `samples`"),
    "ceiling-0": (
        "ceilings", {"copy": {"median_s": 0, "samples": 3}},
        r"ceilings\[...\].median_s: expected `float` > 1e-12",
    ),
    "unknown": ("colour", "red", "colour: unknown field; expected one of kind, "),
}  # fmt: skip


@pytest.mark.parametrize("name", TOP)
def test_a_bad_field_is_named(name: str) -> None:
    field, value, message = TOP[name]
    data = json.loads(bench_reports.model((1,)).to_json())
    with pytest.raises(ValueError, match=message):
        from_object(data | {field: value})


RESULTS = {
    "missing": ({"status": None}, r"results\[0\].status: expected `str`, got `null`"),
    "batch-0": ({"batch": 0}, r"results\[0\].batch: expected `int` >= 1"),
    "batch-text": ({"batch": "1"}, r"results\[0\].batch: expected `int`, got `str`"),
    "negative": ({"median_s": -1.0}, "median_s: expected `float` > 1e-12"),
    "beyond": ({"flops": 1e99}, "flops: expected `float` < 1e\\+30"),
    "percentile": ({"percentiles_s": {"p99": -1}}, r"percentiles_s\[...\]: expected `float` >= 0"),
    "interval-of-3": ({"confidence_s": [1, 2, 3]}, "confidence_s: expected `array` of length 2"),
    "interval-apart": ({"confidence_s": [8.0, 9.0]}, "expected an interval that holds median_s"),
    "no-interval": ({"confidence_s": None}, "median_s: expected samples and confidence_s with it"),
    "no-error": ({"relative_error": None}, "relative_error: expected a number with status 'ok'"),
    "no-time": ({"median_s": None}, "median_s: expected a time, or the emulator's counters"),
    "wrong-time": (
        {"status": "wrong", "reason": "x"},
        "median_s: expected none with status 'wrong'",
    ),
    "no-reason": (
        {"status": "failed", "median_s": None},
        "reason: expected one with status 'failed'",
    ),
    "kernels": ({"kernels": ["a", 1]}, r"kernels\[1\]: expected `str`, got `int`"),
    "unknown": ({"speed": 1}, r"results\[0\].speed: unknown field"),
    "long": ({"name": ["x" * 10**6]}, r"name: expected `str`, got `array`$"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_bad_result_is_named(name: str) -> None:
    change, message = RESULTS[name]
    data = json.loads(bench_reports.model((1,)).to_json())
    data["results"][0] |= change
    with pytest.raises(ValueError, match=message) as error:
        from_object(data)
    assert len(str(error.value)) < 1500


def test_duplicate_results_are_refused() -> None:
    data = json.loads(bench_reports.model((1,)).to_json())
    data["results"].append(data["results"][0])
    with pytest.raises(ValueError, match=r"results\[4\]: a second result for vgg16, vgg_cuda"):
        from_object(data)


def test_every_field_of_the_schema_is_described() -> None:
    from dataclasses import fields

    from vgg_cuda.bench.report import Report, Result

    text = (Path(__file__).parents[2] / "bench" / "results" / "README.md").read_text()
    for field in [*fields(Report), *fields(Result)]:
        assert f"`{field.name}`" in text, field.name
