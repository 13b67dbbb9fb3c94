"""Layers as numbered points under the ceilings that were measured in the same run."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ..columns import absent, network_of, significant
from ..report import Report, Result
from .parts import GREY, blank, foot, head, legend, looks, short

MAX_ROWS = 26  # of the table beside the plot
MARKER_PT = 11  # diameter


def draw(report: Report) -> Figure:
    """Draw FLOP/s against FLOPs per byte, and a table of fractions of the floor."""
    timed = [r for r in report.results if r.median_s is not None]
    points = [r for r in timed if r.flops and r.bytes]
    if not points:
        return blank(report)
    peers = list(dict.fromkeys(r.peer for r in points))
    labels = list(dict.fromkeys(_label(r, points) for r in points))
    look = looks(peers, peers)
    memory, compute = report.ceilings.get("copy"), report.ceilings.get("matmul")
    per_byte = memory.bytes_per_s if memory else None
    flops = compute.flops_per_s if compute else None

    figure = Figure(figsize=(10, 5.8))
    height = figure.get_figheight()
    what = "Layers of a forward" if report.kind == "profile" else "Layers and kernels"
    if (network := network_of(report)) is not None:
        what = f"{short(network)}: {what[0].lower()}{what[1:]}"
    head(figure, f"{what} under the measured roofline, {short(points[0].dtype)}", report)
    bottom = foot(figure, _notes(report, timed, points, per_byte, flops), 165) + 0.55
    axes = figure.add_axes((0.075, bottom / height, 0.62, 1 - (bottom + 1.0) / height))
    axes.set_xscale("log")
    axes.set_yscale("log")
    _limits(axes, points, per_byte, flops)
    _ceilings(axes, per_byte, flops)
    for peer in peers:
        colour, marker = look[peer]
        rows = [r for r in points if r.peer == peer]
        axes.plot(
            [_intensity(r) for r in rows], [_rate(r) for r in rows], linestyle="none",
            marker=marker, color=colour, markersize=MARKER_PT, markeredgecolor="white",
            markeredgewidth=0.6, label=peer,
        )  # fmt: skip
    legend(figure, axes.lines[-len(peers) :], peers)
    _number(axes, sorted(points, key=lambda r: peers.index(r.peer)), labels)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if axis is axes.yaxis else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("FLOPs per byte that a call must move")
    axes.set_ylabel("GFLOP/s")
    axes.grid(True)
    _table(figure, points, labels, peers, look)
    return figure


def _intensity(result: Result) -> float:
    return float((result.flops or 0) / (result.bytes or 1))


def _rate(result: Result) -> float:
    """Return the rate in GFLOP/s."""
    return float((result.flops or 0) / (result.median_s or 1) / 1e9)


def _limits(axes: Any, points: list[Result], per_byte: float | None, flops: float | None) -> None:
    """Set limits that show all points and the corner of the roof."""
    xs, ys = [_intensity(r) for r in points], [_rate(r) for r in points]
    if flops is not None:
        ys.append(flops / 1e9)
        if per_byte is not None:
            xs.append(flops / per_byte)
    axes.set_xlim(min(xs) / 2, max(xs) * 2)
    axes.set_ylim(min(ys) / 2, max(ys) * 2.5)


def _ceilings(axes: Any, per_byte: float | None, flops: float | None) -> None:
    """Draw the measured ceilings: a slope for the copy, a line for the matrix product."""
    left, right = axes.get_xlim()
    bottom = axes.get_ylim()[0]
    if per_byte is not None:
        start = max(left, 1e9 * bottom / per_byte)
        end = min(right, flops / per_byte) if flops is not None else right
        xs = [start, math.sqrt(start * end), end]
        ys = [x * per_byte / 1e9 for x in xs]
        axes.plot(xs, ys, color=GREY, gid="copy")
        axes.annotate(
            f"copy, {significant(per_byte / 1e9)} GB/s", (xs[1], ys[1]), (-4, 4),
            textcoords="offset points", rotation=_slope(axes), rotation_mode="anchor", ha="center",
            color=GREY, fontsize=8.5,
        )  # fmt: skip
    if flops is not None:
        start = max(left, flops / per_byte) if per_byte is not None else left
        axes.plot([start, right], [flops / 1e9] * 2, color=GREY, gid="matmul")
        axes.annotate(
            f"matrix product, {significant(flops / 1e9)} GFLOP/s", (start, flops / 1e9), (6, 4),
            textcoords="offset points", ha="left", color=GREY, fontsize=8.5,
        )  # fmt: skip


def _slope(axes: Any) -> float:
    """Return the angle in degrees of a line of slope one on two logarithmic axes."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    box = axes.get_position()
    width, height = axes.figure.get_size_inches()
    across = box.width * width / math.log10(right / left)
    up = box.height * height / math.log10(top / bottom)
    return math.degrees(math.atan2(up, across))


