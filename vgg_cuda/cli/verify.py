"""``vgg-cuda verify`` without the command line: which network, which images."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from .. import verification
from ..backends import get_backend
from ..configs import IN_CHANNELS, Config, get_config
from ..forward.inputs import check_dtype
from ..images.batches import ImageError, batches, open_image
from ..images.presets import Preset
from ..text import plain
from ..verification.report import Verification
from ..vgg import VGG
from ..weights import Weights, he_weights, load_weights
from .batch_jobs import image_paths
from .options import Arch, Device, Dtype, Json
from .terminal import BAD_RESULT, system_errors, user_errors

DEFAULT_SIZE = 224  # where the preset does not say


def run(
    paths: Sequence[str], *, weights: str | None, network: str | None, size: int | None, seed: int,
    batch_size: int, device: str, dtype: str | None, arch: str | None, pixels: bool,
) -> tuple[Verification, dict[str, Any]]:  # fmt: skip
    """The verification, and what was verified, as JSON-ready values.

    Raises ``ValueError``, ``FileNotFoundError`` and ``DeviceError`` for what a user can mend.
    """
    if weights is not None and network is not None:
        raise ValueError("--weights and --network: expected one of them, got both")
    if paths and size is not None:
        raise ValueError("--size: expected none beside images, whose size the preset gives")
    config = None if network is None else get_config(network)
    found = image_paths(paths)
    check_dtype(get_backend(device, arch), dtype)  # told before a long read
    source: Weights
    source = load_weights(weights or "digits") if config is None else he_weights(config, seed)
    sizes = _natural_size(source) if size is None else (size, size)
    if not found and (wrong := source.config.wrong_size(*sizes)):
        raise ValueError(f"--size: {wrong}")
    if (found or pixels) and source.config.in_channels != IN_CHANNELS:
        raise ValueError(
            f"verify: images have 3 channels, {source.source} reads {source.config.in_channels}: "
            "expected no images and no --uint8"
        )
    model = VGG(source, device=device, dtype=dtype, arch=arch)
    if found:
        inputs = _images(found, model, batch_size, pixels)
    else:
        inputs = iter([_random(source, sizes, seed, batch_size, pixels)])
    total: Verification | None = None
    count, shapes = 0, []
    for x in inputs:
        part = verification.verify(model, source, x)
        if total is None:
            total = part
        else:
            total.merge(part, count)
        count += len(x)
        if list(x.shape[1:3]) not in shapes:
            shapes.append(list(x.shape[1:3]))
    assert total is not None
    return total, {
        "vgg_cuda": version("vgg-cuda"),
        "commit": _commit(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "network": source.config.name,
        "weights": source.source,
        "seed": seed,
        "images": count,
        "sizes": shapes,
        "x_dtype": "uint8" if pixels else "float32",
        "preset": model.preset.name,
    }


def described(description: dict[str, Any], found: Verification) -> str:
    """One line for a person."""
    sizes = ", ".join(f"{h}x{w}" for h, w in description["sizes"])
    images = f"{description['images']} image{'s' * (description['images'] != 1)} of {sizes}"
    place = found.device + (f" ({found.arch})" if found.arch else "")
    x = description["x_dtype"]
    return plain(f"{description['weights']}: {found.dtype} on {place}; {images}, {x}")


def _random(
    weights: Weights, size: tuple[int, int], seed: int, count: int, pixels: bool
) -> NDArray[np.uint8] | NDArray[np.float32]:
    channels = weights.config.in_channels
    rng = np.random.default_rng(seed)
    if channels != IN_CHANNELS:
        return rng.standard_normal((count, *size, channels), dtype=np.float32)
    x = rng.integers(0, 256, (count, *size, channels), dtype=np.uint8)
    return x if pixels else weights.preset.normalize(x)


def _natural_size(weights: Weights) -> tuple[int, int]:
    preset = weights.preset
    size = weights.config.input_size or preset.crop or preset.resize or DEFAULT_SIZE
    return size if isinstance(size, tuple) else (size, size)


def _images(
    paths: Sequence[Path], model: VGG, batch_size: int, pixels: bool
) -> Iterator[NDArray[Any]]:
    """The files prepared as always; one that cannot be read raises ``ImageError``."""
    preset, config = model.preset, model.config
    if pixels:
        yield from _pixels(paths, preset, batch_size, config)
        return
    for batch in batches(paths, preset, batch_size, config):
        for failure in batch.failed:
            raise failure.error
        yield batch.x


def _pixels(
    paths: Sequence[Path], preset: Preset, batch_size: int, config: Config
) -> Iterator[NDArray[np.uint8]]:
    pending: list[NDArray[np.uint8]] = []
    for path in paths:
        x = np.asarray(preset.resized(open_image(path)), np.uint8)
        if wrong := config.wrong_size(*x.shape[:2]):
            raise ImageError(f"{path}: {wrong}")
        if pending and (len(pending) == batch_size or x.shape != pending[0].shape):
            yield np.stack(pending)
            pending = []
        pending.append(x)
    yield np.stack(pending)


def _commit() -> str | None:
    try:
        from .. import _C
    except ImportError:
        return None
    return _C.commit()


def verify(
    images: Annotated[
        list[str] | None, typer.Argument(help="Image files, folders and glob patterns.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help='"digits" (default), "imagenet" or a weights file.')
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="vgg11, vgg13, vgg16 or vgg19 with random weights instead.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of random images; default: what the network takes.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random images and weights.")] = 0,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images per forward, and how many are random.")
    ] = 1,
    device: Device = "auto",
    dtype: Dtype = None,
    arch: Arch = None,
    pixels: Annotated[
        bool, typer.Option("--uint8", help="Let the first convolution normalize uint8 pixels.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Holds every layer against float64, with derived bounds; names the first bad one."""
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
