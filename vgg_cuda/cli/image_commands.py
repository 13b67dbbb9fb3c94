"""The subcommands ``classify`` and ``features``: image files in, predictions or tensors out."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from ..configs import IN_CHANNELS
from ..images.presets import Preset
from ..layers import resolve_layer
from ..system.files import replacing
from ..vgg import VGG
from .batch_jobs import FeatureSink, SizeError, check_format, classify_files, extract_files
from .inputs import images_named
from .options import (
    Arch,
    BatchSize,
    Device,
    Dtype,
    Json,
    LabelsFile,
    Paths,
    Quiet,
    Strict,
    WeightsName,
)  # fmt: skip
from .predictions import FORMATS, json_text, write
from .preset_options import (
    Channels,
    ImageSize,
    Mean,
    PresetName,
    PresetOptions,
    Resize,
    ResizeTo,
    Scale,
    Std,
    resolve,
)
from .terminal import fail, finish, line, notice, progress, skip, system_errors, user_errors


def classify(
    paths: Paths,
    weights: WeightsName,
    top_k: Annotated[int, typer.Option(min=1, help="Classes per image.")] = 5,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    dtype: Dtype = None,
    arch: Arch = None,
    preset: PresetName = None,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    size: ImageSize = None,
    resize: Resize = None,
    resize_to: ResizeTo = None,
    channels: Channels = None,
    labels: LabelsFile = None,
    output: Annotated[Path | None, typer.Option(help="Write to this .json or .csv file.")] = None,
    as_json: Json = False,
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    """Print the most probable classes of every image."""
    options = PresetOptions(preset, mean, std, scale, size, resize, resize_to, channels)
    with system_errors(), contextlib.ExitStack() as stack:
        with user_errors():
            found = images_named(paths)
            target = None
            if output is not None:
                check_format(output, FORMATS)
                target = stack.enter_context(replacing(output))
            model, recipe = _load(weights, device, dtype, arch, options, labels)
            if model.config.num_classes is None:
                fail(f"--weights: expected a network with a dense head, got {weights} without one")
        records = []
        for record in classify_files(model, found, recipe, top_k, batch_size, progress):
            records.append(record)
            if "error" in record:
                skip(record, strict)
            elif target is None and not as_json:
                typer.echo(line(record))
        if target is not None and output is not None:
            write(records, target, output.suffix)
        if as_json:
            typer.echo(json_text(records), nl=False)
    if output is not None:
        notice(f"wrote {len(records)} results to {output}")
    finish(sum("error" in record for record in records), len(found))


def features(
    paths: Paths,
    weights: WeightsName,
    layers: Annotated[str, typer.Option(help="Layer names separated by commas: relu3_3,fc7.")],
    output: Annotated[Path, typer.Option(help="Write to this .npz or .safetensors file.")],
    batch_size: BatchSize = 32,
    device: Device = "auto",
    dtype: Dtype = None,
    arch: Arch = None,
    preset: PresetName = None,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    size: ImageSize = None,
    resize: Resize = None,
    resize_to: ResizeTo = None,
    channels: Channels = None,
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    """Save the tensors of some layers for every image."""
    names = list(dict.fromkeys(name.strip() for name in layers.split(",") if name.strip()))
    options = PresetOptions(preset, mean, std, scale, size, resize, resize_to, channels)
    with system_errors(), contextlib.ExitStack() as stack:
        with user_errors():
            found = images_named(paths)
            check_format(output, FeatureSink.FORMATS)
            target = stack.enter_context(replacing(output))
            if not names:
                fail(f"--layers: expected at least one name such as relu3_3, got {layers!r}")
            model, recipe = _load(weights, device, dtype, arch, options)
            for name in names:
                resolve_layer(model.config, name)
        sink = stack.enter_context(contextlib.closing(FeatureSink(names, output.parent)))
        skipped = 0
        try:
            for record in extract_files(model, found, recipe, sink, batch_size, progress):
                skipped += 1
                skip(record, strict)
        except SizeError as error:
            fail(str(error))
        sink.write(target, output.suffix)
    notice(f"wrote {', '.join(names)} of {len(sink.paths)} images to {output}")
    finish(skipped, len(found))


def _load(
    weights: str, device: str, dtype: str | None, arch: str | None, options: PresetOptions,
    labels: Path | None = None,
) -> tuple[VGG, Preset]:  # fmt: skip
    """Load the model and choose the preset; print what is assumed of it.

    Raises ``ValueError`` if the model takes no images, and for bad options.
    """
    options.check()
    model = VGG.load(weights, device=device, dtype=dtype, arch=arch, labels=labels)
    channels = model.config.in_channels
    if channels != IN_CHANNELS:
        raise ValueError(
            f"--weights: expected a network with {IN_CHANNELS} input channels, got {weights} with "
            f"{channels}; pass arrays to the model in Python instead"
        )
    return model, resolve(model, options, weights)
