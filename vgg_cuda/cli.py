"""The command ``vgg-cuda``: info, summary, classify.

Exit codes: 0 good; 2 bad arguments, paths, weights, device or output, told before any work;
3 finished, but some images were skipped.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    help="VGG inference on hand-written CUDA kernels, with a NumPy backend where there is no GPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

BAD_INPUT = 2
SOME_SKIPPED = 3

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[
    str | None, typer.Option(help="float32 on the CPU; float16 (default) or float32 on a GPU.")
]


def main() -> None:
    """Entry point of the console script."""
    app()


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(BAD_INPUT)


@contextlib.contextmanager
def _user_errors() -> Iterator[None]:
    """One line and exit code 2 for what a user can mend; everything else is a bug and shows."""
    from .backends import DeviceError

    try:
        yield
    except (ValueError, OSError, DeviceError) as error:
        _fail(str(error))


@app.command()
def info(as_json: Json = False) -> None:
    """Versions, commit, backends (and why one is missing), devices, BLAS."""
    from .info import collect, lines

    found = collect()
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for name, text in lines(found):
        typer.echo(f"{name:14s} {text}")


@app.command()
def summary(
    network: Annotated[str, typer.Argument(help="vgg11, vgg13, vgg16, vgg19, or a weights file.")],
    size: Annotated[int, typer.Option(min=1, help="Side of the input image.")] = 224,
    num_classes: Annotated[int, typer.Option(min=1, help="Outputs of fc8.")] = 1000,
) -> None:
    """The table of a network's layers: sizes, parameters, FLOPs."""
    from .configs import CONFIGS, get_config
    from .summary import summary_table
    from .weights import load_weights

    with _user_errors():
        if network in CONFIGS:
            config, activation = get_config(network, num_classes=num_classes), None
        else:
            if network != "digits" and not Path(network).exists():
                _fail(
                    f"unknown network {network!r}: expected one of {', '.join(CONFIGS)}, digits, "
                    "or the path of a weights file"
                )
            weights = load_weights(network)
            config, activation = weights.config, weights.activation
        typer.echo(summary_table(config, size, activation))


@app.command()
def classify(
    paths: Annotated[list[Path], typer.Argument(help="Image files and folders.")],
    weights: Annotated[str, typer.Option(help='"digits" or the path of a weights file.')],
    top_k: Annotated[int, typer.Option(min=1, help="Classes per image.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward.")] = 32,
    device: Device = "auto",
    dtype: Dtype = None,
    output: Annotated[Path | None, typer.Option(help="Write to this .json or .csv file.")] = None,
    strict: Annotated[bool, typer.Option(help="Stop at the first image that fails.")] = False,
) -> None:
    """The most probable classes of every image; folders are searched recursively."""
    from .images import find_images
    from .report import check_format, write
    from .vgg import VGG

    # Pillow's warnings about odd files are for programmers; what cannot be read is reported below
    warnings.filterwarnings("ignore", module="PIL")
    with contextlib.ExitStack() as stack:
        with _user_errors():
            found = find_images(paths)
            target = None
            if output is not None:
                from .files import replacing

                check_format(output)
                target = stack.enter_context(replacing(output))
            model = VGG.load(weights, device=device, dtype=dtype)
            if model.config.num_classes is None:
                _fail(f"{weights} has no dense head to classify with")
        records = []
        for record in _classified(model, found, top_k, batch_size):
            if "error" in record:
                if strict:
                    _fail(f"{record['error']} (--strict stops at the first)")
                typer.echo(f"skipped: {record['error']}", err=True)
            elif target is None:
                typer.echo(_line(record))
            records.append(record)
        if target is not None and output is not None:
            write(records, target, output.suffix)
    skipped = sum("error" in record for record in records)
    if output is not None:
        typer.echo(f"wrote {len(records)} results to {output}", err=True)
    if skipped:
        typer.echo(f"{skipped} of {len(records)} images were skipped", err=True)
        raise typer.Exit(SOME_SKIPPED)


def _classified(
    model: Any, paths: list[Path], top_k: int, batch_size: int
) -> Iterator[dict[str, Any]]:
    """A record per path, in order: its predictions, or the error that made it be skipped."""
    from .images import batches

    for batch in _progress(batches(paths, model.preset, batch_size), len(paths)):
        records: dict[int, dict[str, Any]] = {
            failure.index: {"path": str(paths[failure.index]), "error": str(failure.error)}
            for failure in batch.failed
        }
        if batch.indices:
            tops = model.top(model.probabilities(batch.x), top_k)
            for index, top in zip(batch.indices, tops, strict=True):
                predictions = [asdict(prediction) for prediction in top]
                records[index] = {"path": str(paths[index]), "predictions": predictions}
        for index in sorted(records):
            yield records[index]


def _progress(batches: Iterator[Any], total: int) -> Iterator[Any]:
    """The batches, with a progress bar where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield from batches
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("classifying", total=total)
        for batch in batches:
            yield batch
            progress.advance(task, len(batch.indices) + len(batch.failed))


def _line(record: dict[str, Any]) -> str:
    shown = ", ".join(f"{p['label']} {p['probability']:.1%}" for p in record["predictions"])
    return f"{record['path']}: {shown}"
