"""JAX arrays, if JAX is installed: jax_arrays.py runs in its own process.

JAX makes every later fork of a process a warning, and other tests fork.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_jax_arrays_in_own_process() -> None:
    path = Path(__file__).parents[1] / "support" / "jax_arrays.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
    ran = subprocess.run(
        command, cwd=path.parents[1], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
