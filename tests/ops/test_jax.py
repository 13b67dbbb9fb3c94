"""JAX arrays in, JAX arrays out, where JAX is installed: jax_arrays.py in a process of its own.

Once JAX is in a process, every fork there is a warning, and other tests fork.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_jax() -> None:
    path = Path(__file__).parents[1] / "support" / "jax_arrays.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
    ran = subprocess.run(
        command, cwd=path.parents[1], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
