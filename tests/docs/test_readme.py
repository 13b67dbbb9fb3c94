"""The README says what is so: its figures are those of the results, its example runs."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.keras_models import NOTE

from vgg_cuda.backends import why_missing

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
FRAMEWORKS = {
    name: next(block for block in BLOCKS if word in block)
    for name, word in (("keras", "from_keras"), ("torch", "from_torch"), ("onnx", "to_onnx"))
}
IMPORTS = "import numpy as np\nimport vgg_cuda\n"  # as the README's first block does


def test_figures_are_those_of_the_results() -> None:
    spec = importlib.util.spec_from_file_location("render", ROOT / "bench" / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.render(README) == README, "run `make results`"


def test_the_examples_run(capsys) -> None:  # type: ignore[no-untyped-def]
    use, kernels, forwards = (block for block in BLOCKS if block not in FRAMEWORKS.values())
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


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_examples_of_frameworks_run_as_printed(name: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(IMPORTS + FRAMEWORKS[name], encoding="utf-8")
    env = os.environ | {"KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    if name == "torch":
        assert re.search(r"'matched': [1-9].*'fallback': 0", done.stdout)


def test_the_notes_code_is_printed_as_it_is() -> None:
    def plain(code: str) -> str:
        return re.sub(r"#.*|\s", "", code)

    assert plain(NOTE) in plain(FRAMEWORKS["keras"])
    assert IMPORTS.split("\n")[0] in BLOCKS[0]
    assert IMPORTS.split("\n")[1] in BLOCKS[0]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
