"""Renders the newest results under ``bench/results/`` into the README, so that no figure is typed.

``python bench/render.py`` rewrites what stands between ``<!-- results: NAME -->`` and ``<!-- end of
results -->``, and draws the picture beside every report that has none of its own figures;
``make results`` runs it. Pictures take matplotlib, and only those that are out of date are drawn.
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
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results"
MARKED = re.compile(r"(<!-- results: (\w+) -->\n).*?(\n<!-- end of results -->)", re.DOTALL)


def render(readme: str, results: Path = RESULTS) -> str:
    """``readme`` with what stands between markers made from the newest of ``results``."""

    def section(match: re.Match[str]) -> str:
        if match[2] not in SECTIONS:
            raise SystemExit(f"README.md: no results {match[2]!r}; known: {', '.join(SECTIONS)}")
        return match[1] + SECTIONS[match[2]](results) + match[3]

    rendered, found = MARKED.subn(section, readme)
    if not found:
        raise SystemExit("README.md: expected the markers <!-- results: cpu --> ...")
    return rendered


def reports(results: Path = RESULTS) -> dict[Path, Report]:
    """All reports of ``vgg-cuda bench`` and ``profile``, oldest first."""
    paths = sorted(results.glob("*.json"))
    return {path: read(path) for path in paths if _schema(path) == SCHEMA}


def stale_plots(results: Path = RESULTS) -> dict[Path, Report]:
    """Pictures that are not there, or are not of the report of the same name."""
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
    """Networks on the CPU, from the newest ``*-cpu.json``."""
    newest = _newest(results, "*-cpu.json")
    if newest is None:
        return "No measurement on a CPU yet."
    return _model(newest)


def gpu(results: Path) -> str:
    """Networks, then layers, on a GPU: ``*-gpu.json`` and ``*-gpu-kernel.json``."""
    model, kernel = _newest(results, "*-gpu.json"), _newest(results, "*-gpu-kernel.json")
    parts = [_model(model)] if model else []
    parts += [_layers(kernel)] if kernel else []
    return "\n\n".join(parts) or "No GPU measurement yet."


def plan(results: Path) -> str:
    """What the tiles allow at batch 64, from the newest plan."""
    newest = _newest(results, "*-plan-vgg16-sm_90a-n64.json")
    if newest is None:
        return "No plan yet."
    total = json.loads(newest.read_text(encoding="utf-8"))["total"]
    part = total["floor_us"] / total["tiled_us"]
    return (
        "By their tiles alone, at the rates that are reported for an H200, these kernels reach "
        f"{part:.0%} of what VGG-16's\nproducts and bytes allow at batch 64 "
        f"({_link(newest)}): a prediction, no measurement."
    ).replace("%", " %")


SECTIONS: dict[str, Callable[[Path], str]] = {"cpu": cpu, "gpu": gpu, "plan": plan}


def _newest(results: Path, pattern: str) -> Path | None:
    return max(results.glob(pattern), default=None)


def _link(path: Path) -> str:
    return f"[bench/results/{path.name}](bench/results/{path.name})"


def _model(path: Path) -> str:
    """Programs by batches: time and rate of an image, multiples of vgg_cuda's time."""
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
            f"{what}, on {report.device}, {report.date[:10]}: medians; in brackets, multiples of "
            f"vgg_cuda's time; error, relative L2 of the logits.",
            *(f"{text}." for text in absent(report)),
            f"From {_link(path)}; `make bench` measures it anew.",
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
            f"Layers on {report.device}, {report.date[:10]}. From {_link(path)}.",
        ]
    )


def main() -> None:
    """Draws what is out of date, then rewrites the README."""
    for path, report in stale_plots().items():
        plot(report, path)
        print(f"drew {path.relative_to(ROOT)}")
    README.write_text(render(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
