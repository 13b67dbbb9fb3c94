"""Messages on the terminal, and exit codes."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand

from ..text import plain

BAD_RESULT = 1
BAD_INPUT = 2
SOME_SKIPPED = 3


_context: ContextVar[Any] = ContextVar("context", default=None)


class Command(TyperCommand):
    """A subcommand whose options the functions of this module know."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        token = _context.set(ctx)
        try:
            return super().invoke(ctx)
        finally:
            _context.reset(token)


def is_quiet() -> bool:
    """Return whether the subcommand that runs was given ``--quiet``."""
    context = _context.get()
    return context is not None and bool(context.params.get("quiet"))


def fail(message: str) -> NoReturn:
    """Print an error on one line and exit with code 2."""
    typer.echo(f"error: {plain(_with_option(message))}", err=True)
    raise typer.Exit(BAD_INPUT)


def _with_option(message: str) -> str:
    """Return ``message`` with the option's name if it begins with a name of Python's argument."""
    name, colon, rest = message.partition(": ")
    for parameter in [] if _context.get() is None else _context.get().command.params:
        option = next((o for o in parameter.opts if o.startswith("--")), None)
        if colon and option and name in (parameter.name, option[2:].replace("-", "_")):
            return f"{option}: {rest}"
    return message


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
    except OSError as error:
        if error.strerror is not None and error.filename is None and _is_printing(error):
            fail(f"standard output: {error.strerror.lower()}")
        if error.strerror is None or error.filename is None:
            fail(str(error))
        fail(f"{error.filename}: {error.strerror.lower()}")  # without "[Errno 2]"
    except KernelError as error:
        fail(str(error))
    except MemoryError as error:
        fail(f"not enough memory: {error}")


def _is_printing(error: OSError) -> bool:
    """Return whether ``typer.echo`` raised ``error``."""
    echo: Any = typer.echo
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code is echo.__code__ for frame, _ in frames)


def notice(message: str) -> None:
    """Print a message on one line of standard error, unless the subcommand is quiet."""
    if not is_quiet():
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
    """Yield ``batches``, and show counts and rate if standard error is a terminal."""
    if is_quiet() or not sys.stderr.isatty():
        yield from batches
        return
    from rich import progress as rich
    from rich.console import Console
    from rich.text import Text

    class Rate(rich.ProgressColumn):
        def render(self, task: rich.Task) -> Text:
            return Text(f"{task.completed / (task.elapsed or 1):.1f} images/s")

    columns = [rich.BarColumn(), rich.MofNCompleteColumn(), Rate(), rich.TimeRemainingColumn()]
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("images", total=total)
        for batch in batches:
            yield batch
            bar.advance(task, len(batch.indices) + len(batch.failed))


@contextlib.contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """Show progress messages in one changing line if standard error is a terminal."""
    is_closed = sys.stderr is None
    if is_quiet() or is_closed or not sys.stderr.isatty():
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
