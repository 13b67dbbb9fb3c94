"""The README says what is so: its figures are those of the results, its example runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_figures_are_those_of_the_results() -> None:
    spec = importlib.util.spec_from_file_location("render", ROOT / "bench" / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.render(README) == README, "run `make results`"


def test_the_example_runs(capsys) -> None:  # type: ignore[no-untyped-def]
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), scope)
    assert scope["logits"].shape == (2, 1000)  # type: ignore[attr-defined]
    printed = capsys.readouterr().out
    assert "Prediction(label=" in printed
    assert "138,357,544" in printed


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
