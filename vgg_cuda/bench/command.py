"""``vgg-cuda bench`` and ``vgg-cuda profile``: the command line of benchmarks.

Exit codes: 0 measured; 1 a result is wrong, this package's own failed, or ``compare`` found a
regression; 2 bad arguments, told before anything is measured; 128 + the signal's number for an
interrupted run, whose output is written where it has figures. An error of the system in the middle
of a run, a full disk or no memory, leaves what was measured before it, and exits with 2.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..cli.terminal import BAD_RESULT, system_errors, user_errors
from ..text import plain
from .compare_command import compare_command

if TYPE_CHECKING:
    from .options import Options
    from .report import Report, Result

app = typer.Typer(
    help="Measures networks and kernels beside other programs, their results checked first.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("compare")(compare_command)

Network = Annotated[
    str, typer.Argument(help="vgg11, vgg13, vgg16, vgg19, digits, imagenet, or a weights file.")
]
Batches = Annotated[str, typer.Option("--batch", help="Images per call, with commas between.")]
Size = Annotated[
    int | None, typer.Option(min=1, help="Side of the images; default: the network's, or 224.")
]
Dtype = Annotated[
    str | None,
    typer.Option(help="float32 on the CPU; float16 (default), float32, tf32, bfloat16 on a GPU."),
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:N; emulator: counters in place of times.")
]
Arch = Annotated[str | None, typer.Option(help="Plan kernels for this GPU, sm_80 for example.")]
Graph = Annotated[bool, typer.Option("--graph/--no-graph", help="CUDA graphs on a GPU.")]
Peers = Annotated[
    str | None,
    typer.Option(
        help="Some of torch, compile, onnxruntime, jax with commas between, a module with an "
        'adapter, or "" for none.'
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(help="Seconds of samples of one program; default: 20 on the CPU, 5 on a GPU."),
]
Noise = Annotated[
    float | None,
    typer.Option(
        help="Stop when the median's 95 % interval is narrower than this part of it; default: "
        "0.03 on the CPU, 0.005 on a GPU."
    ),
]
Budget = Annotated[
    float | None, typer.Option(help="Seconds of the whole run; what has no time is left out.")
]
Patience = Annotated[
    float, typer.Option(help="Seconds that a program may take to load, compile and be checked.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of weights and inputs.")]
Output = Annotated[Path | None, typer.Option(help="Write to this .json, .csv or .md file.")]
Plot = Annotated[Path | None, typer.Option(help="Draw into this .png or .svg file.")]


@app.command()
def model(
    network: Network, batch: Batches = "1", size: Size = None, dtype: Dtype = None,
    device: Device = "auto", arch: Arch = None, graph: Graph = True, peers: Peers = None,
    timeout: Timeout = None, noise: Noise = None, budget: Budget = None,
    patience: Patience = 300.0, seed: Seed = 0, output: Output = None, plot: Plot = None,
) -> None:  # fmt: skip
    """A whole network: time per batch, images/s, beside other programs."""
    _main(
        lambda: _options(
            "model", batch, network=network, size=size, dtype=dtype, device=device, arch=arch,
            graph=graph, peers=_peers(peers), timeout=timeout, noise=noise, budget=budget,
            patience=patience, seed=seed,
        ), output, plot,
    )  # fmt: skip


@app.command()
def kernel(
    layer: Annotated[
        list[str] | None, typer.Option(help="conv3_2, say; repeated, or with commas between.")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="n,h,w,c,k of a convolution instead; repeated.")
    ] = None,
    pool: Annotated[bool, typer.Option("--pool", help="With a 2x2 pool behind --shape.")] = False,
    relu: Annotated[bool, typer.Option("--relu", help="With a ReLU behind --shape.")] = False,
    network: Annotated[str, typer.Option(help="Whose layers; default: all of them.")] = "vgg16",
    batch: Batches = "1", size: Size = None, dtype: Dtype = None, device: Device = "auto",
    arch: Arch = None, graph: Graph = True, peers: Peers = None, timeout: Timeout = None,
    noise: Noise = None, budget: Budget = None, patience: Patience = 300.0, seed: Seed = 0,
    output: Output = None, plot: Plot = None,
) -> None:  # fmt: skip
    """Single layers, each alone: time, rates, part of what the machine's ceilings allow."""
    layers = tuple(name.strip() for text in layer or () for name in text.split(","))
    _main(
        lambda: _options(
            "kernel", batch, network=network, size=size, dtype=dtype, device=device, arch=arch,
            graph=graph, peers=_peers(peers), timeout=timeout, noise=noise, budget=budget,
            patience=patience, seed=seed, layers=layers, shapes=tuple(shape or ()), pool=pool,
            relu=relu,
        ), output, plot,
    )  # fmt: skip


