"""Text for messages: untrusted names on one line, escaped and shortened."""

from __future__ import annotations

import re


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
