"""The package under test: built from these sources into a separate folder, or an installed one.

``pip install --target`` changes no environment, so it works as root, in an externally managed
environment, and beside another vgg_cuda. It needs only pip, scikit-build-core, pybind11, CMake,
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
    """Return the command that builds the released package and the emulator.

    Machine code for this GPU alone would save a tenth of the time, but test another binary.
    """
    return [
        sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input",
        "--no-cache-dir", "install", "--no-build-isolation", "--no-deps", "--no-index", "--upgrade",
        "--root-user-action=ignore", "--target", str(site), "-C", f"build-dir={cmake}",
        "-C", "cmake.define.VGG_CUDA_EMULATOR=ON", str(ROOT),
    ]  # fmt: skip


def probe(run: Run) -> dict[str, Any] | None:
    """Return facts about the vgg_cuda that child processes import; None if they cannot."""
    child = run.python("-c", PROBE, limit_s=60, separate_stderr=True)
    if child.code or child.timed_out:
        return None
    return next((found for found in child.objects() if "wrappers" in found), None)


def build(run: Run, mode: str = "auto") -> Result:
    """Build the package; ``mode`` is "always", "never" or "auto".

    "auto" skips the build in a dry run if an installed package has the emulator. CMake's folder is
    kept, so that an unfinished build continues.
    """
    if mode == "never" or (mode == "auto" and run.dry_run):
        found = probe(run)
        if found and found["emulator"] and found["wrappers"]:
            run.facts["package"] = found
            return Result("skipped", f"using {found['path']}", {"built": False})
        if mode == "never":
            return Result("failed", "no installed vgg_cuda has the emulator of these sources")
    site, cmake = run.work / "site", run.work / "cmake"
    shutil.rmtree(site, ignore_errors=True)
    built = run.child(command(site, cmake))
    if built.code or built.timed_out:
        return built.result("pip install failed; or run make test first", built=False)
    run.env["PYTHONPATH"] = os.pathsep.join([str(site), run.env["PYTHONPATH"]])
    found = probe(run)
    if found is None:
        return Result("failed", "built, but cannot be imported")
    run.facts["package"] = found
    if not Path(found["path"]).resolve().is_relative_to(site.resolve()):
        return Result("failed", f"{found['path']} is imported instead: an editable install?")
    if not run.dry_run and not found["device"]["available"]:
        return Result("failed", f"the built package sees no GPU: {found['device']['reason']}")
    return Result("ok", f"sources {run.facts.get('commit', 'unknown')[:12]}", {"built": True})
