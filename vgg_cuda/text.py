"""Text for messages and tables: untrusted names on one line, lists, sizes, columns."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence


def plain(text: str) -> str:
    """Return ``text`` on one line, with every control character escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(text: object, limit: int = 240) -> str:
    """Return the first line of ``text``, at most ``limit`` characters, without control characters.

    Use it for text from files: names, and messages of the libraries that read the file.
    """
    # Cut first: a hostile name can be as long as its file.
    cut = re.sub(r"\x1b\[[0-9;]*m", "", str(text).lstrip()[: 4 * limit])
    line = "".join(c if c.isprintable() else "?" for c in cut.split("\n", 1)[0].rstrip())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def listed(names: list[str], limit: int = 8) -> str:
    """Return the first ``limit`` of ``names`` for a message, and how many follow."""
    shown = ", ".join(one_line(name, 80) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def format_bytes(nbytes: int) -> str:
    """Return a number of bytes for a message: "12 bytes", "3.4 MB", "1.5 GB"."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if nbytes >= factor:
            return f"{nbytes / factor:.1f} {unit}"
    return f"{nbytes:,} bytes"


def aligned(rows: Sequence[Sequence[str]], left: Container[int]) -> list[str]:
    """Return aligned lines: the headings ``rows[0]``, a rule, and the other rows.

    Columns whose index is in ``left`` are aligned left, the others right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
