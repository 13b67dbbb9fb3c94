"""Renders the newest results under ``bench/results/`` into the README, so that no figure is typed.

``python bench/render.py`` rewrites what stands between the markers; ``make results`` runs it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- results: cpu -->", "<!-- end of results -->"


def cpu_table(path: Path) -> str:
    """The comparison on the CPU as Markdown, with the name of the file it comes from."""
    report = json.loads(path.read_text())
    results = {(row["program"], row["batch"]): row for row in report["results"]}
    batches = sorted({batch for _, batch in results})
    programs = list(dict.fromkeys(program for program, _ in results))
    lines = [
        "| s/image | " + " | ".join(f"batch {batch}" for batch in batches) + " | peak memory |",
        "|---|" + "---|" * (len(batches) + 1),
    ]
    for program in programs:
        cells = []
        for batch in batches:
            row = results[program, batch]
            ratio = row["ratio_to_vgg_cuda"]
            cells.append(f"{row['median_s_per_image']:.3f} ({ratio:.2f}x)")
        peak = max(results[program, batch]["peak_bytes"] for batch in batches) / 1e9
        version = report["versions"][program]
        lines.append(f"| {program} {version} | " + " | ".join(cells) + f" | {peak:.2f} GB |")
    where = path.relative_to(ROOT).as_posix()
    lines += [
        "",
        f"Medians on {report['device']}, {report['date'][:10]}; in brackets, multiples of "
        f"vgg_cuda's time. From [{where}]({where}); `make bench` measures it anew.",
    ]
    return "\n".join(lines)


def render(readme: str) -> str:
    """``readme`` with what stands between the markers made from the newest results."""
    newest = max((ROOT / "bench" / "results").glob("*-cpu.json"))
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(readme):
        raise SystemExit(f"README.md: expected the markers {BEGIN} and {END}")
    return pattern.sub(lambda _: f"{BEGIN}\n{cpu_table(newest)}\n{END}", readme)


if __name__ == "__main__":
    README.write_text(render(README.read_text(encoding="utf-8")), encoding="utf-8")
