"""Throughput and latency against batch size, for several programs."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ..columns import absent, significant
from ..report import Report, Result
from .parts import blank, foot, head, legend, looks, series_names, short

GROUP = 0.78  # width of a batch's bars, relative to the distance between batches
SPELLED = 5  # maximum number of batches labelled "batch 8" rather than "8"
CHARACTERS = 50  # of all labels below an axis
LABELLED = 16  # maximum number of bars with figures


def draw(report: Report) -> Figure:
    """Draw images/s as bars, and the median time of a call with a line to its 99th percentile."""
    results = [r for r in report.results if r.median_s is not None]
    if not results:
        return blank(report)
    names = series_names(results)
    series = list(dict.fromkeys(names))
    peers = [results[names.index(name)].peer for name in series]
    batches = sorted({r.batch for r in results})
    look = looks(series, peers)

    step = GROUP / len(series)
    places = [
        batches.index(r.batch) + step * (series.index(name) + 0.5) - GROUP / 2
        for r, name in zip(results, names, strict=True)
    ]
    figure = Figure(figsize=(10, 4.9))
    head(figure, _title(results), report)
    notes = [
        "Throughput: median; line: its 95 % interval. Latency: median; line: up to the 99th "
        "percentile.",
        *(["Interrupted: the measurements until then."] if report.interrupted else []),
        *(f"Not measured: {text}" for text in absent(report)),
    ]
    bottom = foot(figure, notes, 165) + (0.3 if len(batches) <= SPELLED else 0.5)
    height = figure.get_figheight()
    grid = figure.add_gridspec(
        1, 2, left=0.06, right=0.985, wspace=0.16, bottom=bottom / height, top=1 - 1.3 / height
    )
    left, right = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    handles = []
    for name in series:
        rows = [(r, x) for r, x, n in zip(results, places, names, strict=True) if n == name]
        colour, marker = look[name]
        bars = _throughput(left, rows, step, colour, len(results) <= LABELLED)
        _latency(right, rows, colour, marker, len(results) <= LABELLED)
        handles.append(bars)
    for axes in (left, right):
        _batches(axes, batches)
        axes.set_xlim(-0.5, len(batches) - 0.5)
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y")
    left.set_title("Throughput, images/s")
    left.set_ylim(0, 1.08 * left.get_ylim()[1])
    low, high = right.get_ylim()
    right.set_ylim(low / 1.4, high * 1.2)  # room for the figures below the points
    right.set_title("Latency of a batch, ms (logarithmic)")
    legend(figure, handles, series)
    return figure


def _batches(axes: Any, batches: list[int]) -> None:
    """Label every batch, or every n-th one if the axis has too little room."""
    if len(batches) <= SPELLED:
        axes.set_xticks(range(len(batches)), [f"batch {batch}" for batch in batches])
        return
    widest = max(len(str(batch)) for batch in batches)
    every = -(-len(batches) * (widest + 1) // CHARACTERS)
    shown = range(0, len(batches), every)
    axes.set_xticks(shown, [str(batches[i]) for i in shown])
    axes.set_xlabel("batch")


def _throughput(
    axes: Any, rows: list[tuple[Result, float]], step: float, colour: str, labelled: bool
) -> Any:
    rates = [_rate(r, r.median_s) for r, _ in rows]
    low, high = (
        [
            abs(_rate(r, (r.confidence_s or (0, 0))[side]) - rate)
            for (r, _), rate in zip(rows, rates, strict=True)
        ]
        for side in (1, 0)
    )
    bars = axes.bar(
        [x for _, x in rows], rates, width=0.92 * step, color=colour, yerr=(low, high),
        error_kw={"ecolor": "#222222", "elinewidth": 1, "capsize": 2},
    )  # fmt: skip
    if labelled:
        for (_, x), rate, up in zip(rows, rates, high, strict=True):
            axes.annotate(
                significant(rate, 3), (x, rate + up), (0, 2), textcoords="offset points",
                ha="center", va="bottom", fontsize=8, color="#333333",
            )  # fmt: skip
    return bars


def _rate(result: Result, seconds: Any) -> float:
    return float(result.batch / seconds)


def _latency(
    axes: Any, rows: list[tuple[Result, float]], colour: str, marker: str, labelled: bool
) -> None:
    xs = [x for _, x in rows]
    medians = [1e3 * (r.median_s or 0) for r, _ in rows]
    late = [
        max(1e3 * (r.percentiles_s or {}).get("p99", 0), m)
        for (r, _), m in zip(rows, medians, strict=True)
    ]
    axes.vlines(xs, medians, late, color=colour, linewidth=2, alpha=0.6)
    axes.plot(xs, medians, linestyle="none", marker=marker, color=colour, markersize=7)
    if labelled:
        for x, median in zip(xs, medians, strict=True):
            axes.annotate(
                significant(median, 3), (x, median), (0, -7), textcoords="offset points",
                ha="center", va="top", fontsize=8, color="#333333",
            )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.6g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _title(results: list[Result]) -> str:
    names = list(dict.fromkeys(short(r.name) for r in results))
    sizes = {r.size for r in results}
    dtypes = {r.dtype for r in results}
    parts = [", ".join(names)]
    parts += [f"{s}x{s}" for s in sizes if s is not None and len(sizes) == 1]
    parts += [short(dtype) for dtype in dtypes if len(dtypes) == 1]
    return ", ".join(parts)
