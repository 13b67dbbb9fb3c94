"""The package under test: built from these sources into a folder of its own, or one that is there.

``pip install --target`` touches no environment, so that it works as root, in one that is managed
externally, and beside another vgg_cuda; it needs only pip, scikit-build-core, pybind11, CMake,
Ninja, g++ and nvcc.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from .runner import ROOT, Result, Run

PROBE = """
import json, vgg_cuda
from vgg_cuda import _C
print(json.dumps({
    "path": vgg_cuda.__file__, "commit": _C.commit(), "cuda": _C.cuda_version(),
    "architectures": _C.architectures(), "emulator": _C.built_with_emulator(),
    "wrappers": "ptx/test_kernels" in _C.emulator_modules(), "device": _C.device_info(),
}))
"""


def command(site: Path, cmake: Path) -> list[str]:
    """As the package is built for everybody, and the emulator beside it.

    Machine code for this GPU alone would save a tenth of the work and test another binary.
    """
    return [
        sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input",
        "--no-cache-dir", "install", "--no-build-isolation", "--no-deps", "--no-index", "--upgrade",
        "--root-user-action=ignore", "--target", str(site), "-C", f"build-dir={cmake}",
        "-C", "cmake.define.VGG_CUDA_EMULATOR=ON", str(ROOT),
    ]  # fmt: skip


def probe(run: Run) -> dict[str, Any] | None:
    """The vgg_cuda that this run's children import; None where they cannot."""
    child = run.python("-c", PROBE, limit_s=60, apart=True)
    if child.code or child.timed_out:
        return None
    return next((found for found in child.objects() if "wrappers" in found), None)


def build(run: Run, mode: str = "auto") -> Result:
    """``mode``: "always", "never", or "auto": unless there is no GPU and a package to do without.

    An unfinished build goes on where it was: CMake's folder is kept.
    """
    if mode == "never" or (mode == "auto" and run.dry_run):
        found = probe(run)
        if found and found["emulator"] and found["wrappers"]:
            run.facts["package"] = found
            return Result("skipped", f"{found['path']} is used as it is", {"built": False})
        if mode == "never":
            return Result("failed", "there is no vgg_cuda with the emulator of these sources")
    site, cmake = run.work / "site", run.work / "cmake"
    shutil.rmtree(site, ignore_errors=True)
    built = run.child(command(site, cmake))
    if built.code or built.timed_out:
        return built.result("pip install; or run make test first", built=False)
    run.env["PYTHONPATH"] = os.pathsep.join([str(site), run.env["PYTHONPATH"]])
    found = probe(run)
    if found is None:
        return Result("failed", "built, but cannot be imported")
    run.facts["package"] = found
    if not Path(found["path"]).resolve().is_relative_to(site.resolve()):
        return Result("failed", f"{found['path']} is imported instead: an editable install?")
    if not run.dry_run and not found["device"]["available"]:
        return Result("failed", f"it sees no GPU: {found['device']['reason']}")
    return Result("ok", f"sources {run.facts.get('commit', 'unknown')[:12]}", {"built": True})
