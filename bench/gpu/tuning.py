"""The tuning step: the fastest kernels of VGG-16, constants that fit, and its times afterwards.

The benchmark step, which comes first, measures VGG-16 as planned by estimates.
"""

from __future__ import annotations

import json
from typing import Any

from .runner import Result, Run, write_json

WANTED = ["vgg16", "--batch", "64,1", "--device", "cuda"]
DRY = ["digits", "--batch", "1", "--size", "32", "--device", "emulator"]
AFTER = ["model", "vgg16", "--batch", "64,1", "--device", "cuda"]
MIN_AFTER_S = 20.0  # left for the benchmark afterwards


def tune(run: Run) -> Result:
    """Tune VGG-16 and measure it again; ``bench.json`` gets the results as "tuned"."""
    words = DRY if run.dry_run else WANTED
    child = run.python("-m", "vgg_cuda", "tune", *words, "--json", separate_stderr=True)
    report = next((each for each in child.objects() if "batches" in each), None)
    if report is None or child.code or child.timed_out:
        return child.result(child.last_line())
    where = words[words.index("--device") :]
    fit = run.python("-m", "vgg_cuda", "tune", "--fit", *where, "--json", separate_stderr=True)
    found = {
        "report": report,
        "fit": next((each for each in fit.objects() if "after" in each), fit.last_line()),
        "bench": None if run.dry_run else _measured_again(run),
    }
    path = run.out / "bench.json"
    before = json.loads(path.read_text()) if path.exists() else {"dry_run": run.dry_run}
    write_json(path, {**before, "tuned": found})
    rows = [row for batch in report["batches"] for row in batch["layers"]]
    dropped = sorted({name for row in rows for name in row["dropped"]})
    gains = "; ".join(
        f"N={batch['batch']}: {_gain(batch['layers'])}" for batch in report["batches"]
    )
    said = gains + (f"; dropped: {', '.join(dropped)}" if dropped else "")
    return Result("failed" if dropped else "ok", said, {"dropped": dropped})


def _gain(rows: list[dict[str, Any]]) -> str:
    """Return the time that the chosen kernels save, by the times of single kernels."""
    known = [row for row in rows if row["time"] and row["planned_time"]]
    planned = sum(row["planned_time"] for row in known)
    return f"{100 * (1 - sum(row['time'] for row in known) / planned):.1f} % less" if known else "-"


def _measured_again(run: Run) -> Any:
    """Return the report of a benchmark with the tuned kernels; None without time for it."""
    if run.left() < MIN_AFTER_S:
        return None
    path = run.work / "tuned.json"
    path.unlink(missing_ok=True)
    limits = ["--budget", f"{run.left() / 2:.0f}", "--output", str(path)]
    run.python("-m", "vgg_cuda", "bench", *AFTER, *limits, separate_stderr=True)
    return json.loads(path.read_text()) if path.exists() else None
