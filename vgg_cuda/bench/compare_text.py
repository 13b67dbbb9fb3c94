"""A comparison of two reports as aligned text, and as what JSON can hold."""

from __future__ import annotations

from typing import Any

from ..text import plain
from .columns import Cells, significant
from .compare import REGRESSIONS, Comparison, Pair
from .table import text as aligned

_HEADINGS = ["name", "program", "dtype", "verdict", "batch", "old ms", "new ms", "ratio", "least"]


def text(found: Comparison) -> str:
    """A table, with what only one report has and the verdict on all below it."""
    notes = [
        f"slower, faster: beyond the 95 % intervals of both medians and {found.threshold:.1%} for "
        "what differs between runs; least: the ratio from which a slowdown would be called one"
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
    rows = [_row(pair) for pair in found.pairs]
    return aligned(Cells("new against old", _HEADINGS, rows, 4, notes))


def as_dict(found: Comparison) -> dict[str, Any]:
    """JSON-ready."""
    return {
        "threshold": found.threshold,
        "regressions": len(found.regressions),
        "pairs": [
            {
                **_named(pair), "old_s": pair.old.median_s, "new_s": pair.new.median_s,
                "ratio": pair.ratio, "least": pair.least, "verdict": pair.verdict,
                "regression": pair.verdict in REGRESSIONS, "why": pair.why,
            }
            for pair in found.pairs
        ],
        "only_old": [result.label for result in found.only_old],
        "only_new": [result.label for result in found.only_new],
        "notes": found.notes,
    }  # fmt: skip


def _named(pair: Pair) -> dict[str, Any]:
    return {name: getattr(pair.new, name) for name in ("name", "peer", "batch", "size", "dtype")}


def _row(pair: Pair) -> list[str]:
    old, new = pair.old, pair.new
    return [
        plain(new.name), plain(new.peer), plain(new.dtype), pair.verdict, str(new.batch),
        *("-" if r.median_s is None else significant(1e3 * r.median_s) for r in (old, new)),
        "-" if pair.ratio is None else f"{pair.ratio:.3f}",
        "-" if pair.least is None else f"{pair.least:.3f}",
    ]  # fmt: skip


def _counters(pair: Pair) -> str:
    old, new = pair.old.counters or {}, pair.new.counters or {}
    names = [name for name in [*old, *new] if old.get(name) != new.get(name)]
    return ", ".join(
        f"{name} {old.get(name, 0):,.0f} -> {new.get(name, 0):,.0f}"
        for name in dict.fromkeys(names)
    )
