"""Results of a classification as files: JSON for programs, CSV for spreadsheets."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FORMATS = (".json", ".csv")


def check_format(path: Path) -> None:
    """Raises ``ValueError`` for a file name that ends in none of :data:`FORMATS`."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"output {str(path)!r}: expected a name ending in {' or '.join(FORMATS)}, "
            f"got {path.suffix or 'no ending'!r}"
        )


def write(records: Sequence[dict[str, Any]], path: Path, suffix: str) -> None:
    """Writes records ``{"path", "predictions": [{"label", "index", "probability"}]}``.

    A skipped image has ``{"path", "error"}``. JSON is a list of the records as they are; in CSV,
    every prediction is a line: path, rank (from 1), label, index, probability, error.
    """
    if suffix.lower() == ".json":
        text = json.dumps(list(records), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["path", "rank", "label", "index", "probability", "error"])
        for record in records:
            if "error" in record:
                out.writerow([record["path"], "", "", "", "", record["error"]])
            for rank, p in enumerate(record.get("predictions", ()), 1):
                out.writerow([record["path"], rank, p["label"], p["index"], p["probability"], ""])
