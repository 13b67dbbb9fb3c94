"""What the commands say on a terminal, and the codes that they exit with."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import typer

from ..text import plain

BAD_RESULT = 1
BAD_INPUT = 2
SOME_SKIPPED = 3


def fail(message: str) -> NoReturn:
    """Says what is wrong, in one line, and exits with 2."""
    typer.echo(f"error: {plain(message)}", err=True)
    raise typer.Exit(BAD_INPUT)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """One line and exit code 2 for what a user can mend in the arguments."""
    from ..backends import DeviceError

    try:
        yield
    except (ValueError, DeviceError) as error:
        fail(str(error))


@contextlib.contextmanager
def system_errors() -> Iterator[None]:
    """The same for what the system refuses at any time: a full disk, memory."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader has gone: typer ends quietly
    except OSError as error:
        fail(str(error))
    except MemoryError as error:
        fail(f"not enough memory: {error}")


def skip(record: dict[str, Any], strict: bool) -> None:
    """Names an image that was skipped and why; ends the run where that is ``strict``."""
    if strict:
        fail(f"{record['error']} (--strict stops at the first)")
    typer.echo(f"skipped: {plain(record['error'])}", err=True)


def finish(skipped: int, total: int) -> None:
    """Exits with 3 where images were skipped."""
    if skipped:
        typer.echo(f"{skipped} of {total} images were skipped", err=True)
        raise typer.Exit(SOME_SKIPPED)


def progress(batches: Iterator[Any], total: int) -> Iterator[Any]:
    """The batches, with a progress bar where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield from batches
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("working", total=total)
        for batch in batches:
            yield batch
            bar.advance(task, len(batch.indices) + len(batch.failed))


def line(record: dict[str, Any]) -> str:
    """An image and its classes on one line."""
    shown = ", ".join(f"{p['label']} {p['probability']:.1%}" for p in record["predictions"])
    return plain(f"{record['path']}: {shown}")
