"""The subcommand ``tune``: measures the kernels of a network's layers, and keeps the fastest."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import typer

from ..arrays import numpy_dtype
from ..backends import get_backend, why_missing
from ..configs import CONFIGS, IN_CHANNELS, get_config
from ..forward.inputs import MAX_PIXELS, check_dtype
from ..system.interruption import last_words
from ..weights import Weights, he_weights, load_weights
from .options import Json, Quiet, Size, Uint8, network_named
from .terminal import fail, notice, system_errors, user_errors

if TYPE_CHECKING:
    from ..backends.kernels import KernelBackend
    from ..tuning.report import Row

DEVICES = "auto, cuda, cuda:N or emulator"

Network = Annotated[
    str | None,
    typer.Argument(help="vgg11, vgg13, vgg16, vgg19, digits, imagenet or a weights file."),
]
Batches = Annotated[
    str | None,
    typer.Option("--batch", help="Images per forward, separated by commas; default: 1."),
]
FitOption = Annotated[
    bool, typer.Option("--fit", help="Print constants of estimates that fit what was measured.")
]


def tune(
    network: Network = None,
    batch: Batches = None,
    size: Size = None,
    dtype: Annotated[
        str | None, typer.Option(help="float16 (default), bfloat16, tf32 or float32.")
    ] = None,
    device: Annotated[str, typer.Option(help=f"{DEVICES}.")] = "auto",
    arch: Annotated[
        str | None,
        typer.Option(
            help="GPU whose kernels are measured, such as sm_80; default: VGG_CUDA_ARCH, the "
            "device's, or on the emulator sm_90a."
        ),
    ] = None,
    pixels: Uint8 = False,
    fit: FitOption = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the kernels of every layer, and keep the fastest for later models."""
    with system_errors(), user_errors():
        if network is None and not fit:
            fail("network: expected a network to tune, or --fit without a network, got none")
        if fit:
            given = {
                "a network": network, "--batch": batch, "--size": size, "--dtype": dtype,
                "--uint8": pixels or None,
            }  # fmt: skip
            if refused := [name for name, value in given.items() if value is not None]:
                fail(
                    f"fit: expected no network, batch, size or dtype, got {', '.join(refused)}; "
                    'type "vgg-cuda tune --fit", which uses all that was measured on the device'
                )
        backend = kernel_backend(device, arch)
        if network is None:
            _print_fit(backend, as_json)
        else:
            dtype = check_dtype(backend, dtype)
            batches = _batches(batch or "1")
            weights = _weights(network, size, max(batches), pixels)
            _tune(backend, network, weights, batches, size, dtype, pixels, as_json)


def _tune(
    backend: Any, name: str, weights: Weights, batches: list[int], size: int | None, dtype: str,
    pixels: bool, as_json: bool,
) -> None:  # fmt: skip
    from ..forward.graph import pack
    from ..tuning import Entries, header_of
    from .tune_table import RANKED, as_dict, table

    entries = Entries(header_of(backend), required=True)
    entries.require_writable()
    network = pack(weights, backend, dtype)
    backend.synchronize()
    found: dict[int, list[Row]] = {}
    sides = weights.natural_size if size is None else (size, size)
    with last_words(
        lambda: f"interrupted: {entries.written} entries are kept in {entries.file.path}"
    ):
        for n in batches:
            found[n] = _rows(backend, network, entries, n, sides, pixels)
    used = [row.entry for rows in found.values() for row in rows if row.entry is not None]
    known = sum(not entries.is_new(entry) for entry in used)
    ranked = entries.unit == "cycles"
    if as_json:
        about = {
            "network": name,
            "device": _name(backend),
            "dtype": dtype,
            "unit": entries.unit,
            "measured": not ranked,
            "file": str(entries.file.path),
            "from_file": known,
            "batches": [
                {"batch": n, "layers": as_dict(rows, entries)} for n, rows in found.items()
            ],
        }
        typer.echo(json.dumps(about, indent=2))
        return
    for n, rows in found.items():
        typer.echo(f"{name}, batch {n}, {dtype}, on {_name(backend)}")
        typer.echo(f"{table(rows, entries)}\n")
    if ranked:
        typer.echo(RANKED)
    if known:
        typer.echo(f"{known} of {len(used)} results came from the file, measured before")
    typer.echo(f"kept in {entries.file.path}")


