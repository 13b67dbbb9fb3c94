"""The subcommand ``verify``: choice of network and images, and the report."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from .. import verification
from ..backends import get_backend
from ..configs import IN_CHANNELS, Config, get_config
from ..forward.inputs import check_dtype
from ..images.batches import ImageError, open_image
from ..images.presets import Preset
from ..text import plain
from ..verification.report import Verification
from ..vgg import VGG
from ..weights import he_weights, load_weights
from .inputs import images_named
from .options import Arch, Device, Dtype, Json, Uint8
from .terminal import BAD_RESULT, system_errors, user_errors


def run(
    paths: Sequence[str], *, weights: str | None, network: str | None, size: int | None, seed: int,
    batch_size: int, device: str, dtype: str | None, arch: str | None, pixels: bool,
) -> tuple[Verification, dict[str, Any]]:  # fmt: skip
    """Verify a network; return the verification and a JSON-ready description of what it verified.

    Raises ``ValueError``, ``FileNotFoundError`` and ``DeviceError`` for invalid arguments.
    """
    if weights is not None and network is not None:
        raise ValueError("--weights, --network: expected one of them, got both")
    if paths and size is not None:
        raise ValueError(f"--size: expected none for images, which the preset resizes, got {size}")
    config = None if network is None else get_config(network)
    found = images_named(paths)
    check_dtype(get_backend(device, arch), dtype)  # before weights are read, which takes time
    source = load_weights(weights or "digits") if config is None else he_weights(config, seed)
    config, preset = source.config, source.preset
    sides = source.natural_size if size is None else (size, size)
    if not found and (wrong := config.wrong_size(*sides)):
        raise ValueError(f"--size: {wrong}")
    if (found or pixels) and config.in_channels != IN_CHANNELS:
        raise ValueError(
            f"verify: expected a network with {IN_CHANNELS} input channels, got {source.source} "
            f"with {config.in_channels}; pass neither images nor --uint8"
        )
    model = VGG(source, device=device, dtype=dtype, arch=arch)
    rng = np.random.default_rng(seed)
    shape = (batch_size, *sides, config.in_channels)
    inputs: Iterator[NDArray[Any]]
    if config.in_channels != IN_CHANNELS:
        inputs = iter([rng.standard_normal(shape, dtype=np.float32)])
    else:
        images = [rng.integers(0, 256, shape, dtype=np.uint8)]
        inputs = _pixels(found, preset, batch_size, config) if found else iter(images)
        inputs = inputs if pixels else map(preset.normalize, inputs)
    total: Verification | None = None
    count, sizes = 0, []
    for x in inputs:
        part = verification.verify(model, source, x)
        total = part if total is None else total.merge(part, count)
        count += len(x)
        if list(x.shape[1:3]) not in sizes:
            sizes.append(list(x.shape[1:3]))
    assert total is not None
    return total, {
        "vgg_cuda": version("vgg-cuda"),
        "commit": _commit(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "network": config.name,
        "weights": source.source,
        "seed": seed,
        "images": count,
        "sizes": sizes,
        "x_dtype": "uint8" if pixels else "float32",
        "preset": preset.name,
    }


def described(description: dict[str, Any], found: Verification) -> str:
    """Return network, dtype, device and images on one line."""
    sizes = ", ".join(f"{h}x{w}" for h, w in description["sizes"])
    images = f"{description['images']} image{'s' * (description['images'] != 1)} of {sizes}"
    device = found.device + (f" ({found.arch})" if found.arch else "")
    x_dtype = description["x_dtype"]
    return plain(f"{description['weights']}: {found.dtype} on {device}; {images}, {x_dtype}")


def _pixels(
    paths: Sequence[Path], preset: Preset, batch_size: int, config: Config
) -> Iterator[NDArray[np.uint8]]:
    """Yield the images in order, resized, in batches [N,H,W,3] of one size.

    Raises ``ImageError`` for the first image that cannot be read or has a wrong size.
    """

    def resized(path: Path) -> NDArray[np.uint8]:
        image = open_image(path)
        try:
            x = np.asarray(preset.resized(image), np.uint8)
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
        if wrong := config.wrong_size(*x.shape[:2]):
            raise ImageError(f"{path}: after preset {preset.name!r}: {wrong}")
        return x

    for _, same_size in groupby(map(resized, paths), key=np.shape):
        while batch := list(islice(same_size, batch_size)):
            yield np.stack(batch)


def _commit() -> str | None:
    try:
        from .. import _C
    except ImportError:
        return None
    return _C.commit()


def verify(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Image files, folders and glob patterns; -: paths on standard input; default: "
            "random images."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="digits (default), imagenet, random:vgg16 or a weights file.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="Random weights of vgg11, vgg13, vgg16 or vgg19 instead.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Side of random images; default: the network's or preset's."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random images and weights.")] = 0,
    batch_size: Annotated[
        int, typer.Option("--batch", min=1, help="Images per forward; the number of random images.")
    ] = 1,
    device: Device = "auto",
    dtype: Dtype = None,
    arch: Arch = None,
    pixels: Uint8 = False,
    as_json: Json = False,
) -> None:
    """Check every layer against float64.

    Every element must lie within a bound that is derived from the order of additions. The first
    bad layer is named, and the exit code is 1.
    """
    with system_errors():
        with user_errors():
            found, description = run(
                images or [], weights=weights, network=network, size=size, seed=seed,
                batch_size=batch_size, device=device, dtype=dtype, arch=arch, pixels=pixels,
            )  # fmt: skip
        if as_json:
            typer.echo(json.dumps({**description, **found.as_dict()}, indent=2, allow_nan=False))
        else:
            typer.echo(described(description, found))
            typer.echo(found.table())
        sys.stdout.flush()
    if not found.ok:
        raise typer.Exit(BAD_RESULT)
