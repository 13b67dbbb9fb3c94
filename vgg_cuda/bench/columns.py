"""The table of a report: cells as text, and notes below the table.

The terminal, Markdown files and the README show the same cells. Empty columns are left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

from ..text import plain
from .report import Ceiling, Report, Result


@dataclass(frozen=True)
class Cells:
    """A table with a title and notes; its first ``texts`` columns are text, the others numbers."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    texts: int
    notes: list[str]


BEYOND = {
    "compute": "more than 100 % of compute: FLOPs count a direct convolution, and "
    "Winograd's algorithm multiplies less",
    "memory": "more than 100 % of memory: only reading weights can be faster than a copy, which "
    "also writes",
}


def cells(report: Report) -> Cells:
    """Return the table of all results; control characters in texts are escaped."""
    unit, factor = time_unit(report)

    def seconds(value: float | None) -> str:
        return "" if value is None else significant(value * factor)

    columns: list[tuple[str, Callable[[Result], str]]] = [
        ("layer" if report.kind == "profile" else "name", lambda r: plain(r.name)),
        ("program", lambda r: plain(r.peer)),
        ("dtype", lambda r: plain(r.dtype)),
        ("how", lambda r: plain(r.how or "")),
        ("bound by", lambda r: r.bound or ""),
        ("batch", lambda r: str(r.batch)),
        ("size", lambda r: str(r.size or "")),
        (unit, lambda r: seconds(r.median_s) if r.status == "ok" else r.status),
        ("± %", _confidence),
        ("p99", lambda r: seconds((r.percentiles_s or {}).get("p99"))),
        ("samples", lambda r: str(r.samples or "")),
        ("share %", lambda r: _percent(r.share)),
        ("images/s", lambda r: significant(r.images_per_s)),
        ("x vgg_cuda", lambda r: "" if r.ratio is None else f"{r.ratio:.2f}"),
        ("error", lambda r: "" if r.relative_error is None else f"{r.relative_error:.1e}"),
        ("host to device", lambda r: seconds(r.host_to_device_s)),
        ("enqueue", lambda r: seconds(r.enqueue_s)),
        ("device", lambda r: seconds(r.device_s)),
        ("GFLOP/s", lambda r: significant(_giga(r.flops_per_s))),
        ("GB/s", lambda r: significant(_giga(r.bytes_per_s))),
        ("% compute", lambda r: _percent(r.of_compute)),
        ("% memory", lambda r: _percent(r.of_memory)),
        ("% floor", lambda r: _percent(r.of_floor)),
        ("load s", lambda r: f"{r.load_s:.2f}" if r.load_s and r.status == "ok" else ""),
        ("peak GB", lambda r: "" if r.peak_bytes is None else f"{r.peak_bytes / 1e9:.2f}"),
    ]
    varying = _varying(report)
    hidden = {"p99", "samples", "images/s"} if report.kind != "model" else {"name"} - varying
    hidden |= {"dtype", "how", "size"} - varying  # the title has them
    always = {unit, "batch"}
    kept = []
    for heading, cell in columns:
        texts = [cell(result) for result in report.results]
        if heading in always or (any(texts) and heading not in hidden):
            kept.append((heading, texts))
    headings = [heading for heading, _ in kept]
    return Cells(
        title=title(report),
        headings=headings,
        rows=[list(row) for row in zip(*(texts for _, texts in kept), strict=True)],
        texts=headings.index("batch"),
        notes=notes(report),
    )


def time_unit(report: Report) -> tuple[str, float]:
    """Return the unit of a table's times, and the number of such units in a second."""
    times = [r.median_s for r in report.results if r.median_s is not None]
    return ("us", 1e6) if times and statistics.median(times) < 1e-3 else ("ms", 1e3)


def significant(value: float | None, digits: int = 4) -> str:
    """Format ``value`` with about ``digits`` significant digits: 1,234 or 1.234."""
    if value is None:
        return ""
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:,.{min(max(digits - whole, 0), 6)}f}"


def title(report: Report) -> str:
    """Return the table's title: kind, network, layer, dtype, device and date."""
    varying = _varying(report)
    parts = [f"{report.kind} benchmark" if report.kind != "profile" else "profile"]
    if (network := network_of(report)) is not None:
        parts.append(network)
    if report.results:
        first = report.results[0]
        if "name" not in varying:
            parts.append(first.name)
        if first.size is not None and "size" not in varying:
            parts.append(f"{first.size}x{first.size}")
        parts += [] if "dtype" in varying else [first.dtype]
        parts += [first.how] if first.how and "how" not in varying else []
    return plain(", ".join([*parts, report.device, report.date[:10]]))


def network_of(report: Report) -> str | None:
    """Return the network of measured layers; None if the results name it or there is none."""
    name = report.settings.get("network")
    if report.kind == "model" or not isinstance(name, str) or not name:
        return None
    return plain(PurePath(name).name)


def notes(report: Report) -> list[str]:
    """Return notes for the reader: missing results with reasons, ceilings, versions."""
    found = ["interrupted: the measurements until then"] if report.interrupted else []
    found += absent(report)
    counted = [r for r in report.results if r.counters]
    for result in counted:
        counts = ", ".join(f"{k} {v:,.0f}" for k, v in (result.counters or {}).items())
        found.append(f"{result.name}: {counts}")
    if report.ceilings:
        rates = ", ".join(f"{name} {ceiling_rate(c)}" for name, c in report.ceilings.items())
        found.append(f"ceilings, measured in the same run: {rates}")
    missing = report.environment.get("no_ceilings")
    if isinstance(missing, dict):
        found += [f"no {name} ceiling: {reason}" for name, reason in missing.items()]
    beyond = {r.bound for r in report.results if max(r.of_compute or 0, r.of_floor or 0) > 1}
    found += [text for bound, text in BEYOND.items() if bound in beyond]
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    found.append(f"{versions}; commit {report.commit[:12]}")
    return [plain(note) for note in found]


def ceiling_rate(ceiling: Ceiling) -> str:
    """Format the rate of a ceiling with its unit."""
    if ceiling.flops_per_s is not None:
        return f"{significant(ceiling.flops_per_s / 1e9)} GFLOP/s"
    return f"{significant(_giga(ceiling.bytes_per_s))} GB/s"


def absent(report: Report) -> list[str]:
    """Return lines on results without figures: ``jax, batch 1, 8: n/a (not installed)``."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for r in report.results:
        if r.status != "ok":
            groups.setdefault((r.peer, r.status, r.reason or ""), []).append(r)
    several = len({r.name for r in report.results}) > 1
    found = []
    for (peer, status, reason), results in groups.items():
        names = list(dict.fromkeys(r.name for r in results))
        batches = ", ".join(map(str, sorted({r.batch for r in results})))
        what = f"{peer}, {', '.join(names)}" if several else peer
        found.append(plain(f"{what}, batch {batches}: {status} ({reason})"))
    return found


def _varying(report: Report) -> set[str]:
    """Return the fields that differ between results."""
    found = {
        name
        for name in ("dtype", "how", "size")
        if len({getattr(r, name) for r in report.results if r.status == "ok"}) > 1
    }
    return found | ({"name"} if len({r.name for r in report.results}) > 1 else set())


def _confidence(result: Result) -> str:
    """Format half the width of the 95 % interval in percent of the median."""
    if result.confidence_s is None or result.median_s is None:
        return ""
    low, high = result.confidence_s
    return f"{50 * (high - low) / result.median_s:.1f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _giga(value: float | None) -> float | None:
    return None if value is None else value / 1e9
