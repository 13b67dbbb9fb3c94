"""Layers as points under the ceilings that were measured in the same run."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .columns import absent, network_of, significant
from .plot_parts import GREY, blank, foot, head, legend, looks, short
from .report import Report, Result

Box = tuple[float, float, float, float]  # left, bottom, right, top

RADII = (10, 19, 30, 42, 55, 70, 86)  # of a name around its point, in points
LEADER = {"arrowstyle": "-", "color": "#b0b0b0", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2}
MAX_KEYS = 26  # lines beside the plot


def draw(report: Report) -> Figure:
    """FLOP/s against FLOPs per byte, on logarithmic scales; parts of the floor beside it."""
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
    roof = _ceilings(axes, per_byte, flops)
    for peer in peers:
        colour, marker = look[peer]
        rows = [r for r in points if r.peer == peer]
        axes.plot(
            [_intensity(r) for r in rows], [_rate(r) for r in rows], linestyle="none",
            marker=marker, color=colour, markersize=6.5, markeredgecolor="white",
            markeredgewidth=0.6, label=peer,
        )  # fmt: skip
    legend(figure, axes.lines[-len(peers) :], peers)
    _names(axes, points, labels, roof)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if axis is axes.yaxis else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("FLOPs per byte that a call must move")
    axes.set_ylabel("GFLOP/s")
    axes.grid(True)
    _key(figure, points, labels, peers, look)
    return figure


def _intensity(result: Result) -> float:
    return float((result.flops or 0) / (result.bytes or 1))


def _rate(result: Result) -> float:
    """GFLOP/s."""
    return float((result.flops or 0) / (result.median_s or 1) / 1e9)


def _limits(axes: Any, points: list[Result], per_byte: float | None, flops: float | None) -> None:
    """Room for all points and for the corner of the roof."""
    xs, ys = [_intensity(r) for r in points], [_rate(r) for r in points]
    if flops is not None:
        ys.append(flops / 1e9)
        if per_byte is not None:
            xs.append(flops / per_byte)
    axes.set_xlim(min(xs) / 2, max(xs) * 2)
    axes.set_ylim(min(ys) / 2, max(ys) * 2.5)


def _ceilings(axes: Any, per_byte: float | None, flops: float | None) -> list[tuple[float, float]]:
    """The roof as far as it was measured: a slope for the copy, a line for the product.

    Gives points along it, close to each other.
    """
    left, right = axes.get_xlim()
    bottom, roof = axes.get_ylim()[0], []
    if per_byte is not None:
        start = max(left, 1e9 * bottom / per_byte)
        end = min(right, flops / per_byte) if flops is not None else right
        xs = [start * (end / start) ** (i / 40) for i in range(41)]
        roof += [(x, x * per_byte / 1e9) for x in xs]
        axes.plot(xs, [x * per_byte / 1e9 for x in xs], color=GREY, gid="copy")
        axes.annotate(
            f"copy, {significant(per_byte / 1e9)} GB/s", roof[20], (-4, 4),
            textcoords="offset points", rotation=_slope(axes), rotation_mode="anchor", ha="center",
            color=GREY, fontsize=8.5,
        )  # fmt: skip
    if flops is not None:
        start = max(left, flops / per_byte) if per_byte is not None else left
        xs = [start * (right / start) ** (i / 40) for i in range(41)]
        roof += [(x, flops / 1e9) for x in xs]
        axes.plot(xs, [flops / 1e9] * 41, color=GREY, gid="matmul")
        axes.annotate(
            f"matrix product, {significant(flops / 1e9)} GFLOP/s", (start, flops / 1e9), (6, 4),
            textcoords="offset points", ha="left", color=GREY, fontsize=8.5,
        )  # fmt: skip
    return roof


def _slope(axes: Any) -> float:
    """Degrees at which a line of slope one lies on the page, on two logarithmic axes."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    box = axes.get_position()
    width, height = axes.figure.get_size_inches()
    across = box.width * width / math.log10(right / left)
    up = box.height * height / math.log10(top / bottom)
    return math.degrees(math.atan2(up, across))


