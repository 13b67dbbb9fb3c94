"""The tuning step of ``make gpu``, with made-up reports of its commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gpu import tuning
from gpu.runner import Child, Run

DROPPED = {"halo_m1": "its result differs"}


def layer(time: float, planned: float, dropped: dict[str, str] | None = None) -> dict[str, Any]:
    return {"layer": "a", "time": time, "planned_time": planned, "dropped": dropped or {}}


@pytest.mark.parametrize(
    ("dropped", "status", "reason"),
    [
        (None, "ok", "N=64: 25.0 % less"),
        (DROPPED, "failed", "N=64: 25.0 % less; dropped: halo_m1"),
    ],
)
def test_tuning_is_added_to_the_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dropped: Any, status: str, reason: str
) -> None:
    run = Run(tmp_path / "out", tmp_path / "work", deadline_s=60, dry_run=False)
    asked: list[tuple[str, ...]] = []

    def python(*words: str, **_: Any) -> Child:
        asked.append(words)
        answer: dict[str, Any] = {"after": {"l2_bytes": 30}}
        if "bench" in words:
            Path(words[-1]).write_text(json.dumps({"results": [1]}))
        elif "--fit" not in words:
            layers = [layer(1, 2), layer(2, 2, dropped)]
            answer = {"batches": [{"batch": 64, "layers": layers}]}
        return Child(0, json.dumps(answer, indent=2), False)

    monkeypatch.setattr(run, "python", python)
    (run.out / "bench.json").write_text(json.dumps({"dry_run": False, "runs": [3]}))
    result = tuning.tune(run)
    assert (result.status, result.reason) == (status, reason)
    written = json.loads((run.out / "bench.json").read_text())
    assert written["runs"] == [3]
    assert written["tuned"]["fit"]["after"] == {"l2_bytes": 30}
    assert written["tuned"]["bench"] == {"results": [1]}
    assert all("cuda" in words for words in asked)
    assert len(asked) == 3


def test_failed_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path / "out", tmp_path / "work", deadline_s=60, dry_run=False)
    monkeypatch.setattr(run, "python", lambda *_, **__: Child(2, "", False, "error: no GPU"))
    result = tuning.tune(run)
    assert (result.status, result.reason) == ("failed", "exit status 2; error: no GPU")
    assert not (run.out / "bench.json").exists()