def profile(
    network: Network, batch: Batches = "1", size: Size = None, dtype: Dtype = None,
    device: Device = "auto", arch: Arch = None, timeout: Timeout = None, noise: Noise = None,
    patience: Patience = 300.0, seed: Seed = 0, output: Output = None, plot: Plot = None,
) -> None:  # fmt: skip
    """Where a forward's time goes: every layer's time, share, rates and part of its floor."""
    _main(
        lambda: _options(
            "profile", batch, network=network, size=size, dtype=dtype, device=device, arch=arch,
            timeout=timeout, noise=noise, patience=patience, seed=seed,
        ), output, plot,
    )  # fmt: skip


def _options(kind: Any, batch: str, **given: Any) -> Options:
    from .options import Options

    try:
        batches = tuple(int(word) for word in batch.split(","))
    except ValueError:
        raise ValueError(f"--batch: expected numbers with commas between, got {batch!r}") from None
    return Options(kind, batches=batches, **given)


def _peers(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _main(make: Callable[[], Options], output: Path | None, plot: Path | None) -> None:
    """Refuses what it can at first; writes what was measured, whatever ended the run."""
    from .interruption import Interruption
    from .options import resolve
    from .output import check_output
    from .suite import Suite

    with system_errors():
        with user_errors():
            options = make()
            if output is not None:
                check_output(output)
            if plot is not None:
                from .plot import check_plot

                check_plot(plot)
            stop = Interruption()
            asked = resolve(options)
        with stop.watching():
            with _progress() as say:
                with user_errors():
                    suite = Suite(asked, stop, say)
                report = suite.run()
            said = _leave(report, output, plot)
        if stop.number is not None:
            what = "what was measured is there" if _has_figures(report) else said[0]
            typer.echo(plain(f"interrupted: {what}"), err=True)
            raise typer.Exit(128 + stop.number)
        for text in said:
            typer.echo(plain(text), err=True)
        if suite.error is not None:
            raise suite.error
    if any(_is_bad(result) for result in report.results):
        raise typer.Exit(BAD_RESULT)


def _leave(report: Report, output: Path | None, plot: Path | None) -> list[str]:
    """Writes and prints ``report``; what there is to say of the files.

    Nothing of a run that ended before its first figure: an older file is worth more.
    """
    from .output import write
    from .table import print_report

    timed = any(result.median_s for result in report.results)
    if report.interrupted and not _has_figures(report):
        kept = [f"{path} is not written" for path in (output, plot) if path is not None]
        return ["; ".join(["nothing was measured", *kept])]
    said = []
    try:
        with user_errors():
            if output is not None:
                write(report, output)
                said.append(f"wrote {output}")
            if plot is not None and timed:
                from .plot import plot as draw

                draw(report, plot)
                said.append(f"wrote {plot}")
            elif plot is not None:
                said.append(f"{plot} is not written: no result has a time that could be drawn")
    finally:  # also where the disk is full
        if report.results:
            print_report(report)
    return said


def _has_figures(report: Report) -> bool:
    return any(result.median_s or result.counters for result in report.results)


def _is_bad(result: Result) -> bool:
    """Wrong, or this package's own that did not come to its end."""
    ours = result.peer == "vgg_cuda" and result.status in ("failed", "timeout")
    return result.status == "wrong" or ours


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What happens now, on standard error: one changing line on a terminal, else nothing."""
    if sys.stderr is None or not sys.stderr.isatty():  # None: it is closed
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("starting") as status:
        yield lambda text: status.update(Text(plain(text)))
