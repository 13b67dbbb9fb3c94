"""The command ``vgg-cuda``: info, summary, plan, classify, features, verify, convert, bench.

Exit codes: 0 good; 1 ``verify`` found a layer whose result is bad; 2 bad arguments, paths, weights,
device or output, told before any work; 3 finished, but some images were skipped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ..bench.command import app as bench
from ..bench.command import profile
from ..files import remove_unfinished
from .info import info
from .options import (
    Arch,
    BatchSize,
    Device,
    Dtype,
    NetworkName,
    Paths,
    PresetName,
    Strict,
    WeightsName,
    network_named,
)
from .plan_table import plan
from .terminal import fail, finish, line, progress, skip, system_errors, user_errors
from .verify import verify

if TYPE_CHECKING:
    from ..images.presets import Preset
    from ..vgg import VGG

app = typer.Typer(
    help="VGG inference on hand-written CUDA kernels, with a NumPy backend where there is no GPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(bench, name="bench")
for command in (info, plan, verify, profile):
    app.command()(command)


def main() -> None:
    """Entry point of the console script."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _stop)
    warnings.showwarning = lambda message, *_, **__: typer.echo(f"warning: {message}", err=True)
    app()


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("vgg-cuda"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and exit.")
    ] = False,
) -> None:
    pass


def _stop(number: int, _: object) -> NoReturn:
    """Ends the program as the signal asks, leaving no temporary file.

    Not by an exception, which could strike anywhere: in the middle of an import it comes out as
    another one.
    """
    remove_unfinished()
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25h\n")  # the cursor, which a progress bar hides
    os._exit(128 + number)


@app.command()
def summary(
    network: NetworkName,
    size: Annotated[
        int | None, typer.Option(min=1, help="Side of the input image; default: 224, or its own.")
    ] = None,
    num_classes: Annotated[int, typer.Option(min=1, help="Outputs of fc8.")] = 1000,
) -> None:
    """The table of a network's layers: sizes, parameters, FLOPs."""
    from ..summary import summary_table

    with system_errors(), user_errors():
        config, activation = network_named(network, num_classes)
        typer.echo(summary_table(config, size, activation))


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
    """The most probable classes of every image."""
    from .batch_jobs import classify_files, image_paths
    from .predictions import check_format, write

    with system_errors(), contextlib.ExitStack() as stack:
        with user_errors():
            found = image_paths(paths)
            target = None
            if output is not None:
                check_format(output)
                target = stack.enter_context(_replacing(output))
            model, preset = _load(weights, device, dtype, arch, preset_name)
            _reads_images(model, weights)
            if model.config.num_classes is None:
                fail(f"{weights} has no dense head to classify with")
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
    layers: Annotated[str, typer.Option(help="Names with commas between: relu3_3,fc7.")],
    output: Annotated[Path, typer.Option(help="Write to this .npz or .safetensors file.")],
    batch_size: BatchSize = 32,
    device: Device = "auto",
    dtype: Dtype = None,
    arch: Arch = None,
    preset_name: PresetName = None,
    strict: Strict = False,
) -> None:
    """The tensors at some layers, for every image, as arrays [images, ...]."""
    from ..layers import resolve_layer
    from .batch_jobs import FeatureSink, SizeError, extract_files, image_paths

    names = list(dict.fromkeys(name.strip() for name in layers.split(",") if name.strip()))
    with system_errors(), contextlib.ExitStack() as stack:
        with user_errors():
            found = image_paths(paths)
            FeatureSink.check_format(output)
            target = stack.enter_context(_replacing(output))
            if not names:
                fail("--layers: expected at least one name, such as relu3_3")
            model, preset = _load(weights, device, dtype, arch, preset_name)
            _reads_images(model, weights)
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
def convert(
    source: Annotated[str, typer.Argument(help='A weights file, "digits" or "imagenet".')],
    output: Annotated[Path, typer.Argument(help="The file to write.")],
    to: Annotated[str, typer.Option(help="native, torchvision or onnx.")] = "native",
) -> None:
    """Writes weights in another format: this package's own, torchvision's names, or ONNX."""
    from ..files import check_writable
    from ..weights.convert import convert as run

    with system_errors(), user_errors():
        check_writable(output)
        weights = run(source, output, to)
    typer.echo(f"wrote {weights.config.name}, {to}, to {output}", err=True)


def _replacing(output: Path) -> contextlib.AbstractContextManager[Path]:
    from ..files import replacing

    return replacing(output)


def _reads_images(model: VGG, weights: str) -> None:
    channels = model.config.in_channels
    if channels != 3:
        fail(f"{weights} reads {channels} channels, images have 3: call the model with arrays")


def _load(
    weights: str, device: str, dtype: str | None, arch: str | None, preset_name: str | None
) -> tuple[VGG, Preset]:
    from ..images.presets import get_preset
    from ..vgg import VGG

    preset = None if preset_name is None else get_preset(preset_name)
    model = VGG.load(weights, device=device, dtype=dtype, arch=arch)
    return model, preset or model.preset
