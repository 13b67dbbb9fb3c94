"""Write ``docs/accepted-models.md`` from the cases of ``tests/weights/zoo``.

``make results`` runs this script; a test fails when the page and the cases differ.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("accepted-models.md")

TITLES = {
    "PyTorch": "State dicts and checkpoints of PyTorch",
    "from_torch": "Modules of PyTorch (`from_torch`)",
    "Keras": "Keras models",
    "ONNX": "ONNX graphs",
}
INTRODUCTION = """\
# Accepted models

A model of another framework is

- **accepted** if every layer runs as in its framework,
- **folded** if some layers become part of others, which is exact except for rounding,
- **refused** otherwise, in one sentence that names the layer and the reason.

Each row is a case of `tests/weights/zoo`, built by its framework. Tests compare every accepted and
folded case with the result of its framework, and check the message of every refusal.
`python docs/render_models.py` renders this page.
"""


def render() -> str:
    """Return the page as Markdown."""
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        from weights.zoo import CASES
    finally:
        sys.path.remove(str(ROOT / "tests"))
    parts = [INTRODUCTION]
    for framework, title in TITLES.items():
        parts += [f"## {title}\n", "| model | verdict | why |", "|---|---|---|"]
        own = [case for case in CASES if case.framework == framework]
        for case in sorted(own, key=lambda case: case.verdict == "refused"):
            what = case.what[0].upper() + case.what[1:]
            parts.append(f"| {what} | {case.verdict} | {case.why} |")
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
