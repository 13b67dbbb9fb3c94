"""The subcommand ``selftest``."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from ..system.cache import CacheError
from ..text import plain
from .options import Json, Quiet
from .terminal import BAD_RESULT, status, system_errors, user_errors


def selftest(
    device: Annotated[str, typer.Option(help="cuda, cuda:N or emulator.")] = "cuda",
    arch: Annotated[
        str | None,
        typer.Option(
            help="GPU whose kernels are tested, such as sm_80; default: VGG_CUDA_ARCH, the "
            "device's, or on the emulator sm_90a."
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Parts separated by commas, such as halo,early.")
    ] = None,
    limit_s: Annotated[
        float | None,
        typer.Option(
            "--limit",
            min=0.1,
            help="Seconds until a kernel counts as hung; default: 10, emulator: 120.",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Test every kernel family on a GPU, in processes that may hang or crash.

    Families that fail are off from then on, and slower kernels replace them. The exit code is 1 if
    a part failed or nothing was tested.
    """
    from ..selftest import selftest as test
    from ..system.interruption import Interrupted, Interruption

    stop = Interruption()
    with system_errors():
        try:
            with stop.watching(), user_errors(), status() as say:
                report = test(
                    device, arch, only=_names(only), limit_s=limit_s, stop=stop, progress=say
                )
        except Interrupted:  # the progress display has ended
            assert stop.number is not None
            typer.echo("interrupted: no verdict was kept", err=True)
            raise typer.Exit(128 + stop.number) from None
        kept, error = None, None
        try:
            kept = report.keep()
        except CacheError as reason:
            error = reason
        if as_json:
            found = {**report.as_dict(), "kept": None if kept is None else str(kept)}
            typer.echo(json.dumps(found, indent=2))
        else:
            typer.echo(report.table())
            if kept is not None:
                typer.echo(plain(f"verdicts are kept in {kept}"))
        if sys.stdout is not None:  # closed
            sys.stdout.flush()
    if error is not None:
        typer.echo(plain(f"error: {error}"), err=True)
    if error is not None or not report.ok:
        raise typer.Exit(BAD_RESULT)


def _names(only: list[str] | None) -> list[str] | None:
    if not only:
        return None
    return [name.strip() for name in ",".join(only).split(",") if name.strip()]
