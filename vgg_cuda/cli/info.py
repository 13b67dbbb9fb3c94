"""The subcommand ``info``: versions, switches, backends, devices and BLAS libraries."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer
from msgspec.structs import asdict

from ..backends import WITHOUT_EXTENSION, DeviceError, why_missing
from ..backends.switches import ARCH, DISABLE, PDL, TUNING, SwitchError, switches
from ..backends.threads import blas_libraries
from ..system.cache import VARIABLE as CACHE
from ..system.cache import CacheError, cache_folder, unusable
from ..system.cpus import cores, get_num_threads
from .options import Json
from .terminal import system_errors, user_errors

PACKAGES = ("numpy", "pillow", "safetensors", "cupy-cuda13x", "ml_dtypes", "torch")
BLAS_FIELDS = ("internal_api", "version", "num_threads", "architecture")


def collect() -> dict[str, Any]:
    """Return everything that ``vgg-cuda info`` reports, as JSON-ready values.

    Raises ``DeviceError`` if the package has no compiled extension, ``ValueError`` for an
    environment variable with an unknown value.
    """
    try:
        from .. import _C
    except ImportError:
        raise DeviceError(WITHOUT_EXTENSION) from None
    set_switches = _switches()
    device = _C.device_info()
    return {
        "vgg_cuda": version("vgg-cuda"),
        "commit": _C.commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "switches": set_switches,
        "cache": {**_cache(), "source": _source(CACHE)},
        "backends": {name: _backend(name) for name in ("cpu", "cuda", "emulator")},
        "cuda": _C.cuda_version(),
        "architectures": _C.architectures(),
        "driver": device["driver"],
        "devices": [{**gpu, **_kernels(gpu)} for gpu in device["devices"]],
        "cores": cores(),
        "threads": get_num_threads(),
        "blas": [{field: lib.get(field) for field in BLAS_FIELDS} for lib in blas_libraries()],
    }


def lines(info: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the values of :func:`collect` as pairs of a label and a text."""
    packages = [f"{name} {v}" for name, v in info["packages"].items() if v]
    absent = [name for name, v in info["packages"].items() if not v]
    devices = [
        f"{d['name']} (sm_{d['compute_capability'][0]}{d['compute_capability'][1]}, "
        f"{d['sm_count']} SMs, {d['memory_bytes'] / 2**30:.0f} GiB)"
        for d in info["devices"]
    ]
    blas = [
        " ".join(
            filter(None, (lib["internal_api"], lib["version"], f"({lib['num_threads']} threads)"))
        )
        for lib in info["blas"]
    ]
    return [
        ("vgg_cuda", f"{info['vgg_cuda']} (commit {info['commit']})"),
        ("python", f"{info['python']} on {info['platform']}"),
        ("packages", ", ".join(packages) + (f"; absent: {', '.join(absent)}" if absent else "")),
        *((name, f"{s['value'] or '-'} ({s['source']})") for name, s in info["switches"].items()),
        (
            "cache folder",
            f"not usable: {info['cache']['reason']}"
            if info["cache"]["reason"]
            else f"{info['cache']['folder']} ({info['cache']['source']})",
        ),
        *(
            (f"backend {name}", "available" if b["available"] else f"not available: {b['reason']}")
            for name, b in info["backends"].items()
        ),
        ("built for", ", ".join(info["architectures"]) or "no GPU"),
        ("CUDA toolkit", info["cuda"] or "none in this build"),
        ("driver", f"supports CUDA {info['driver']}" if info["driver"] else "none"),
        ("devices", ", ".join(devices) or "none"),
        *((f"kernels of GPU {gpu['index']}", _kernels_text(gpu)) for gpu in info["devices"]),
        ("CPU", f"cores: {info['cores']}, threads: {info['threads']}"),
        ("BLAS", ", ".join(blas) or "unknown"),
    ]


def _switches() -> dict[str, dict[str, str | None]]:
    """Return the value and the source of every environment variable that selects kernels."""
    from .. import _C
    from ..backends.families import arch_named

    found = switches()
    arch_named(None, _C.arch_names(), "this build")  # report an unknown name
    values: dict[str, str | None] = {
        ARCH: found.arch,
        DISABLE: ",".join(found.disable) or None,
        PDL: "1" if found.pdl else "0",
        TUNING: found.tune,
    }
    return {name: {"value": value, "source": _source(name)} for name, value in values.items()}


def _cache() -> dict[str, str | None]:
    """Return the folder of cache files, and the reason if it cannot be used."""
    try:
        folder = cache_folder()
    except CacheError as error:
        return {"folder": None, "reason": str(error)}
    return {"folder": str(folder), "reason": unusable(folder)}


def _source(variable: str) -> str:
    return "environment" if os.environ.get(variable) else "default"


def _kernels(gpu: Any) -> dict[str, Any]:
    """Return the architecture, kernel families and verdicts of a GPU; none if it is too old."""
    from ..backends.cuda import OLDEST_COMPUTE_CAPABILITY
    from ..backends.families import LAUNCHES, gpu_families

    none: dict[str, Any] = {"arch": None, "reason": None, "kernels": {}, "selftest": None}
    if gpu["compute_capability"] < OLDEST_COMPUTE_CAPABILITY:
        return none
    try:
        found = gpu_families(gpu)
    except SwitchError as error:  # a name that other GPUs, or the emulator, can run
        return {**none, "reason": str(error)}
    kernels = {
        name: {"on": name not in found.off, "reason": found.off.get(name)}
        for name in (*found.arch.families, *LAUNCHES)
    }
    verdicts = None
    if found.verdicts is not None:
        verdicts = {family: asdict(verdict) for family, verdict in found.verdicts.items()}
    return {**none, "arch": found.arch.name, "kernels": kernels, "selftest": verdicts}


def _kernels_text(gpu: dict[str, Any]) -> str:
    from ..backends.families import LAUNCHES

    if gpu["arch"] is None:
        return f"none: {gpu['reason']}" if gpu["reason"] else "none"
    kernels = gpu["kernels"]
    words = {name: LAUNCHES.get(name, name) for name in kernels}
    on = ["portable", *(words[name] for name, found in kernels.items() if found["on"])]
    off = [f"{words[name]} ({k['reason']})" for name, k in kernels.items() if not k["on"]]
    tested = [f"{family} {found['verdict']}" for family, found in (gpu["selftest"] or {}).items()]
    parts = [gpu["arch"], f"on: {', '.join(on)}", *([f"off: {', '.join(off)}"] if off else [])]
    parts.append(f"self-test: {', '.join(tested) or 'none, run `vgg-cuda selftest`'}")
    return "; ".join(parts)


def _backend(name: str) -> dict[str, Any]:
    reason = why_missing(name)
    return {"available": reason is None, "reason": reason}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def info(as_json: Json = False) -> None:
    """Print versions, switches, backends, devices and BLAS libraries."""
    with system_errors(), user_errors():
        found = collect()
        if as_json:
            typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
            return
        for name, text in lines(found):
            typer.echo(f"{name:16s} {text}")
