"""Messages on the terminal, and exit codes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import typer

from ..text import plain

BAD_RESULT = 1
BAD_INPUT = 2
SOME_SKIPPED = 3


def fail(message: str) -> NoReturn:
    """Print an error on one line and exit with code 2."""
    typer.echo(f"error: {plain(message)}", err=True)
    raise typer.Exit(BAD_INPUT)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors that the user can correct into one line and exit code 2."""
    from ..backends import DeviceError

    try:
        yield
    except (ValueError, DeviceError) as error:
        fail(str(error))


@contextlib.contextmanager
def system_errors() -> Iterator[None]:
    """Turn errors of the system (a full disk, a lost GPU) into one line and exit code 2."""
    from ..backends import KernelError

    try:
        yield
    except BrokenPipeError:
        raise  # the reader of a pipe has exited: typer ends without a message
    except (OSError, KernelError) as error:
        fail(str(error))
    except MemoryError as error:
        fail(f"not enough memory: {error}")


def notice(message: str) -> None:
    """Print a message on one line of standard error."""
    typer.echo(plain(message), err=True)


def skip(record: dict[str, Any], strict: bool) -> None:
    """Print which image was skipped and why; exit with code 2 if ``strict``."""
    if strict:
        fail(f"{record['error']}; stopped because of --strict")
    typer.echo(f"skipped: {plain(record['error'])}", err=True)


def finish(skipped: int, total: int) -> None:
    """Exit with code 3 if images were skipped."""
    if skipped:
        typer.echo(f"{skipped} of {total} images were skipped", err=True)
        raise typer.Exit(SOME_SKIPPED)


def progress(batches: Iterator[Any], total: int) -> Iterator[Any]:
    """Yield ``batches``, and show a progress bar if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield from batches
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("images", total=total)
        for batch in batches:
            yield batch
            bar.advance(task, len(batch.indices) + len(batch.failed))


@contextlib.contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """Show progress messages in one changing line if standard error is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():  # None: standard error is closed
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("starting") as shown:
        yield lambda text: shown.update(Text(plain(text)))


def line(record: dict[str, Any]) -> str:
    """Return the path of an image and its predictions on one line."""
    shown = ", ".join(f"{p['label']} {p['probability']:.1%}" for p in record["predictions"])
    return plain(f"{record['path']}: {shown}")
