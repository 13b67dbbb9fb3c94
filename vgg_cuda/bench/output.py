"""Report files: JSON, CSV for spreadsheets, or Markdown for people."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..system.files import check_writable, replacing
from .columns import Cells, cells
from .report import Report, Result

FORMATS = (".json", ".csv", ".md")

_RUN = ["kind", "date", "commit", "device"]
_PARTS = {
    "confidence_s": ["confidence_low_s", "confidence_high_s"],
    "percentiles_s": ["p50_s", "p90_s", "p95_s", "p99_s"],
}


def check_output(path: str | Path) -> None:
    """Check that :func:`write` can write ``path``. Raises as :func:`check_path`."""
    check_path(path, FORMATS, "output")


def check_path(path: str | Path, formats: tuple[str, ...], what: str) -> None:
    """Check that ``path`` ends in one of ``formats`` and can be written.

    ``what`` names the path in errors. Raises ``ValueError`` for another ending, and ``OSError`` if
    the file cannot be written.
    """
    if Path(path).suffix.lower() not in formats:
        raise ValueError(
            f"{what}: expected a name ending in {', '.join(formats)}, got {str(path)!r}"
        )
    check_writable(path)


def write(report: Report, path: str | Path) -> None:
    """Write ``path`` in the format of its ending, completely or not at all.

    Raises as :func:`check_path`, and ``ValueError`` for an invalid report.
    """
    check_output(path)
    suffix = Path(path).suffix.lower()
    text = {".json": Report.to_json, ".csv": csv_text, ".md": markdown}[suffix](report)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(text)


def csv_text(report: Report) -> str:
    """Return one line per result: columns of the run, then the fields of :class:`Result`.

    Intervals and percentiles have a column per value, lists are separated by ``;``, and counters
    are JSON. Absent fields are empty.
    """
    names = [name for field in fields(Result) for name in _PARTS.get(field.name, [field.name])]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_RUN, *names])
    run = [getattr(report, name) for name in _RUN]
    for result in report.results:
        writer.writerow(
            [*run, *(v for field in fields(Result) for v in _values(result, field.name))]
        )
    return out.getvalue()


def _values(result: Result, name: str) -> list[Any]:
    value = getattr(result, name)
    if name == "confidence_s":
        return list(value or ("", ""))
    if name == "percentiles_s":
        return [(value or {}).get(part.removesuffix("_s"), "") for part in _PARTS[name]]
    if name == "kernels":
        return [";".join(value or ())]
    if name == "counters":
        return [json.dumps(value) if value else ""]
    return ["" if value is None else value]


def markdown(report: Report) -> str:
    """Return the table with title and notes as Markdown."""
    found = cells(report)
    notes = "".join(f"- {_escaped(note)}\n" for note in found.notes)
    return f"## {_escaped(found.title)}\n\n{markdown_table(found)}\n\n{notes}"


def markdown_table(found: Cells) -> str:
    """Return the rows of a table as Markdown."""
    rules = ["---" if i < found.texts else "---:" for i in range(len(found.headings))]
    rows = [[_escaped(cell) for cell in row] for row in [found.headings, *found.rows]]
    lines = [" | ".join(row) for row in [rows[0], rules, *rows[1:]]]
    return "\n".join(f"| {line} |" for line in lines)


def _escaped(text: str) -> str:
    """Escape characters that have a meaning in Markdown or HTML."""
    return "".join(f"\\{c}" if c in "\\|`*_<>[]" else c for c in text)
