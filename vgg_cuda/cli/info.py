"""The subcommand ``info``: versions, backends, devices and BLAS libraries."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

from ..backends import WITHOUT_EXTENSION, DeviceError, why_missing
from ..backends.threads import blas_libraries, cores
from .options import Json
from .terminal import system_errors, user_errors

PACKAGES = ("numpy", "pillow", "safetensors", "cupy-cuda13x", "ml_dtypes", "torch")
BLAS_FIELDS = ("internal_api", "version", "num_threads", "architecture")


def collect() -> dict[str, Any]:
    """Return everything that ``vgg-cuda info`` reports, as JSON-ready values.

    Raises ``DeviceError`` if the package has no compiled extension.
    """
    try:
        from .. import _C
    except ImportError:
        raise DeviceError(WITHOUT_EXTENSION) from None
    device = _C.device_info()
    return {
        "vgg_cuda": version("vgg-cuda"),
        "commit": _C.commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "backends": {name: _backend(name) for name in ("cpu", "cuda", "emulator")},
        "cuda": _C.cuda_version(),
        "architectures": _C.architectures(),
        "driver": device["driver"],
        "devices": device["devices"],
        "cores": cores(),
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
        *(
            (f"backend {name}", "available" if b["available"] else f"not available: {b['reason']}")
            for name, b in info["backends"].items()
        ),
        ("built for", ", ".join(info["architectures"]) or "no GPU"),
        ("CUDA toolkit", info["cuda"] or "none in this build"),
        ("driver", f"supports CUDA {info['driver']}" if info["driver"] else "none"),
        ("devices", ", ".join(devices) or "none"),
        ("cores", str(info["cores"])),
        ("BLAS", ", ".join(blas) or "unknown"),
    ]


def _backend(name: str) -> dict[str, Any]:
    reason = why_missing(name)
    return {"available": reason is None, "reason": reason}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def info(as_json: Json = False) -> None:
    """Print versions, backends, devices and BLAS libraries."""
    with system_errors(), user_errors():
        found = collect()
        if as_json:
            typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
            return
        for name, text in lines(found):
            typer.echo(f"{name:16s} {text}")
