"""Parts that the plots share: colours, title, notes."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.figure import Figure

from ...text import plain
from ..columns import absent
from ..report import Report, Result

# Okabe and Ito's colours, which colour-blind people can distinguish; markers differ as well.
LOOKS = {
    "vgg_cuda": ("#0072B2", "o"),
    "torch": ("#D55E00", "s"),
    "compile": ("#CC79A7", "D"),
    "onnxruntime": ("#009E73", "^"),
    "jax": ("#E69F00", "v"),
}
MORE_LOOKS = [("#56B4E9", "P"), ("#000000", "X"), ("#F0E442", "p"), ("#999999", "h")]
GREY = "#666666"
MAX_NAME = 28  # characters


def short(text: str) -> str:
    """Return ``text`` on one line, shortened for a plot."""
    text = plain(text)
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 1] + "…"


def looks(series: list[str], peers: list[str]) -> dict[str, tuple[str, str]]:
    """Return colour and marker of every series; a program's first series has its own."""
    free = [look for peer, look in LOOKS.items() if peer not in peers] + MORE_LOOKS
    found: dict[str, tuple[str, str]] = {}
    for name, peer in zip(series, peers, strict=True):
        own = LOOKS.get(peer)
        taken = own is None or own in found.values()
        found[name] = free[len(found) % len(free)] if own is None or taken else own
    return found


def series_names(results: list[Result]) -> list[str]:
    """Return each result's program, with the fields that differ between results of one program."""
    fields = [
        name
        for name in ("name", "size", "dtype", "how")
        if len({getattr(r, name) for r in results if r.peer == results[0].peer}) > 1
    ]
    return [short(" ".join([r.peer, *(str(getattr(r, f)) for f in fields)])) for r in results]


def head(figure: Any, title: str, report: Report) -> None:
    """Draw the title, and below it device and date."""
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.1 / height, title, fontsize=13, fontweight="bold", va="top")
    under = f"{plain(report.device)}  ·  {report.date[:10]}"
    figure.text(0.012, 1 - 0.38 / height, under, color=GREY, va="top")


def legend(figure: Any, handles: list[Any], names: list[str]) -> None:
    """Draw the legend as a row below the title."""
    figure.legend(
        handles, [f" {name}" if name.startswith("_") else name for name in names],
        loc="upper left", bbox_to_anchor=(0.005, 1 - 0.58 / figure.get_figheight()),
        ncols=min(len(names), 6), frameon=False, handlelength=1.1, handleheight=1.0,
        columnspacing=1.6,
    )  # fmt: skip


def blank(report: Report) -> Figure:
    """Return a figure that says that the report has no times to plot."""
    figure = Figure(figsize=(10, 2))
    head(figure, "No result has a time to plot", report)
    foot(figure, [f"Not measured: {text}" for text in absent(report)], 165)
    return figure


def foot(figure: Any, notes: list[str], width: int) -> float:
    """Draw notes at the bottom, wrapped at ``width`` characters; return their height in inches."""
    lines = [line for note in notes for line in textwrap.wrap(note, width)][:8]
    figure.text(
        0.012, 0.08 / figure.get_figheight(), "\n".join(lines), color=GREY, fontsize=8, va="bottom"
    )
    return 0.2 + 0.16 * len(lines)
