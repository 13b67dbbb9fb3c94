"""Faults planted in the child processes of the self-test."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

HEAD = """
import itertools, os, time
from vgg_cuda import _C
from vgg_cuda.selftest import kernels
from vgg_cuda.selftest.launches import Target
every, run = kernels.family_cases, Target.run
kernels.family_cases = lambda *family: itertools.islice(every(*family), 3)
"""
"""The beginning of each child: only three cases of a family run."""


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes every child process run a program first."""

    def write(program: str) -> None:
        folder = tmp_path / "planted"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(HEAD + program)
        path = os.environ.get("PYTHONPATH", "")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), path])))

    return write
