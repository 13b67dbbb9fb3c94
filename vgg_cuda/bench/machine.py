"""The machine of a benchmark: device, driver, clocks, temperature and power."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..system.cpus import cores

TIMEOUT_S = 8.0
QUERY = {
    "driver": "driver_version", "sm_clock_mhz": "clocks.sm", "sm_clock_max_mhz": "clocks.max.sm",
    "memory_clock_mhz": "clocks.mem", "temperature_c": "temperature.gpu",
    "power_w": "power.draw", "power_limit_w": "power.limit",
    "throttle_reasons": "clocks_throttle_reasons.active", "free_mib": "memory.free",
}  # fmt: skip
CPUINFO = Path("/proc/cpuinfo")


def describe(device: str) -> str:
    """Return the name of a GPU, or the CPU's name and number of cores."""
    if device.startswith("cuda"):
        from .. import _C

        index = int(device.partition(":")[2] or 0)
        return str(_C.device_info()["devices"][index]["name"])
    name = platform.processor() or platform.machine()
    if CPUINFO.exists():
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line for line in lines if line.startswith("model name")]
        name = named[0].partition(":")[2].strip() if named else name
    return f"{name}, {cores()} core{'s' * (cores() != 1)}"


def commit() -> str:
    """Return the commit of the sources that the extension was built from."""
    from .. import _C

    return str(_C.commit())


def versions() -> dict[str, str]:
    """Return the versions of this package, Python and NumPy."""
    ours, python = version("vgg-cuda"), platform.python_version()
    return {"vgg_cuda": ours, "python": python, "numpy": np.__version__}


def state(device: str) -> dict[str, Any]:
    """Return the state that the driver reports for a GPU, or the load average for a CPU."""
    if not device.startswith("cuda"):
        return {"load_average": list(os.getloadavg())}
    return nvidia_smi(int(device.partition(":")[2] or 0))


def nvidia_smi(index: int) -> dict[str, Any]:
    """Query nvidia-smi for the fields of ``QUERY``; None for fields that it does not report."""
    nothing: dict[str, Any] = dict.fromkeys(QUERY)
    program = shutil.which("nvidia-smi")
    if program is None:
        return nothing
    visible = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    chosen = visible[index].strip() if index < len(visible) else str(index)
    fields = ",".join(QUERY.values())
    command = [program, f"--id={chosen}", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return nothing
    values = [value.strip() for value in run.stdout.strip().split(",")]
    if len(values) != len(QUERY):
        return nothing
    return {name: _value(name, text) for name, text in zip(QUERY, values, strict=True)}


def _value(name: str, text: str) -> Any:
    """Return a number or text, or None for "[N/A]" and similar."""
    if not text or text.startswith("["):
        return None
    if name in ("driver", "throttle_reasons"):
        return text
    try:
        return float(text)
    except ValueError:
        return None
