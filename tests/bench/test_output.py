"""Reports on the screen and in files: readable, whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import bench_reports

from vgg_cuda.bench import output
from vgg_cuda.bench.columns import cells, significant
from vgg_cuda.bench.report import Result, read
from vgg_cuda.cli import bench_table as table

REPORTS = {
    "model": bench_reports.model(),
    "kernel": bench_reports.layers("kernel", ("vgg_cuda", "torch")),
    "profile": bench_reports.layers("profile"),
    "nothing-measured": bench_reports.report([], interrupted=True),
}


@pytest.mark.parametrize("name", REPORTS)
def test_columns_are_aligned(name: str) -> None:
    lines = table.text(cells(REPORTS[name])).split("\n")
    assert lines == [line.rstrip() for line in lines]
    rows = lines[4 : lines.index("", 4)]
    assert len(rows) == len(REPORTS[name].results)
    heading = lines[2]
    end = heading.index("batch") + len("batch")
    for row, result in zip(rows, REPORTS[name].results, strict=True):
        assert row[:end].endswith(f" {result.batch}")


def test_missing_results_have_a_reason() -> None:
    text = table.text(cells(bench_reports.model()))
    assert "jax, batch 1, 8: n/a (not installed: pip install jax)" in text
    wrong = Result(
        name="vgg16", peer="torch", batch=1, dtype="float16", status="wrong", relative_error=0.5,
        reason="relative error 0.5, at most 2e-3",
    )  # fmt: skip
    found = cells(bench_reports.report([wrong]))
    assert dict(zip(found.headings, found.rows[0], strict=True)) == {
        "program": "torch", "batch": "1", "ms": "wrong", "error": "5.0e-01",
    }  # fmt: skip
    assert "torch, batch 1: wrong (relative error 0.5, at most 2e-3)" in found.notes


def test_counters_stand_in_for_times() -> None:
    counted = Result(
        name="conv3_2", peer="vgg_cuda", batch=1, dtype="float16", status="ok",
        relative_error=1e-3, counters={"mma": 36864, "ldmatrix": 18432},
    )  # fmt: skip
    report = bench_reports.report([counted], kind="kernel", device_kind="emulator")
    assert "conv3_2: mma 36,864, ldmatrix 18,432" in cells(report).notes


def test_notes_name_interruption_and_versions() -> None:
    found = cells(bench_reports.model(interrupted=True))
    assert found.notes[0] == "interrupted: the measurements until then"
    assert "torch 2.13.0+cpu; commit 0123456789ab" in found.notes[-1]


@pytest.mark.parametrize(
    ("bound", "why"), [("compute", "Winograd"), ("memory", "faster than a copy")]
)
def test_more_than_100_percent_is_explained(bound: Any, why: str) -> None:
    base = bench_reports.layers().results[0]
    within, beyond = (
        bench_reports.report([replace(base, bound=bound, of_floor=part, of_compute=None)])
        for part in (0.9, 1.1)
    )
    assert why in " ".join(cells(beyond).notes)
    assert why not in " ".join(cells(within).notes)


def test_varying_columns_are_shown() -> None:
    base = bench_reports.model((1,)).results[0]
    found = cells(bench_reports.report([base, replace(base, dtype="bfloat16", size=64)]))
    assert {"dtype", "size"} <= set(found.headings)
    assert not {"dtype", "size"} & set(cells(bench_reports.model()).headings)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.56, "1,235"), (1.23456, "1.235"), (12.3456, "12.35"), (0.012345, "0.0123"), (None, "")],
)
def test_four_significant_digits(value: float | None, text: str) -> None:
    assert significant(value) == text


HOSTILE = "vgg\x1b[31m16\n| `x` <b>"


@pytest.mark.parametrize("show", [table.text, output.markdown_table], ids=["text", "markdown"])
def test_control_characters_are_escaped(show: Any) -> None:
    report = bench_reports.model((1,))
    report.results = [
        replace(r, name=HOSTILE, peer=f"p\x9b{i}") for i, r in enumerate(report.results)
    ]
    report.device = "\x1b]0;title\x07"
    report.results.append(replace(report.results[0], name="another"))
    text = show(cells(report))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert "\\x1b[31m16" in text.replace("\\[", "[").replace("\\\\", "\\")


def test_markdown_has_one_cell_per_column() -> None:
    report = bench_reports.model((1,))
    report.results = [replace(r, peer="a|b") for r in report.results[:1]]
    lines = output.markdown(report).split("\n")
    head = next(line for line in lines if line.startswith("| program"))
    row = next(line for line in lines if line.startswith("| a"))
    assert len(re.split(r"(?<!\\)\|", head)) == len(re.split(r"(?<!\\)\|", row))


def test_csv_has_every_field() -> None:
    report = bench_reports.model()
    rows = list(csv.DictReader(io.StringIO(output.csv_text(report))))
    assert len(rows) == len(report.results)
    first = report.results[0]
    assert first.confidence_s is not None
    assert float(rows[0]["median_s"]) == first.median_s
    assert float(rows[0]["confidence_low_s"]) == first.confidence_s[0]
    assert float(rows[0]["p99_s"]) == (first.percentiles_s or {})["p99"]
    assert rows[0]["device"] == "AMD EPYC, 2 cores"
    assert rows[3]["median_s"] == rows[3]["p50_s"] == ""
    assert rows[3]["reason"] == "not installed: pip install jax"


def test_csv_lists_and_counters() -> None:
    result = Result(
        name="a", peer="vgg_cuda", batch=1, dtype="float16", status="ok", relative_error=0.0,
        kernels=["x", "y"], counters={"mma": 3},
    )  # fmt: skip
    (row,) = csv.DictReader(io.StringIO(output.csv_text(bench_reports.report([result]))))
    assert row["kernels"] == "x;y"
    assert row["counters"] == '{"mma": 3}'


@pytest.mark.parametrize("suffix", [".json", ".csv", ".md", ".JSON"])
@pytest.mark.parametrize("name", REPORTS)
def test_ending_selects_the_format(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"r{suffix}"
    output.write(REPORTS[name], path)
    text = path.read_text(encoding="utf-8")
    start = {".json": "{", ".csv": "kind,date,", ".md": "## "}[suffix.lower()]
    assert text.startswith(start)
    assert list(tmp_path.iterdir()) == [path]
    if suffix == ".json":
        assert read(path) == REPORTS[name]


@pytest.mark.parametrize("name", ["r", "r.txt", "r.json.gz", ".json"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a name ending in \.json, \.csv, \.md, got"):
        output.check_output(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(OSError, match="is a folder"):
        output.check_output(tmp_path / "folder.json")
    with pytest.raises(OSError, match="there is no folder"):
        output.check_output(tmp_path / "none" / "r.json")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(OSError, match="not a regular file"):
        output.check_output(tmp_path / "pipe.csv")
    output.check_output(tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")
    report = bench_reports.model((1,))
    report.results[0] = replace(report.results[0], load_s=float("inf"))
    with pytest.raises(ValueError, match="load_s: expected `float` < 1e"):
        output.write(report, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_piped_output_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    table.print_report(bench_reports.model())
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert printed == table.text(cells(bench_reports.model())) + "\n"


@pytest.mark.parametrize("kind", ["model", "kernel"])
@pytest.mark.parametrize("width", [200, 80, 40, 20])
def test_terminal_table_truncates_no_figures(
    kind: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    report = REPORTS[kind]
    report = replace(report, results=[replace(r, how=f"way {r.peer}") for r in report.results])
    table.print_report(report)
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    found = cells(report)
    unit = "ms" if "ms" in found.headings else "us"
    times = [row[found.headings.index(unit)] for row in found.rows]
    assert all(time in printed for time in times)
    assert "…" not in printed
    assert ("too narrow for: samples" in printed.replace("\n", " ")) == (
        width < 120 and kind == "model"
    )


@pytest.mark.parametrize("kind", ["kernel", "profile"])
def test_title_names_the_network(kind: str) -> None:
    report = replace(REPORTS[kind], settings={"network": "folder/vgg\x1b16"})
    expected = "profile, vgg\\x1b16," if kind == "profile" else "kernel benchmark, vgg\\x1b16,"
    assert cells(report).title.startswith(expected)
    assert "None" not in cells(replace(report, settings={"network": None})).title


def test_missing_ceiling_note() -> None:
    environment = {"no_ceilings": {"copy": "failed (killed by SIGKILL)"}}
    found = cells(replace(REPORTS["kernel"], environment=environment))
    assert "no copy ceiling: failed (killed by SIGKILL)" in found.notes
