"""``vgg-cuda bench`` and ``vgg-cuda profile``.

Exit codes: 0 measured; 1 a result is wrong, this package's own program failed, or ``compare`` found
a regression; 2 bad arguments, reported before any measurement; 128 + the signal's number for an
interrupted run, which still writes its measurements. A system error during a run, such as a full
disk, writes the measurements made before it and exits with 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..text import plain
from .options import Arch, Dtype, Json, Quiet
from .terminal import BAD_RESULT, Command, status, system_errors, user_errors

if TYPE_CHECKING:
    from ..bench.report import Kind, Report

app = typer.Typer(
    help="Benchmark networks and kernels beside other programs, after checking their results.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Network = Annotated[
    str, typer.Argument(help="vgg11, vgg13, vgg16, vgg19, digits, imagenet, or a weights file.")
]
Batches = Annotated[str, typer.Option("--batch", help="Images per call, separated by commas.")]
Size = Annotated[
    int | None,
    typer.Option(min=1, help="Height and width of the images; default: the network's, or 224."),
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:N; emulator: counters instead of times.")
]
Graph = Annotated[bool, typer.Option("--graph/--no-graph", help="Use CUDA graphs on a GPU.")]
Peers = Annotated[
    str | None,
    typer.Option(
        help="Programs to compare with, separated by commas: torch, compile, onnxruntime, jax, or "
        'modules with an adapter; "" for none; default: torch, and onnxruntime for a network.'
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(help="Seconds of sampling per program; default: 20 on the CPU, 5 on a GPU."),
]
Noise = Annotated[
    float | None,
    typer.Option(
        help="Stop when the 95 % interval of the median is narrower than this fraction of the "
        "median; default: 0.03 on the CPU, 0.005 on a GPU."
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(help="Seconds for the whole run; work for which no time is left is not measured."),
]
PrepareTimeout = Annotated[
    float, typer.Option(help="Seconds in which a program must load, compile and be checked.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of random weights and inputs.")]
Output = Annotated[Path | None, typer.Option(help="Write to this .json, .csv or .md file.")]
Plot = Annotated[Path | None, typer.Option(help="Draw into this .png or .svg file.")]


@app.command(cls=Command)
def model(
    network: Network, batch: Batches = "1", size: Size = None, dtype: Dtype = None,
    device: Device = "auto", arch: Arch = None, graph: Graph = True, peers: Peers = None,
    timeout: Timeout = None, noise: Noise = None, budget: Budget = None,
    prepare_timeout: PrepareTimeout = 300.0, seed: Seed = 0, output: Output = None,
    plot: Plot = None, as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure a whole network: time per batch and images/s, beside other programs."""
    _run("model", **locals())


