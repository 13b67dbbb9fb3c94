"""Predictions written to a file: JSON for programs, CSV for spreadsheets."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FORMATS = (".json", ".csv")


def json_text(records: Sequence[dict[str, Any]]) -> str:
    """Return ``records`` as a JSON list; see :func:`write`."""
    return json.dumps(list(records), indent=1, ensure_ascii=False) + "\n"


def write(records: Sequence[dict[str, Any]], path: Path, suffix: str) -> None:
    """Write ``records`` to ``path`` as JSON or CSV, by ``suffix``.

    A record is ``{"path", "predictions": [{"label", "index", "probability"}]}``, or
    ``{"path", "error"}`` for a skipped image. JSON is the list of records. CSV has one line per
    prediction: path, rank (from 1), label, index, probability, error.
    """
    if suffix.lower() == ".json":
        path.write_text(json_text(records), encoding="utf-8")
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["path", "rank", "label", "index", "probability", "error"])
        for record in records:
            if "error" in record:
                out.writerow([record["path"], "", "", "", "", record["error"]])
            for rank, p in enumerate(record.get("predictions", ()), 1):
                out.writerow([record["path"], rank, p["label"], p["index"], p["probability"], ""])
