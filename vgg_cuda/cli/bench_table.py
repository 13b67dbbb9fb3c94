"""Print a report as a table of aligned text, which fits the width of a terminal."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace

from ..bench.columns import Cells, cells
from ..bench.report import Report

DISPENSABLE = [
    *("samples", "load s", "enqueue", "host to device", "device", "p99", "peak GB", "% memory"),
    *("% compute", "GB/s", "bound by", "± %", "how", "GFLOP/s", "error", "images/s"),
]
"""Columns that are hidden on a narrow terminal, in this order."""

GAP = "  "  # between columns


def print_report(report: Report) -> None:
    """Print ``report`` to standard output."""
    if sys.stdout is None:  # it is closed
        return
    found = cells(report)
    if sys.stdout.isatty():
        found = narrowed(found, shutil.get_terminal_size().columns)
    sys.stdout.write(text(found) + "\n")
    sys.stdout.flush()


def text(found: Cells) -> str:
    """Return title, aligned rows and notes as text; no line ends in spaces."""
    widths = _widths(found)
    lines = [
        GAP.join(
            cell.ljust(width) if i < found.texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [found.headings, *found.rows]
    ]
    rule = "-" * max(map(len, lines))
    return "\n".join([found.title, "", lines[0], rule, *lines[1:], "", *found.notes])


def narrowed(found: Cells, width: int) -> Cells:
    """Drop columns of :data:`DISPENSABLE` until the table fits into ``width`` characters."""
    widths = _widths(found)
    kept, hidden = list(range(len(widths))), []
    for heading in DISPENSABLE:
        if len(GAP.join(" " * widths[i] for i in kept)) <= width:
            break
        if heading in found.headings:
            kept.remove(found.headings.index(heading))
            hidden.append(heading)
    if not hidden:
        return found
    note = f"too narrow for: {', '.join(hidden)}; --output writes all columns"
    return replace(
        found,
        headings=[found.headings[i] for i in kept],
        rows=[[row[i] for i in kept] for row in found.rows],
        texts=sum(i < found.texts for i in kept),
        notes=[*found.notes, note],
    )


def _widths(found: Cells) -> list[int]:
    return [max(map(len, column)) for column in zip(found.headings, *found.rows, strict=True)]
