"""The command ``vgg-cuda`` and its subcommands for images and weights.

Exit codes: 0 success; 1 ``verify`` or ``selftest`` found a fault; 2 invalid arguments, paths,
weights, device or output, reported before any work starts; 3 finished, but some images were
skipped.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from ..summary import as_dict, summary_table
from ..system.files import check_writable, remove_unfinished
from ..weights.convert import convert as convert_weights
from .bench import app as bench
from .bench import profile
from .image_commands import classify, features
from .info import info
from .options import Json, NetworkName, Quiet, Size, network_named
from .plan_table import plan
from .selftest import selftest
from .terminal import Command, notice, system_errors, user_errors
from .tune import tune
from .verify import verify

ORDER = (  # as a newcomer needs them
    *("classify", "features", "convert", "summary", "info", "verify", "bench", "profile"),
    *("plan", "tune", "selftest"),
)


class Group(TyperGroup):
    """The subcommands, listed in :data:`ORDER`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the subcommands."""
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    cls=Group,
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


@app.command(cls=Command)
def summary(
    network: NetworkName,
    size: Size = None,
    num_classes: Annotated[int, typer.Option(min=1, help="Outputs of fc8.")] = 1000,
    as_json: Json = False,
) -> None:
    """Print a network's layers: shapes, parameters, FLOPs."""
    with system_errors(), user_errors():
        named = network_named(network, num_classes)
        of = (named.config, size or named.size, named.activation)
        typer.echo(json.dumps(as_dict(*of), indent=2) if as_json else summary_table(*of))


@app.command(cls=Command)
def convert(
    source: Annotated[str, typer.Argument(help="digits, imagenet or a weights file.")],
    output: Annotated[Path, typer.Argument(help="The file to write.")],
    to: Annotated[str, typer.Option(help="native, torchvision or onnx.")] = "native",
    preset: Annotated[
        str | None,
        typer.Option(help="Preprocessing to write into the file: a name or a .json file."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Class names to write into the file: .txt or .json.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Convert weights to another format.

    Formats: this package's own (native), torchvision's tensor names, or ONNX.
    """
    with system_errors(), user_errors():
        check_writable(output)
        found = convert_weights(source, output, to, preset=preset, labels=labels)
    notice(f"wrote {output}: {found.config.name} in the format {to}")


for command in (classify, features, info, selftest, verify, plan, tune):
    app.command(cls=Command)(command)
app.add_typer(bench, name="bench")
app.command(cls=Command)(profile)
