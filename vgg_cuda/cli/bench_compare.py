"""``vgg-cuda bench compare``: the ratios of two reports as a table or JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from ..bench.columns import Cells, significant
from ..bench.compare import Comparison, Pair, compare
from ..bench.report import KEY, read
from ..text import plain
from .bench_table import text as table_text
from .terminal import BAD_RESULT, fail, system_errors, user_errors

HEADINGS = ["name", "program", "dtype", "verdict", "batch", "old ms", "new ms", "ratio", "limit"]


def run(old: Path, new: Path, threshold: float | None, other_device: bool, as_json: bool) -> None:
    """Compare two reports and print the comparison; exit with 1 for a regression."""
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
        fail(f"no result of {new} measures the same work as one of {old}")


def text(found: Comparison) -> str:
    """Return the comparison as a table, followed by notes and a summary."""
    notes = [
        "slower, faster: beyond the 95 % intervals of both medians and a variation of "
        f"{found.threshold:.1%} between runs; limit: ratios above it are called slower"
    ]
    notes += [f"only in the old report: {plain(result.label)}" for result in found.only_old]
    notes += [f"only in the new report: {plain(result.label)}" for result in found.only_new]
    for pair in found.pairs:
        if pair.verdict == "broken":
            notes.append(plain(f"{pair.new.label}: {pair.new.status}: {pair.new.reason}"))
        if pair.verdict == "counters differ":
            notes.append(plain(f"{pair.new.label}: {_counters(pair)}"))
    others: dict[str, list[str]] = {}
    for pair in found.pairs:
        if pair.why is not None:
            others.setdefault(pair.why, []).append(pair.new.label)
    for why, labels in others.items():
        more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
        notes.append(plain(f"not comparable: {labels[0]}{more}: {why}"))
    bad, compared = len(found.regressions), len(found.pairs) - sum(map(len, others.values()))
    notes += [*found.notes, f"{bad} of {compared} became slower or broke"]
    return table_text(Cells("new against old", HEADINGS, [_row(p) for p in found.pairs], 4, notes))


def as_dict(found: Comparison) -> dict[str, Any]:
    """Return the comparison as values that JSON can hold."""
    return {
        "threshold": found.threshold,
        "regressions": len(found.regressions),
        "pairs": [
            {
                **{name: getattr(pair.new, name) for name in KEY},
                "old_s": pair.old.median_s, "new_s": pair.new.median_s, "ratio": pair.ratio,
                "limit": pair.limit, "verdict": pair.verdict, "regression": pair.regression,
                "why": pair.why,
            }
            for pair in found.pairs
        ],
        "only_old": [result.label for result in found.only_old],
        "only_new": [result.label for result in found.only_new],
        "notes": found.notes,
    }  # fmt: skip


def _row(pair: Pair) -> list[str]:
    old, new = pair.old, pair.new
    return [
        plain(new.name), plain(new.peer), plain(new.dtype), pair.verdict, str(new.batch),
        *("-" if r.median_s is None else significant(1e3 * r.median_s) for r in (old, new)),
        "-" if pair.ratio is None else f"{pair.ratio:.3f}",
        "-" if pair.limit is None else f"{pair.limit:.3f}",
    ]  # fmt: skip


def _counters(pair: Pair) -> str:
    old, new = pair.old.counters or {}, pair.new.counters or {}
    names = [name for name in [*old, *new] if old.get(name) != new.get(name)]
    return ", ".join(
        f"{name} {old.get(name, 0):,.0f} -> {new.get(name, 0):,.0f}"
        for name in dict.fromkeys(names)
    )
