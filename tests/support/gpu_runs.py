"""A run of ``make gpu`` in a test's folder."""

from __future__ import annotations

from pathlib import Path

from gpu import __main__ as command
from gpu.runner import Run


def fresh(tmp_path: Path, deadline_s: float = 60, dry_run: bool = True) -> Run:
    """Return a run that writes into folders of ``tmp_path``."""
    env = command.child_environment(tmp_path / "work")
    return Run(tmp_path / "out", tmp_path / "work", deadline_s=deadline_s, dry_run=dry_run, env=env)
