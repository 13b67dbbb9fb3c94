"""Layers as points under the ceilings that were measured in the same run."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure

from .columns import absent, significant
from .plot_parts import GREY, foot, head, looks, short
from .report import Report, Result

MOST_KEYS = 34  # lines beside the plot


def draw(report: Report) -> Figure:
    """FLOP/s against FLOPs per byte, on logarithmic scales; a numbered key beside it."""
    timed = [r for r in report.results if r.median_s is not None]
    points = [r for r in timed if r.flops and r.bytes]
    if not points:
        raise ValueError("nothing to plot: no result has a time, FLOPs and bytes")
    peers = list(dict.fromkeys(r.peer for r in points))
    labels = list(dict.fromkeys(_label(r, points) for r in points))
    look = looks(peers, peers)
    memory, compute = report.ceilings.get("copy"), report.ceilings.get("matmul")
    per_byte = memory.bytes_per_s if memory else None
    flops = compute.flops_per_s if compute else None

    figure = Figure(figsize=(10, 5.8))
    height = figure.get_figheight()
    what = "Layers of a forward" if report.kind == "profile" else "Layers and kernels"
    head(figure, f"{what} under the measured roofline, {short(points[0].dtype)}", report)
    bottom = foot(figure, _notes(report, timed, points, per_byte, flops), 165) + 0.55
    axes = figure.add_axes((0.075, bottom / height, 0.6, 1 - (bottom + 0.75) / height))
    axes.set_xscale("log")
    axes.set_yscale("log")
    _limits(axes, points, per_byte, flops)
    _ceilings(axes, per_byte, flops)
    for peer in peers:
        colour, marker = look[peer]
        rows = [r for r in points if r.peer == peer]
        xs, ys = [_intensity(r) for r in rows], [_rate(r) for r in rows]
        axes.plot(
            xs, ys, linestyle="none", marker=marker, color=colour, markersize=11,
            markeredgecolor="white", markeredgewidth=0.8, label=peer,
        )  # fmt: skip
        for row, x, y in zip(rows, xs, ys, strict=True):
            axes.annotate(
                str(labels.index(_label(row, points)) + 1), (x, y), ha="center", va="center",
                fontsize=6.5, color="white", fontweight="bold",
            )  # fmt: skip
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
    axes.set_ylim(min(ys) / 2, max(ys) * 2)


def _ceilings(axes: Any, per_byte: float | None, flops: float | None) -> None:
    """The roof as far as it was measured: a slope for the copy, a line for the product."""
    left, right = axes.get_xlim()
    if per_byte is not None:
        end = min(right, flops / per_byte) if flops is not None else right
        axes.plot(
            [left, end], [left * per_byte / 1e9, end * per_byte / 1e9], color=GREY, gid="copy"
        )
        bottom = axes.get_ylim()[0]
        start = max(left, 1e9 * bottom / per_byte)
        place = start * (end / start) ** 0.5
        axes.annotate(
            f"copy, {significant(per_byte / 1e9)} GB/s", (place, place * per_byte / 1e9), (-4, 4),
            textcoords="offset points", rotation=_slope(axes), rotation_mode="anchor", ha="center",
            color=GREY, fontsize=8.5,
        )  # fmt: skip
    if flops is not None:
        start = max(left, flops / per_byte) if per_byte is not None else left
        axes.plot([start, right], [flops / 1e9] * 2, color=GREY, gid="matmul")
        axes.annotate(
            f"matrix product, {significant(flops / 1e9)} GFLOP/s", (right, flops / 1e9), (-2, 4),
            textcoords="offset points", ha="right", color=GREY, fontsize=8.5,
        )  # fmt: skip


def _slope(axes: Any) -> float:
    """Degrees at which a line of slope one lies on the page, on two logarithmic axes."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    box = axes.get_position()
    width, height = axes.figure.get_size_inches()
    across = box.width * width / math.log10(right / left)
    up = box.height * height / math.log10(top / bottom)
    return math.degrees(math.atan2(up, across))


def _key(
    figure: Any, points: list[Result], labels: list[str], peers: list[str],
    look: dict[str, tuple[str, str]],
) -> None:  # fmt: skip
    """Number, name and part of the floor of every layer, a column per program."""
    height = figure.get_figheight()
    line, top = 0.165 / height, 1 - 0.5 / height
    step = min(0.075, 0.2 / len(peers))
    columns = [0.80 + step * (i + 1) for i in range(len(peers))]
    figure.text(0.70, top, "% of the floor", fontsize=8.5, color=GREY, va="top")
    for peer, x in zip(peers, columns, strict=True):
        text = peer if len(peers) == 1 else short(peer)[:11]
        figure.text(
            x, top - (0 if len(peers) == 1 else line), text, fontsize=8.5, ha="right", va="top",
            color=look[peer][0], fontweight="bold",
        )  # fmt: skip
    by = {(_label(r, points), r.peer): r for r in points}
    first = top - 1.3 * line - (0 if len(peers) == 1 else line)
    for i, label in enumerate(labels[:MOST_KEYS]):
        y = first - i * line
        figure.text(0.715, y, str(i + 1), fontsize=8.5, ha="right", va="top", color=GREY)
        figure.text(0.725, y, label, fontsize=8.5, va="top")
        for peer, x in zip(peers, columns, strict=True):
            found = by.get((label, peer))
            part = None if found is None else found.of_floor
            text = "–" if part is None else f"{100 * part:.0f}"
            figure.text(x, y, text, fontsize=8.5, ha="right", va="top")
    if len(labels) > MOST_KEYS:
        y = first - MOST_KEYS * line
        figure.text(0.725, y, f"and {len(labels) - MOST_KEYS} more", fontsize=8.5, va="top")


def _label(result: Result, points: list[Result]) -> str:
    batches = len({r.batch for r in points}) > 1
    return short(f"{result.name}, N={result.batch}" if batches else result.name)


def _notes(
    report: Report, timed: list[Result], points: list[Result], per_byte: float | None,
    flops: float | None,
) -> list[str]:  # fmt: skip
    notes = ["FLOPs are those of a direct convolution: Winograd's algorithm may pass the roof."]
    if per_byte is None or flops is None:
        notes.append("No roof where its ceiling was not measured.")
    if left_out := [short(r.name) for r in timed if r not in points]:
        notes.append(f"Without FLOPs, so not shown: {', '.join(dict.fromkeys(left_out))}.")
    if report.interrupted:
        notes.append("Interrupted: what was measured until then.")
    return notes + [f"Not measured: {text}" for text in absent(report)]