def _rows(
    backend: Any, network: Any, entries: Any, n: int, sides: tuple[int, int], pixels: bool
) -> list[Row]:
    """Plan a forward of n images of ``sides``, which measures what is missing; return its rows."""
    from ..backends.operations import Spec
    from ..forward.plan import plan_forward
    from ..tuning import TunedPlanner, Tuner, meter_for
    from ..tuning.report import Rows

    config = network.config
    h, w = sides
    x_dtype = "uint8" if pixels else image_dtype(backend, network.dtype)
    x_dtype = x_dtype if config.in_channels == IN_CHANNELS else numpy_dtype(network.dtype).name
    rows = Rows({**network.convs, **network.dense})

    def report(problem: Any, entry: Any) -> None:
        rows(problem, entry)
        if sys.stderr.isatty():
            notice(f"batch {n}: {rows.rows[-1].layer}")

    planner = TunedPlanner(backend.arch, entries, Tuner(backend, meter_for(backend)), report)
    tap = config.last if config.num_classes is None else "prob"
    plan_forward(network, planner, Spec((n, h, w, config.in_channels), x_dtype), {tap})
    return rows.rows


def _print_fit(backend: Any, as_json: bool) -> None:
    from ..tuning import Entries, header_of
    from ..tuning.fit import fit
    from .tune_table import RANKED, fit_table

    entries = Entries(header_of(backend))
    found = fit(backend.families.arch, entries)  # families that are off have times, too
    if as_json:
        about = {"device": _name(backend), "file": str(entries.file.path), "unit": entries.unit}
        typer.echo(json.dumps({**about, **asdict(found)}, indent=2))
        return
    typer.echo(f"constants of {_name(backend)}, from {entries.file.path}\n")
    typer.echo(fit_table(found, entries.unit))
    if entries.unit == "cycles":
        typer.echo(RANKED)


def image_dtype(backend: Any, dtype: str) -> str:
    """Return the dtype on the device of images that were preprocessed in host memory."""
    found: str = backend.image_dtype(np.empty(0, np.float32), dtype)
    return found


def kernel_backend(device: str, arch: str | None) -> KernelBackend:
    """Return the backend of a GPU or the emulator, whose kernels can be chosen.

    Fails with a message for other devices.
    """
    if device == "cpu":
        fail(f"device: expected {DEVICES}, got cpu, which has no kernels to choose from")
    if not re.fullmatch(r"auto|cuda(:\d+)?|emulator", device):
        fail(f"device: expected {DEVICES}, got {device!r}")
    if device == "auto" and (reason := why_missing("cuda")) is not None:
        fail(f"device: expected a GPU to tune for, got none: {reason}")
    if device == "emulator" and why_missing(device) is None:
        from ..backends.families import kernels_arch

        arch = kernels_arch(device, arch)
    return cast("KernelBackend", get_backend("cuda" if device == "auto" else device, arch))


def _weights(network: str, size: int | None, n: int, pixels: bool) -> Weights:
    """Return the weights of a network, random for a published one, after all checks."""
    config, _, natural_size = network_named(network, 1000)
    h, w = natural_size if size is None else (size, size)
    if wrong := config.wrong_size(h, w):
        fail(f"--size: {wrong}")
    if n * h * w > MAX_PIXELS:
        fail(f"--batch: expected less than 2^31 pixels, got {n} x {h} x {w}")
    if pixels and config.in_channels != IN_CHANNELS:
        fail(f"--uint8: expected a network with {IN_CHANNELS} input channels, got {network}")
    return he_weights(get_config(network), 0) if network in CONFIGS else load_weights(network)


def _batches(text: str) -> list[int]:
    try:
        batches = [int(part) for part in text.split(",")]
    except ValueError:
        batches = [0]
    if min(batches) < 1:
        fail(f"--batch: expected numbers of 1 or more, separated by commas, got {text!r}")
    return list(dict.fromkeys(batches))


def _name(backend: Any) -> str:
    gpu = backend.gpu["name"] if backend.gpu is not None else "the emulator"
    return f"{gpu} ({backend.arch.name})"
