"""Print a report: a table with rules and colours on a terminal, aligned text in a pipe."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Literal

from ..bench.columns import Cells, cells
from ..bench.report import Report

DISPENSABLE = [
    *("samples", "load s", "enqueue", "host to device", "device", "p99", "peak GB", "% memory"),
    *("% compute", "GB/s", "bound by", "± %", "how", "GFLOP/s", "error", "images/s"),
]
"""Columns that are hidden on a narrow terminal, in this order."""

_GAP = 3  # characters between columns

BAD = ("wrong", "failed", "timeout")


def print_report(report: Report) -> None:
    """Print ``report`` to standard output."""
    if sys.stdout is None:  # it is closed
        return
    found = cells(report)
    if sys.stdout.isatty():
        _rich(found)
    else:
        sys.stdout.write(text(found) + "\n")
    sys.stdout.flush()


def text(found: Cells) -> str:
    """Return title, aligned rows and notes as text; no line ends in spaces."""
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
    from rich.text import Text  # names from files must not be read as markup

    console = Console()
    found = narrowed(found, console.width)
    if _width(found) > console.width:  # the terminal wraps lines, rich would truncate figures
        sys.stdout.write(text(found) + "\n")
        return
    table = Table(box=SIMPLE_HEAD, title=Text(found.title, style="bold"), title_justify="left")
    for i, heading in enumerate(found.headings):
        justify: Literal["left", "right"] = "left" if i < found.texts else "right"
        table.add_column(Text(heading), justify=justify, no_wrap=True)
    for row in found.rows:
        bad = any(cell in BAD for cell in row)
        table.add_row(*(Text(cell) for cell in row), style="red" if bad else None)
    console.print(table)
    for note in found.notes:
        console.print(Text(note, style="dim"))


def _width(found: Cells) -> int:
    """Return the width of the table with rules."""
    columns = zip(*[found.headings, *found.rows], strict=True)
    return sum(max(map(len, column)) + _GAP for column in columns) + 1


def narrowed(found: Cells, width: int) -> Cells:
    """Drop columns of :data:`DISPENSABLE` until the table fits into ``width`` characters."""
    rows = [found.headings, *found.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    kept, left_out = list(range(len(widths))), []
    for heading in DISPENSABLE:
        if sum(widths[i] + _GAP for i in kept) + 1 <= width:
            break
        if heading in found.headings:
            kept.remove(found.headings.index(heading))
            left_out.append(heading)
    if not left_out:
        return found
    note = f"too narrow for: {', '.join(left_out)}; --output writes all columns"
    return replace(
        found,
        headings=[found.headings[i] for i in kept],
        rows=[[row[i] for i in kept] for row in found.rows],
        texts=sum(i < found.texts for i in kept),
        notes=[*found.notes, note],
    )
