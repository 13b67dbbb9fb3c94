"""``vgg-cuda bench compare OLD.json NEW.json``: ratios as a table; exits with 1 for a regression.

``app.command("compare")(compare_command)`` makes it a command.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..cli.terminal import BAD_RESULT, fail, system_errors, user_errors


def compare_command(
    old: Annotated[Path, typer.Argument(help="A report, as --output r.json wrote it.")],
    new: Annotated[Path, typer.Argument(help="The report to hold against it.")],
    threshold: Annotated[
        float | None,
        typer.Option(help="What may differ between runs: 0.05 is 5 % (default; on a GPU 0.02)."),
    ] = None,
    other_device: Annotated[
        bool, typer.Option("--other-device", help="Compare though the devices differ.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ratios of two reports; exits with 1 where something became slower beyond the noise."""
    from .compare import compare
    from .compare_text import as_dict, text
    from .report import read

    with system_errors():
        with user_errors():
            found = compare(read(old), read(new), threshold, other_device)
        data: dict[str, Any] = {"old": str(old), "new": str(new), **as_dict(found)}
        typer.echo(json.dumps(data, indent=1, allow_nan=False) if as_json else text(found))
        if sys.stdout is not None:
            sys.stdout.flush()
    if found.regressions:
        raise typer.Exit(BAD_RESULT)
    if all(pair.verdict == "not comparable" for pair in found.pairs):
        fail(f"nothing in {new} is the same work as in {old}")
