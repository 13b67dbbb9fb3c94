"""Render the newest results under ``bench/results/`` into README.md and docs/.

``python bench/render.py`` rewrites the lines between ``<!-- results: NAME -->`` and ``<!-- end of
results -->``, and draws each picture that is missing or older than its report; ``make results``
runs it. Pictures need matplotlib.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from vgg_cuda.bench.columns import absent, cells, significant
from vgg_cuda.bench.output import markdown_table
from vgg_cuda.bench.plot import digest, plot, source_digest
from vgg_cuda.bench.report import SCHEMA, Report, Result, read

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
RESULTS = ROOT / "bench" / "results"
MARKED = re.compile(r"(<!-- results: (\w+) -->\n).*?(\n<!-- end of results -->)", re.DOTALL)


def render(page: str, results: Path = RESULTS, to_root: str = "") -> str:
    """Return ``page`` with its marked sections rendered from the newest of ``results``.

    ``to_root`` is the path from the page's folder to the root, for links. Raises ``SystemExit`` for
    an unknown section.
    """

    def section(match: re.Match[str]) -> str:
        if match[2] not in SECTIONS:
            raise SystemExit(f"results: expected one of {', '.join(SECTIONS)}, got {match[2]!r}")
        text = SECTIONS[match[2]](results)
        return match[1] + text.replace("](bench/", f"]({to_root}bench/") + match[3]

    return MARKED.sub(section, page)


def reports(results: Path = RESULTS) -> dict[Path, Report]:
    """Return all reports of ``vgg-cuda bench`` and ``profile``, oldest first."""
    paths = sorted(results.glob("*.json"))
    return {path: read(path) for path in paths if _schema(path) == SCHEMA}


def stale_plots(results: Path = RESULTS) -> dict[Path, Report]:
    """Return the pictures that are missing or do not show the report of the same name."""
    plots = {path.with_suffix(".svg"): report for path, report in reports(results).items()}
    return {
        path: report
        for path, report in plots.items()
        if not path.exists() or source_digest(path) != digest(report)
    }


def _schema(path: Path) -> object:
    data = json.loads(path.read_text(encoding="utf-8"))
    return data.get("schema") if isinstance(data, dict) and "results" in data else None


def cpu(results: Path) -> str:
    """Return the table of networks on the CPU, from the newest ``*-cpu.json``."""
    newest = _newest(results, "*-cpu.json")
    if newest is None:
        return "No measurement on a CPU yet."
    return _model(newest)


def gpu(results: Path) -> str:
    """Return the table of networks on a GPU, from the newest ``*-gpu.json``."""
    newest = _newest(results, "*-gpu.json")
    return _model(newest) if newest else "No GPU measurement yet."


def layers(results: Path) -> str:
    """Return the table of layers on a GPU, from the newest ``*-gpu-kernel.json``."""
    newest = _newest(results, "*-gpu-kernel.json")
    return _layers(newest) if newest else "No GPU measurement yet."


def plan(results: Path) -> str:
    """Return one sentence on the predicted time at batch 64, from the newest plan."""
    newest = _newest(results, "*-plan-vgg16-sm_90a-n64.json")
    if newest is None:
        return "No plan yet."
    total = json.loads(newest.read_text(encoding="utf-8"))["total"]
    part = total["floor_us"] / total["tiled_us"]
    return (
        "Prediction, not a measurement: with these tiles, and at the rates reported for an H200, "
        f"the kernels reach {part:.0%} of\nthe speed that VGG-16's products and bytes allow at "
        f"batch 64 ({_link(newest)})."
    ).replace("%", " %")


SECTIONS: dict[str, Callable[[Path], str]] = {
    "cpu": cpu,
    "gpu": gpu,
    "layers": layers,
    "plan": plan,
}


def _newest(results: Path, pattern: str) -> Path | None:
    return max(results.glob(pattern), default=None)


def _link(path: Path) -> str:
    return f"[bench/results/{path.name}](bench/results/{path.name})"


def _model(path: Path) -> str:
    """Return a table of programs by batches: time and rate per image, ratio to vgg_cuda's time."""
    report = read(path)
    by = {(r.peer, r.batch): r for r in report.results}
    programs = list(dict.fromkeys(r.peer for r in report.results))
    batches = sorted({r.batch for r in report.results})
    rows = [
        ["per image", *(f"batch {batch}" for batch in batches), "error", "peak memory"],
        ["---", *("---:" for _ in batches), "---:", "---:"],
    ]
    for program in programs:
        found = [by[program, batch] for batch in batches if (program, batch) in by]
        errors = [r.relative_error for r in found if r.relative_error is not None]
        peaks = [r.peak_bytes for r in found if r.peak_bytes is not None]
        rows.append(
            [
                f"{program} {report.versions.get(program, '')}".strip(),
                *(_cell(by.get((program, batch))) for batch in batches),
                f"{max(errors):.0e}" if errors else "",
                f"{max(peaks) / 1e9:.2f} GB" if peaks else "",
            ]
        )
    first = report.results[0]
    what = f"{first.name}, {first.dtype}" + (f", {first.size}x{first.size}" if first.size else "")
    return "\n".join(
        [
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            f"![Throughput and latency against batch, {what}](bench/results/{path.stem}.svg)",
            "",
            f"{what}, on {report.device}, {report.date[:10]}. Times are medians; brackets hold "
            f"the ratio to vgg_cuda's time. The error is the relative L2 error of the logits.",
            *(f"{text}." for text in absent(report)),
            f"Source: {_link(path)}; `make bench` measures again.",
        ]
    )


def _cell(result: Result | None) -> str:
    if result is None or result.median_s is None:
        return "" if result is None else result.status
    seconds = result.median_s / result.batch
    time = (
        f"{significant(seconds * 1e3, 3)} ms"
        if seconds >= 1e-3
        else (f"{significant(seconds * 1e6, 3)} µs")
    )
    ratio = "" if result.ratio is None else f" ({result.ratio:.2f}x)"
    return f"{time}, {significant(1 / seconds, 3)}/s{ratio}"


def _layers(path: Path) -> str:
    report = read(path)
    return "\n".join(
        [
            markdown_table(cells(report)),
            "",
            f"![Layers under the measured roofline](bench/results/{path.stem}.svg)",
            "",
            f"Layers on {report.device}, {report.date[:10]}. Source: {_link(path)}.",
        ]
    )


def main() -> None:
    """Draw pictures that are out of date, then rewrite the pages."""
    for path, report in stale_plots().items():
        plot(report, path)
        print(f"drew {path.relative_to(ROOT)}")
    for page in PAGES:
        to_root = "" if page.parent == ROOT else "../"
        page.write_text(render(page.read_text(encoding="utf-8"), RESULTS, to_root), "utf-8")


if __name__ == "__main__":
    main()
