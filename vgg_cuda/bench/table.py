"""A report on the screen: a table with rules and colours on a terminal, aligned text in a pipe."""

from __future__ import annotations

import sys

from .columns import Cells, cells
from .report import Report

BAD = ("wrong", "failed", "timeout")


def print_report(report: Report) -> None:
    """Writes to standard output."""
    found = cells(report)
    if sys.stdout.isatty():
        _rich(found)
    else:
        sys.stdout.write(text(found) + "\n")
    sys.stdout.flush()


def text(found: Cells) -> str:
    """Title, aligned rows and notes; no line ends in spaces."""
    rows = [found.headings, *found.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < found.texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "-" * max(map(len, lines))
    return "\n".join([found.title, "", lines[0], rule, *lines[1:], "", *found.notes])


def _rich(found: Cells) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # texts are no markup: names come from files

    table = Table(box=SIMPLE_HEAD, title=Text(found.title, style="bold"), title_justify="left")
    for i, heading in enumerate(found.headings):
        table.add_column(Text(heading), justify="left" if i < found.texts else "right")
    for row in found.rows:
        bad = any(cell in BAD for cell in row)
        table.add_row(*(Text(cell) for cell in row), style="red" if bad else None)
    console = Console()
    console.print(table)
    for note in found.notes:
        console.print(Text(note, style="dim"))
