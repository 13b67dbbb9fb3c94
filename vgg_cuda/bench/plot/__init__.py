"""Plots of reports: throughput and latency of programs, or layers under a roofline.

matplotlib (extra ``plot``) is imported when a plot is drawn, and without pyplot, which would open
windows and keep state. Equal reports give equal SVG files with one version of matplotlib; a picture
contains the SHA-256 of its report.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...system.files import replacing
from ...text import one_line
from ..output import check_path
from ..report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # part of matplotlib, so equal on every machine
    "font.size": 9.5,
    "text.parse_math": False,  # names come from files and may contain dollar signs
    "text.color": "#222222",
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#222222",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "svg.hashsalt": "vgg_cuda",
    "svg.fonttype": "path",
    "savefig.dpi": 160,
    "figure.facecolor": "white",
}


def check_plot(path: str | Path) -> None:
    """Check that :func:`plot` can write ``path``.

    Raises ``ValueError`` if the name ends in none of :data:`FORMATS` or if matplotlib is missing or
    broken, and ``OSError`` if the file cannot be written.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError('plots need matplotlib: pip install ".[plot]" in a clone of vgg_cuda')
    try:
        importlib.import_module("matplotlib.figure")
    except Exception as error:  # a broken installation can raise anything
        raise ValueError(
            f"plots need matplotlib, and matplotlib cannot be imported ({type(error).__name__}: "
            f'{one_line(str(error))}): pip install ".[plot]" in a clone of vgg_cuda'
        ) from None
    check_path(path, FORMATS, "plot")


def figure(report: Report) -> Figure:
    """Return a figure: programs against batch size for networks, a roofline for layers."""
    from . import batches, roofline

    with _style():
        if report.kind == "model":
            return batches.draw(report)
        return roofline.draw(report)


def plot(report: Report, path: str | Path) -> None:
    """Draw ``report`` into ``path``, completely or not at all. Raises as :func:`check_plot`."""
    check_plot(path)
    drawn = figure(report)
    suffix = Path(path).suffix.lower()
    mark = f"report sha256 {digest(report)}"
    metadata: dict[str, Any] = {"Title": f"vgg-cuda {report.kind}", "Description": mark}
    if suffix == ".svg":
        metadata |= {"Creator": "vgg-cuda bench", "Date": None}
    else:
        metadata |= {"Software": "vgg-cuda bench"}
    with replacing(path) as temporary, _style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box is drawn instead
        drawn.savefig(temporary, format=suffix[1:], metadata=metadata)


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """Use matplotlib's defaults and :data:`STYLE` instead of the user's settings."""
    matplotlib = importlib.import_module("matplotlib")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def digest(report: Report) -> str:
    """Return the SHA-256 of the report's JSON file."""
    return hashlib.sha256(report.to_json().encode()).hexdigest()


def source_digest(path: str | Path) -> str | None:
    """Return the digest of the report that an SVG or PNG shows, or None if it contains none."""
    found = re.search(rb"report sha256 ([0-9a-f]{64})", Path(path).read_bytes())
    return found[1].decode() if found else None
