"""The command ``vgg-cuda`` and its subcommands for images and weights.

Exit codes: 0 success; 1 ``verify`` or ``selftest`` found a fault; 2 invalid arguments, paths,
weights, device or output, reported before any work starts; 3 finished, but some images were
skipped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ..configs import IN_CHANNELS
from ..files import check_writable, remove_unfinished, replacing
from ..images.batches import find_images
from ..images.presets import Preset, get_preset
from ..layers import resolve_layer
from ..summary import summary_table
from ..vgg import VGG
from ..weights.convert import convert as convert_weights
from .batch_jobs import FeatureSink, SizeError, check_format, classify_files, extract_files
from .bench import app as bench
from .bench import profile
from .info import info
from .options import (
    Arch,
    BatchSize,
    Device,
    Dtype,
    NetworkName,
    Paths,
    PresetName,
    Size,
    Strict,
    WeightsName,
    network_named,
)
from .plan_table import plan
from .predictions import FORMATS, write
from .selftest import selftest
from .terminal import fail, finish, line, progress, skip, system_errors, user_errors
from .tune import tune
from .verify import verify

app = typer.Typer(
    help="VGG inference on hand-written CUDA kernels, with a CPU backend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line; the entry point of the console script."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _stop)
    warnings.showwarning = lambda message, *_, **__: typer.echo(f"warning: {message}", err=True)
    app()


def _stop(number: int, _: object) -> NoReturn:
    """Remove temporary files and exit with the signal's code.

    The handler raises no exception, because an exception inside an import, for example, is replaced
    by another one.
    """
    remove_unfinished()
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25h\n")  # show the cursor, which a progress bar hides
    os._exit(128 + number)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(version("vgg-cuda"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def classify(
    paths: Paths,
    weights: WeightsName,
    top_k: Annotated[int, typer.Option(min=1, help="Classes per image.")] = 5,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    dtype: Dtype = None,
    arch: Arch = None,
    preset_name: PresetName = None,
    output: Annotated[Path | None, typer.Option(help="Write to this .json or .csv file.")] = None,
    strict: Strict = False,
) -> None:
    """Print the most probable classes of every image."""
    with system_errors(), contextlib.ExitStack() as stack:
        with user_errors():
            found = find_images(paths)
            target = None
            if output is not None:
                check_format(output, FORMATS)
                target = stack.enter_context(replacing(output))
            model, preset = _load(weights, device, dtype, arch, preset_name)
            if model.config.num_classes is None:
                fail(f"--weights: expected a network with a dense head, got {weights} without one")
        records = []
        for record in classify_files(model, found, preset, top_k, batch_size, progress):
            records.append(record)
            if "error" in record:
                skip(record, strict)
            elif target is None:
                typer.echo(line(record))
        if target is not None and output is not None:
            write(records, target, output.suffix)
    if output is not None:
        typer.echo(f"wrote {len(records)} results to {output}", err=True)
    finish(sum("error" in record for record in records), len(found))


@app.command()
def features(
    paths: Paths,
    weights: WeightsName,
    layers: Annotated[str, typer.Option(help="Layer names separated by commas: relu3_3,fc7.")],
    output: Annotated[Path, typer.Option(help="Write to this .npz or .safetensors file.")],
    batch_size: BatchSize = 32,
    device: Device = "auto",
    dtype: Dtype = None,
    arch: Arch = None,
    preset_name: PresetName = None,
    strict: Strict = False,
) -> None:
    """Save the tensors of some layers for every image."""
    names = list(dict.fromkeys(name.strip() for name in layers.split(",") if name.strip()))
    with system_errors(), contextlib.ExitStack() as stack:
        with user_errors():
            found = find_images(paths)
            check_format(output, FeatureSink.FORMATS)
            target = stack.enter_context(replacing(output))
            if not names:
                fail(f"--layers: expected at least one name such as relu3_3, got {layers!r}")
            model, preset = _load(weights, device, dtype, arch, preset_name)
            for name in names:
                resolve_layer(model.config, name)
        sink = stack.enter_context(contextlib.closing(FeatureSink(names, output.parent)))
        skipped = 0
        try:
            for record in extract_files(model, found, preset, sink, batch_size, progress):
                skipped += 1
                skip(record, strict)
        except SizeError as error:
            fail(str(error))
        sink.write(target, output.suffix)
    typer.echo(f"wrote {', '.join(names)} of {len(sink.paths)} images to {output}", err=True)
    finish(skipped, len(found))


@app.command()
def summary(
    network: NetworkName,
    size: Size = None,
    num_classes: Annotated[int, typer.Option(min=1, help="Outputs of fc8.")] = 1000,
) -> None:
    """Print a network's layers: shapes, parameters, FLOPs."""
    with system_errors(), user_errors():
        config, activation = network_named(network, num_classes)
        typer.echo(summary_table(config, size, activation))


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="digits, imagenet or a weights file.")],
    output: Annotated[Path, typer.Argument(help="The file to write.")],
    to: Annotated[str, typer.Option(help="native, torchvision or onnx.")] = "native",
) -> None:
    """Convert weights to another format.

    Formats: this package's own (native), torchvision's tensor names, or ONNX.
    """
    with system_errors(), user_errors():
        check_writable(output)
        found = convert_weights(source, output, to)
    typer.echo(f"wrote {output}: {found.config.name} in the format {to}", err=True)


for command in (info, selftest, verify, plan, tune):
    app.command()(command)
app.add_typer(bench, name="bench")
app.command()(profile)


def _load(
    weights: str, device: str, dtype: str | None, arch: str | None, preset_name: str | None
) -> tuple[VGG, Preset]:
    """Load the model and choose the preset. Raises ``ValueError`` if the model takes no images."""
    preset = None if preset_name is None else get_preset(preset_name)
    model = VGG.load(weights, device=device, dtype=dtype, arch=arch)
    channels = model.config.in_channels
    if channels != IN_CHANNELS:
        raise ValueError(
            f"--weights: expected a network with {IN_CHANNELS} input channels, got {weights} with "
            f"{channels}; pass arrays to the model in Python instead"
        )
    return model, preset or model.preset
