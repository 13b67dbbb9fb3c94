"""A pytest plugin that writes a line of JSON to $VGG_GPU_REPORT after each test."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

MAX_TEXT = 4000  # characters of a failure


class Report:
    """Writes a line for each test that has ended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _write(self, name: str, outcome: str, seconds: float, text: str, **more: Any) -> None:
        row = {"test": name, "outcome": outcome, "seconds": round(seconds, 3)} | more
        if outcome != "passed":
            row["text"] = text[-MAX_TEXT:]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Record a test, or its fixture if that was skipped or failed."""
        if report.when != "call" and report.passed:
            return
        outcome = "error" if report.failed and report.when != "call" else report.outcome
        self._write(report.nodeid, outcome, report.duration, report.longreprtext)

    def pytest_collectreport(self, report: Any) -> None:
        """Record a file that cannot be imported, or skips itself."""
        if report.failed or report.skipped:
            outcome = "error" if report.failed else "skipped"
            self._write(report.nodeid, outcome, 0.0, report.longreprtext)


def pytest_configure(config: Any) -> None:
    """Register the plugin if $VGG_GPU_REPORT is set."""
    path = os.environ.get("VGG_GPU_REPORT")
    if path and not hasattr(config, "workerinput"):  # pytest-xdist reports to its controller
        config.pluginmanager.register(Report(Path(path)), "vgg_gpu_report")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the written rows, without an incomplete last line."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