@app.command(cls=Command)
def kernel(
    layer: Annotated[
        list[str] | None,
        typer.Option(help="A layer such as conv3_2; repeat it, or separate names by commas."),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(help="n,h,w,c,k of a convolution instead of a layer; can be repeated."),
    ] = None,
    pool: Annotated[bool, typer.Option("--pool", help="Add a 2x2 pool to --shape.")] = False,
    relu: Annotated[bool, typer.Option("--relu", help="Add a ReLU to --shape.")] = False,
    network: Annotated[
        str, typer.Option(help="The network of the layers; all of its layers by default.")
    ] = "vgg16",
    batch: Batches = "1", size: Size = None, dtype: Dtype = None, device: Device = "auto",
    arch: Arch = None, graph: Graph = True, peers: Peers = None, timeout: Timeout = None,
    noise: Noise = None, budget: Budget = None, prepare_timeout: PrepareTimeout = 300.0,
    seed: Seed = 0, output: Output = None, plot: Plot = None, as_json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure single layers: time, rates, and fraction of the machine's measured ceilings."""
    _run("kernel", **locals())


def profile(
    network: Network, batch: Batches = "1", size: Size = None, dtype: Dtype = None,
    device: Device = "auto", arch: Arch = None, timeout: Timeout = None, noise: Noise = None,
    prepare_timeout: PrepareTimeout = 300.0, seed: Seed = 0, output: Output = None,
    plot: Plot = None, as_json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Profile a forward: every layer's time, share, rates and fraction of its floor."""
    _run("profile", **locals())


@app.command(cls=Command)
def compare(
    old: Annotated[Path, typer.Argument(help="A report written by --output r.json.")],
    new: Annotated[Path, typer.Argument(help="The report to compare with it.")],
    threshold: Annotated[
        float | None,
        typer.Option(help="Variation between runs: 0.05 means 5 % (default; 0.02 on a GPU)."),
    ] = None,
    other_device: Annotated[
        bool, typer.Option("--other-device", help="Compare reports of different devices.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare two reports; exits with 1 if a result became slower beyond the noise."""
    from .bench_compare import run

    run(old, new, threshold, other_device, as_json)


def _run(
    kind: Kind, *, batch: str, output: Path | None, plot: Path | None, peers: str | None = None,
    layer: list[str] | None = None, shape: list[str] | None = None, as_json: bool = False,
    quiet: bool = False, **options: Any,
) -> None:  # fmt: skip
    """Run a benchmark; the arguments are the options of its subcommand.

    Checks everything that can be checked first, and writes the measurements however the run ends.
    """
    from ..bench import output as files
    from ..bench import plot as plots
    from ..bench import suite
    from ..bench.options import Options, resolve
    from ..bench.peers import OURS
    from ..system.interruption import Interruption

    with system_errors():
        with user_errors():
            for path, check in ((output, files.check_output), (plot, plots.check_plot)):
                if path is not None:
                    check(path)
            settings = resolve(
                Options(
                    kind, batches=_batches(batch),
                    peers=None if peers is None else tuple(filter(None, _names([peers]))),
                    layers=_names(layer or []), shapes=tuple(shape or ()), **options,
                )
            )  # fmt: skip
        stop = Interruption()
        with stop.watching():
            with status() as say:
                with user_errors():
                    runner = suite.Suite(settings, stop, say)
                report = runner.run()
            messages = _write(report, output, plot, as_json)
        if stop.number is not None:
            kept = "the measurements until then are reported"
            if not _has_figures(report):
                # Without messages, the signal came after the run, which had measured nothing.
                kept = messages[0] if messages else "nothing was measured"
            typer.echo(plain(f"interrupted: {kept}"), err=True)
            raise typer.Exit(128 + stop.number)
        for message in messages:
            if not (quiet and message.startswith("wrote ")):
                typer.echo(plain(message), err=True)
        if runner.error is not None:
            raise runner.error
    ours_failed = any(r.peer == OURS and r.status in ("failed", "timeout") for r in report.results)
    if ours_failed or any(r.status == "wrong" for r in report.results):
        raise typer.Exit(BAD_RESULT)


def _batches(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"--batch: expected numbers separated by commas, got {text!r}") from None


def _names(texts: list[str]) -> tuple[str, ...]:
    """Return the names in comma-separated ``texts``, including empty names."""
    return tuple(name.strip() for text in texts for name in text.split(","))


def _write(report: Report, output: Path | None, plot: Path | None, as_json: bool) -> list[str]:
    """Write and print ``report``, and return messages about the files.

    An interrupted run without figures leaves older files as they are.
    """
    from ..bench import output as files
    from ..bench import plot as plots
    from .bench_table import print_report

    if report.interrupted and not _has_figures(report):
        unwritten = [f"{path} is not written" for path in (output, plot) if path is not None]
        return ["; ".join(["nothing was measured", *unwritten])]
    messages = []
    try:
        with user_errors():
            if output is not None:
                files.write(report, output)
                messages.append(f"wrote {output}")
            if plot is not None and any(result.median_s for result in report.results):
                plots.plot(report, plot)
                messages.append(f"wrote {plot}")
            elif plot is not None:
                messages.append(f"{plot} is not written: no result has a time to plot")
    finally:  # also if the disk is full
        if report.results and as_json:
            typer.echo(report.to_json(), nl=False)
        elif report.results:
            print_report(report)
    return messages


def _has_figures(report: Report) -> bool:
    return any(result.median_s or result.counters for result in report.results)
