"""The README says what is so: its figures are those of the results, its example runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from vgg_cuda.backends import why_missing

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_figures_are_those_of_the_results() -> None:
    spec = importlib.util.spec_from_file_location("render", ROOT / "bench" / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.render(README) == README, "run `make results`"


def test_the_examples_run(capsys) -> None:  # type: ignore[no-untyped-def]
    use, kernels, forwards = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(compile(use, "README.md", "exec"), scope)
    assert scope["logits"].shape == (2, 1000)
    printed = capsys.readouterr().out
    assert "Prediction(label=" in printed
    assert "138,357,544" in printed

    if why_missing("emulator") is not None:
        pytest.skip("the rest of the README's code needs a build with the emulator")
    exec(compile(kernels, "README.md", "exec"), scope)
    assert scope["y"].shape == (1, 8, 8, 64)
    assert re.fullmatch(r"conv3x3_f16_\w+_pool \d+\n", capsys.readouterr().out)
    exec(compile(forwards, "README.md", "exec"), scope)
    assert capsys.readouterr().out.startswith("Memory(weights=")
    assert scope["logits"].shape == (1, 10)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
