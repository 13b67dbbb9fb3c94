"""Facts about this machine; run as a script, prints them as two JSON objects."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "numpy", "msgspec", "torch", "cupy-cuda13x", "ml_dtypes", "nvidia-cudnn-cu13", "triton",
    "pytest", "pytest-xdist", "hypothesis", "pybind11", "scikit-build-core", "cmake", "ninja",
    "pip",
)  # fmt: skip
QUERY = (
    "name", "driver_version", "memory.total", "compute_cap", "clocks.sm", "clocks.max.sm",
    "clocks.mem", "clocks.max.mem", "power.limit", "temperature.gpu", "persistence_mode",
)  # fmt: skip
COMPUTE_CAPABILITY = (75, 76)  # CUdevice_attribute: major, minor
DRIVER = Path("/proc/driver/nvidia/version")
TIMEOUT_S = 8  # of each program; the whole step has 30 s
SOURCES = ("CMakeLists.txt", "pyproject.toml", "build_backend", "cmake", "csrc", "vgg_cuda")


def gpus() -> tuple[list[dict[str, Any]], str | None]:
    """Return the driver's GPUs, or the reason why there are none. Makes no CUDA context."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return [], "no NVIDIA driver (libcuda.so.1)"
    if code := driver.cuInit(0):
        return [], f"cuInit: CUDA error {code}"
    count, number = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    found = []
    for index in range(count.value):
        name = ctypes.create_string_buffer(256)
        driver.cuDeviceGetName(name, 256, index)
        capability = []
        for attribute in COMPUTE_CAPABILITY:
            driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, index)
            capability.append(number.value)
        found.append({"name": name.value.decode(), "compute_capability": capability})
    return found, None if found else "the driver has no GPU"


def missing_packages(project: Path = ROOT / "pyproject.toml") -> list[str]:
    """Return the package's dependencies that this Python lacks, by name."""
    [block] = re.findall(r"(?ms)^dependencies = \[(.*?)^\]", project.read_text(encoding="utf-8"))
    return [name for name in re.findall(r'"([\w.-]+)', block) if package_version(name) is None]


def driver_trace() -> str | None:
    """Return a sign of a GPU, even if CUDA cannot use the GPU; None without any sign."""
    program = shutil.which("nvidia-smi")
    return program or (str(DRIVER) if DRIVER.exists() else None)


def output(*command: str) -> str | None:
    """Return the output of a program; None if it is missing or fails."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        run = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()


def nvidia_smi() -> dict[str, str]:
    """Query nvidia-smi for the first GPU; empty if it reports nothing."""
    said = output("nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader")
    first = said.splitlines()[0].split(", ") if said else []
    return dict(zip(QUERY, first, strict=False))


def commit() -> str:
    """Return the commit of the sources; "unknown" without git and without a COMMIT file."""
    sys.path.insert(0, str(ROOT / "build_backend"))
    from vgg_commit import source_commit

    return str(source_commit(ROOT))


def sources_sha256() -> str:
    """Return a hash of all built sources, which identifies a tree without git."""
    total = hashlib.sha256()
    for top in SOURCES:
        path = ROOT / top
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            if "__pycache__" not in file.parts and file.suffix not in (".pyc", ".so"):
                total.update(f"{file.relative_to(ROOT).as_posix()}\0".encode())
                total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def package_version(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def device() -> dict[str, Any]:
    """Return the first GPU, or why there is none; uses only the driver."""
    found, reason = gpus()
    return {"gpu": found[0]["name"] if found else None, "gpus": found, "no_gpu": reason}


def facts() -> dict[str, Any]:
    """Return all other facts for ``summary.json``."""
    known = commit()
    smi = nvidia_smi()
    nvcc = output("nvcc", "--version") or output("/usr/local/cuda/bin/nvcc", "--version")
    return {
        "driver": smi.get("driver_version"),
        "commit": known.removesuffix("-dirty"),
        "dirty": None if known == "unknown" else known.endswith("-dirty"),
        "sources_sha256": sources_sha256(),
        "environment": {
            "nvidia_smi": smi,
            "nvcc": nvcc.splitlines()[-1] if nvcc else None,
            "tools": {
                name: shutil.which(name) or shutil.which(f"/usr/local/cuda/bin/{name}")
                for name in ("g++", "cmake", "ninja", "git", "ncu", "compute-sanitizer")
            },
            "python": platform.python_version(),
            "executable": sys.executable,
            "platform": platform.platform(),
            "cores": len(os.sched_getaffinity(0)),
            "user": os.geteuid(),
            "packages": {name: package_version(name) for name in PACKAGES},
        },
    }


if __name__ == "__main__":
    for part in (device, facts):  # the GPU is reported even if the other facts hang
        print(json.dumps(part()), flush=True)