def _names(
    axes: Any, points: list[Result], labels: list[str], roof: list[tuple[float, float]]
) -> None:
    """Every layer's name once, near its first point, where neither points, roof nor names are.

    Those that find no such place have none: the list beside the plot has all.
    """
    point = axes.figure.dpi / 72  # in pixels, as all from here on

    def around(values: list[tuple[float, float]], reach: float, above: float) -> list[Box]:
        pixels = axes.transData.transform(values) if values else []
        return [(x - reach, y - reach, x + reach, y + above) for x, y in pixels]

    at = [(_intensity(r), _rate(r)) for r in points]
    taken = around(at, 4 * point, 4 * point)
    marks = list(taken)
    passed = any((r.of_floor or 0) > 1 for r in points)  # the roof
    above = 14 * point if passed else axes.bbox.height  # what the roof is, is written above it
    taken += around(roof, 2 * point, above)
    for label in labels[:MAX_KEYS]:
        i = next(i for i, r in enumerate(points) if _label(r, points) == label)
        x, y = (marks[i][0] + marks[i][2]) / 2, (marks[i][1] + marks[i][3]) / 2
        wide, high = (5.0 * len(label) + 4) * point, 10 * point
        for radius, degrees in product(RADII, (90, 270, 60, 120, 240, 300, 0, 180, 30, 150)):
            across, up = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            dx, dy = across * (radius * point + wide / 2), up * radius * point
            box = (x + dx - wide / 2, y + dy - high / 2, x + dx + wide / 2, y + dy + high / 2)
            room = axes.bbox
            inside = room.x0 < box[0] and box[2] < room.x1
            inside = inside and room.y0 < box[1] and box[3] < room.y1
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                axes.annotate(
                    label, at[i], (dx / point, dy / point), textcoords="offset points",
                    ha="center", va="center", fontsize=7.5, zorder=1.5,
                    arrowprops=None if radius <= RADII[0] else LEADER,
                )  # fmt: skip
                break


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _key(
    figure: Any, points: list[Result], labels: list[str], peers: list[str],
    look: dict[str, tuple[str, str]],
) -> None:  # fmt: skip
    """Name and part of the floor of every layer, a column per program."""
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
    for i, label in enumerate(labels[:MAX_KEYS]):
        y = first - i * line
        figure.text(0.715, y, label, fontsize=8.5, va="top")
        for peer, x in zip(peers, columns, strict=True):
            found = by.get((label, peer))
            part = None if found is None else found.of_floor
            text = "–" if part is None else f"{100 * part:.0f}"
            figure.text(x, y, text, fontsize=8.5, ha="right", va="top")
    if len(labels) > MAX_KEYS:
        y = first - MAX_KEYS * line
        figure.text(0.715, y, f"and {len(labels) - MAX_KEYS} more", fontsize=8.5, va="top")


def _label(result: Result, points: list[Result]) -> str:
    batches = len({r.batch for r in points}) > 1
    return short(f"{result.name}, N={result.batch}" if batches else result.name)


def _notes(
    report: Report, timed: list[Result], points: list[Result], per_byte: float | None,
    flops: float | None,
) -> list[str]:  # fmt: skip
    notes = [
        "FLOPs are those of a direct convolution, so Winograd's algorithm may pass the roof; so "
        "may what only reads, for a copy writes, too."
    ]
    if per_byte is None or flops is None:
        notes.append("No roof where its ceiling was not measured.")
    if left_out := [short(r.name) for r in timed if r not in points]:
        notes.append(f"Without FLOPs, so not shown: {', '.join(dict.fromkeys(left_out))}.")
    if report.interrupted:
        notes.append("Interrupted: what was measured until then.")
    return notes + [f"Not measured: {text}" for text in absent(report)]
