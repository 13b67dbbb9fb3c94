"""The benchmark step: several runs of ``vgg-cuda bench``, the most important first.

``bench.json`` is rewritten after every run, so that a timeout keeps the earlier reports.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .runner import Child, Result, Run, write_json

NETWORK, LAYER_BATCH = "vgg16", 64
SPARE_S = 10.0  # of the step's time, for the end of a run after its budget
MIN_RUN_S = 10.0  # no further run is started with less time left
# arguments of each run, and its fraction of the time left
WANTED: list[tuple[list[str], float]] = [
    (["model", NETWORK, "--dtype", "float16", "--batch", "64,1,16,256"], 0.45),
    (["kernel", "--network", NETWORK, "--dtype", "float16", "--batch", str(LAYER_BATCH)], 0.7),
    (["model", NETWORK, "--dtype", "tf32", "--batch", str(LAYER_BATCH)], 0.5),
    (["model", NETWORK, "--dtype", "bfloat16", "--batch", str(LAYER_BATCH)], 1.0),
]
SMALL = ["--device", "cpu", "--size", "32", "--timeout", "0.1"]
DRY: list[tuple[list[str], float]] = [
    (["model", "digits", "--batch", "1,2", *SMALL], 0.5),
    (["kernel", "--network", "digits", "--layer", "conv1_1,conv2_1,fc8", *SMALL], 1.0),
]
DRY_S = 60.0
NO_TIME, LEFT_OUT = "no time", "left out"


def benchmark(run: Run) -> Result:
    """Measure networks and layers beside PyTorch; ``data`` lists wrong and failed results."""
    path = run.work / "report.json"
    runs: list[dict[str, Any]] = []
    child = Child(0, "", False)
    for words, part in DRY if run.dry_run else WANTED:
        left = (min(run.left(), DRY_S) if run.dry_run else run.left()) - SPARE_S
        if left < MIN_RUN_S and runs:
            runs.append({"asked": words, "report": None, "why": NO_TIME})
            continue
        path.unlink(missing_ok=True)
        limits = ["--budget", f"{max(left, 5.0) * part:.0f}", "--output", str(path)]
        device = [] if run.dry_run else ["--device", "cuda"]
        child = run.python(
            "-m",
            "vgg_cuda",
            "bench",
            *words,
            *device,
            "--peers",
            "torch",
            *limits,
            separate_stderr=True,
        )
        report = json.loads(path.read_text()) if path.exists() else None
        runs.append({"asked": words, "report": report, "why": why(child)})
        write_json(run.out / "bench.json", {"dry_run": run.dry_run, "runs": runs})
        if child.timed_out:
            break
    return judged(runs, child)


def why(child: Child) -> str:
    """Return why a run ended badly, or an empty text."""
    if child.timed_out:
        return "killed at the limit"
    if child.code == 2 and "dtype: expected" in child.last_line():  # ml_dtypes is not installed
        return f"{LEFT_OUT}: {child.last_line()}"
    return "" if child.code == 0 else f"exit status {child.code}: {child.last_line()}"


def judged(runs: list[dict[str, Any]], child: Child) -> Result:
    """Summarize ``runs``; wrong results and failed runs fail the step."""
    rows = results(runs)
    wrong = [label(row) for row in rows if row["status"] == "wrong"]
    bad = [
        f"{label(row)}: {row['reason']}" for row in rows if row["status"] in ("failed", "timeout")
    ]
    bad += [
        f"{' '.join(each['asked'][:2])}: {each['why']}"
        for each in runs
        if not each["report"] and not each["why"].startswith((NO_TIME, LEFT_OUT))
    ]
    late = sum(row["status"] == "n/a" and row["reason"].startswith("no time") for row in rows)
    late += sum(each["why"] == NO_TIME for each in runs)
    data = {"rows": len(rows), "wrong": wrong, "errors": bad, "no_time": late}
    said = "; ".join(
        f"{row['dtype']} N={row['batch']}: {row['median_s'] * 1e3:.3f} ms{beside(row, rows)}"
        for row in rows
        if row["peer"] == "vgg_cuda" and row["kind"] == "model" and row.get("median_s")
    )
    if not rows and not child.timed_out:
        return Result("failed", f"measured nothing: {'; '.join(bad)}", data)
    if wrong or (bad and not child.timed_out):
        return Result("failed", f"wrong: {', '.join(wrong)}" if wrong else bad[0], data)
    if child.timed_out:
        return child.result(said, **data)
    return Result("ok", said, data)


def results(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the results of all reports, each with the ``kind`` of its report."""
    reports = [each["report"] for each in runs if each["report"]]
    return [{"kind": r["kind"]} | row for r in reports for row in r["results"]]


def beside(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return the speed relative to PyTorch, or an empty text."""
    same = ("kind", "name", "batch", "dtype")
    for other in rows:
        if other["peer"] == "torch" and all(other[key] == row[key] for key in same):
            return f", {other['ratio']:.2f}x PyTorch" if other.get("ratio") else ""
    return ""


def label(row: dict[str, Any]) -> str:
    """Return a name of a result for messages."""
    return f"{row['dtype']} {row['kind']} {row['name']} N={row['batch']} of {row['peer']}"


def slowest_layer(path: Path) -> dict[str, Any] | None:
    """Return this package's slowest layer in ``bench.json``; None if there are no layers."""
    if not path.exists():
        return None
    rows = results(json.loads(path.read_text())["runs"])
    timed = [
        row
        for row in rows
        if row["kind"] == "kernel" and row["peer"] == "vgg_cuda" and row.get("median_s")
    ]
    return max(timed, key=lambda row: float(row["median_s"]), default=None)
