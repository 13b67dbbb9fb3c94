"""Tables of the subcommand ``tune``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..text import aligned
from ..tuning.entries import Entries
from ..tuning.fit import Fit
from ..tuning.report import Row, clock_rate, totals

LIMITED = "at the limit of the search"
RANKED = "ranked by the emulator's counters, not measured"


def table(rows: Sequence[Row], entries: Entries) -> str:
    """Return the rows, which are of ``entries``, as aligned text, with totals and drops."""
    unit, rate = entries.unit, clock_rate(entries)
    headings = ["layer", "variant", unit, "plan's choice", unit, "gain", "estimate"]
    cells = [_cells(row, rate) for row in rows]
    time, planned = totals(rows)
    gain = _percent(1 - time / planned if planned else None)
    total = ["total", "", f"{time:.1f}", "", f"{planned:.1f}", gain, ""]
    text = aligned([headings, *cells, total], left=(0, 1, 3))
    lines = [*text[:-1], text[1], text[-1], ""]
    scale = f"{rate:.3g}" if unit == "cycles" else f"a clock of {rate / 1e3:.3g} GHz"
    lines.append(
        f"estimate: error of the estimated time, after division by {scale}, which fits all "
        "results in the file best"
    )
    found = [row.entry for row in rows if row.entry is not None]
    kept, known = sum(len(e.times) for e in found), sum(e.candidates for e in found)
    if kept:
        lines.append(f"{kept} of {known} kernels were compared; estimates rule out most others")
    for row in rows:
        if row.entry is not None:
            lines += [f"{row.layer}: dropped {n}: {why}" for n, why in row.entry.dropped.items()]
    return "\n".join(lines)


def _cells(row: Row, rate: float) -> list[str]:
    entry = row.entry
    if entry is None:
        return [row.layer, "-", "-", "-", "-", "-", "-"]
    planned = entry.planned_time
    return [
        row.layer,
        entry.variant,
        f"{entry.time:.1f}",
        "same" if entry.planned == entry.variant else entry.planned,
        "dropped" if planned is None else f"{planned:.1f}",
        _percent(row.gain),
        _percent(row.error(rate)),
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}%"


def as_dict(rows: Sequence[Row], entries: Entries) -> list[dict[str, Any]]:
    """Return the rows, which are of ``entries``, as JSON-ready values."""
    rate = clock_rate(entries)
    return [
        {
            "layer": row.layer,
            "variant": row.entry and row.entry.variant,
            "time": row.entry and row.entry.time,
            "planned": row.entry and row.entry.planned,
            "planned_time": row.entry and row.entry.planned_time,
            "gain": row.gain,
            "estimate_error": row.error(rate),
            "times": {} if row.entry is None else row.entry.times,
            "candidates": 0 if row.entry is None else row.entry.candidates,
            "dropped": {} if row.entry is None else row.entry.dropped,
        }
        for row in rows
    ]


def _number(value: float) -> str:
    """Return a constant with four significant digits, without an exponent."""
    return f"{float(f'{value:.4g}'):.10g}"


def fit_table(fit: Fit, unit: str) -> str:
    """Return the constants before and after a fit as aligned text."""
    cells = [
        [
            *(name, _number(fit.before[name]), _number(value), f"{value / fit.before[name]:.2f}"),
            LIMITED if name in fit.limited else "",
        ]
        for name, value in fit.after.items()
    ]
    text = aligned([["constant", "now", "fits best", "ratio", ""], *cells], left=(0, 4))
    before, after = (f"{100 * error:.1f}%" for error in fit.errors)
    clock = "" if unit == "cycles" else f", at {fit.clock / 1e3:.3g} GHz"
    return "\n".join(
        [
            *text,
            "",
            f"error of {fit.count} estimates (root mean square of log ratios): {before} now, "
            f"{after} with these constants{clock}",
            "nothing was changed: csrc/plan/rates.h has the constants",
        ]
    )