def _number(axes: Any, points: list[Result], labels: list[str]) -> None:
    """Write a layer's number in the table on its markers, unless a later marker covers them."""
    places = [(_intensity(result), _rate(result)) for result in points]
    pixels = axes.transData.transform(places)
    reach = 0.7 * MARKER_PT * axes.figure.dpi / 72
    for i, result in enumerate(points):
        number = labels.index(_label(result, points)) + 1
        covered = any(math.dist(pixels[i], other) < reach for other in pixels[i + 1 :])
        if number <= MAX_ROWS and not covered:
            axes.annotate(
                str(number), places[i], ha="center", va="center_baseline", fontsize=6,
                color="white",
            )  # fmt: skip


def _table(
    figure: Any, points: list[Result], labels: list[str], peers: list[str],
    look: dict[str, tuple[str, str]],
) -> None:  # fmt: skip
    """Draw number, name and percentage of the floor of every layer, one column per program."""
    height = figure.get_figheight()
    line, top = 0.165 / height, 1 - 0.95 / height
    step = min(0.05, 0.17 / len(peers))
    right = 0.985 if len(peers) > 1 else 0.92
    columns = [right - step * (len(peers) - 1 - i) for i in range(len(peers))]
    figure.text(right, top, "% of the floor", fontsize=8.5, color=GREY, ha="right", va="bottom")
    for peer, x in zip(peers, columns, strict=True):
        colour, marker = look[peer]
        y = top - 0.6 * line
        figure.add_artist(Line2D([x - 0.007], [y], color=colour, marker=marker, markersize=6.5))
    by = {(_label(r, points), r.peer): r for r in points}
    first = top - 1.4 * line
    for i, label in enumerate(labels[:MAX_ROWS]):
        y = first - i * line
        figure.text(0.730, y, str(i + 1), fontsize=8.5, color=GREY, ha="right", va="top")
        figure.text(0.738, y, label, fontsize=8.5, va="top")
        for peer, x in zip(peers, columns, strict=True):
            found = by.get((label, peer))
            part = None if found is None else found.of_floor
            text = "–" if part is None else f"{100 * part:.0f}"
            figure.text(x, y, text, fontsize=8.5, ha="right", va="top")
    if len(labels) > MAX_ROWS:
        y = first - MAX_ROWS * line
        figure.text(0.715, y, f"and {len(labels) - MAX_ROWS} more", fontsize=8.5, va="top")


def _label(result: Result, points: list[Result]) -> str:
    batches = len({r.batch for r in points}) > 1
    return short(f"{result.name}, N={result.batch}" if batches else result.name)


def _notes(
    report: Report, timed: list[Result], points: list[Result], per_byte: float | None,
    flops: float | None,
) -> list[str]:  # fmt: skip
    notes = [
        "FLOPs count a direct convolution, so Winograd's algorithm can exceed the roof. "
        "Layers that mostly read can exceed it too, because a copy also writes."
    ]
    if per_byte is None or flops is None:
        notes.append("A ceiling that was not measured is not drawn.")
    if left_out := [short(r.name) for r in timed if r not in points]:
        notes.append(f"Without FLOPs, not shown: {', '.join(dict.fromkeys(left_out))}.")
    if report.interrupted:
        notes.append("Interrupted: the measurements until then.")
    return notes + [f"Not measured: {text}" for text in absent(report)]
