"""Choice of the compilers: g++ and, for CUDA kernels, nvcc.

The build backend calls this module before CMake starts. Run as a script, it prints the chosen nvcc
for a CMake that was started by hand. The environment variable VGG_CUDA_TOOLKIT selects the toolkit:

    auto    (default) the machine's nvcc if it has one, else nvcc from the package index
    system  the machine's nvcc
    pypi    nvcc from the package index
    none    build without CUDA

The machine's nvcc is $CUDACXX, or the first nvcc >= 12.8 in $CUDAToolkit_ROOT, $CUDA_HOME,
$CUDA_PATH, $PATH and /usr/local/cuda. An nvcc that exists but cannot compile is an error, because a
package that is silently built without CUDA would not use the machine's GPU.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MODES = ("auto", "system", "pypi", "none")
OLDEST_NVCC = (12, 8)
DEFAULT_NVCC = "/usr/local/cuda/bin/nvcc"

# All parts of one release: the parts do not pin each other's versions, and ptxas refuses the PTX
# of a newer nvvm. PTX of 13.0 runs on every driver of the 13 series.
PYPI_TOOLKIT = "cuda-toolkit[nvcc,cudart,crt,nvvm,cccl]==13.0.3.0"

_REMEDY = (
    "set VGG_CUDA_TOOLKIT=pypi to build with nvcc from the package index, "
    "or VGG_CUDA_TOOLKIT=none to build without CUDA"
)
_PROBE = "__global__ void probe() {}\nint main() { probe<<<1, 1>>>(); return 0; }\n"


class BuildError(SystemExit):
    """Error before the build starts; installers show its text without a traceback."""

    def __init__(self, text: str) -> None:
        super().__init__(f"vgg-cuda: error: {text}")


def mode() -> str:
    """Return VGG_CUDA_TOOLKIT in lower case, or "auto". Raises BuildError for unknown values."""
    value = os.environ.get("VGG_CUDA_TOOLKIT", "").lower() or "auto"
    if value not in MODES:
        raise BuildError(f"VGG_CUDA_TOOLKIT: expected one of {', '.join(MODES)}, got {value!r}")
    return value


def check_host_compiler() -> None:
    """Raise BuildError if the C++ compiler is missing."""
    command = os.environ.get("CXX") or "g++"
    if shutil.which(shlex.split(command)[0]) is None:
        named = "the compiler that CXX names" if os.environ.get("CXX") else "a C++ compiler"
        raise BuildError(
            f"{command} not found: building needs {named}. Install g++ "
            "(apt install g++, dnf install gcc-c++) and try again"
        )


def nvcc_version(nvcc: str) -> tuple[int, int] | None:
    """Return the toolkit version of ``nvcc``, or None if it does not run."""
    try:
        run = subprocess.run(
            [nvcc, "--version"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"release (\d+)\.(\d+)", run.stdout)
    return (int(match[1]), int(match[2])) if match else None


def system_nvcc() -> str | None:
    """Return the machine's nvcc, or None if it has no nvcc >= 12.8.

    Raises BuildError if $CUDACXX is not a usable nvcc, or if the only nvcc found does not run.
    """
    explicit = os.environ.get("CUDACXX")
    if explicit:
        found = shutil.which(explicit)
        version = nvcc_version(found) if found else None
        if version is None or version < OLDEST_NVCC:
            got = "not found" if found is None else "not running" if version is None else version
            raise BuildError(f"CUDACXX={explicit}: expected an nvcc >= 12.8, got {_text(got)}")
        return found

    roots = (os.environ.get(name) for name in ("CUDAToolkit_ROOT", "CUDA_HOME", "CUDA_PATH"))
    candidates = [str(Path(root, "bin", "nvcc")) for root in roots if root]
    candidates += ["nvcc", DEFAULT_NVCC]
    broken = None
    for candidate in candidates:
        nvcc = shutil.which(candidate)
        if nvcc is None:
            continue
        version = nvcc_version(nvcc)
        if version is None:
            broken = broken or nvcc
        elif version < OLDEST_NVCC:
            print(
                f"vgg-cuda: ignoring {nvcc}: expected nvcc >= 12.8, got {_text(version)}",
                file=sys.stderr,
            )
        else:
            return nvcc
    if broken:
        raise BuildError(f"{broken} exists but does not run. Repair it, or {_REMEDY}")
    return None


def _text(version: tuple[int, int] | str) -> str:
    return version if isinstance(version, str) else "{}.{}".format(*version)


def check_compiles(nvcc: str) -> None:
    """Raise BuildError unless ``nvcc`` compiles and links a program."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cu")
        source.write_text(_PROBE)
        command = [nvcc, "-std=c++17", "-arch=sm_80", "-cudart=static", str(source)]
        run = subprocess.run(
            [*command, "-o", str(Path(folder, "probe"))],
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode != 0:
        output = "\n".join((run.stderr + run.stdout).strip().splitlines()[:20])
        raise BuildError(
            f"{nvcc} exists but cannot compile. Repair it, or {_REMEDY}. Its output:\n{output}"
        )


def pypi_has_toolkit() -> bool:
    """Return whether the package index has an nvcc for this platform."""
    return sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")


def pypi_nvcc() -> str | None:
    """Return the nvcc of the cuda-toolkit package, or None if it is not installed."""
    try:
        spec = importlib.util.find_spec("nvidia.cu13")
    except ModuleNotFoundError:
        return None
    roots = (spec.submodule_search_locations or []) if spec else []
    return next((nvcc for root in roots if (nvcc := shutil.which(f"{root}/bin/nvcc"))), None)


def requirements() -> list[str]:
    """Return the build requirements in addition to those in pyproject.toml."""
    chosen = mode()
    if chosen in ("system", "none") or (chosen == "auto" and system_nvcc()):
        return []
    return [PYPI_TOOLKIT] if pypi_has_toolkit() else []


def choose_nvcc() -> str | None:
    """Return the nvcc to build with, or None for a build without CUDA. Raises BuildError."""
    chosen = mode()
    if chosen == "none":
        return None
    if chosen in ("auto", "system"):
        nvcc = system_nvcc()
        if nvcc:
            check_compiles(nvcc)
            return nvcc
        if chosen == "system":
            raise BuildError(
                "VGG_CUDA_TOOLKIT=system: expected an nvcc >= 12.8 on this machine, found none. "
                f"Install a CUDA toolkit, or {_REMEDY}"
            )
    if not pypi_has_toolkit():
        if chosen == "pypi":
            raise BuildError("VGG_CUDA_TOOLKIT=pypi: the package index has nvcc only for Linux")
        print("vgg-cuda: no CUDA toolkit for this platform; building without CUDA", file=sys.stderr)
        return None
    nvcc = pypi_nvcc()
    if nvcc is None:
        raise BuildError(
            "found neither an nvcc >= 12.8 on this machine nor the package that contains one. "
            f"Install without --no-build-isolation, or pip install {PYPI_TOOLKIT!r}, "
            "or set VGG_CUDA_TOOLKIT=none to build without CUDA"
        )
    return nvcc


if __name__ == "__main__":
    print(choose_nvcc() or "", end="")
