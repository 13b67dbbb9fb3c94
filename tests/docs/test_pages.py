"""Examples of README.md and docs/ run as printed; figures, commands and links are right."""

from __future__ import annotations

import importlib.util
import re
import shlex
import textwrap
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import typer

from vgg_cuda.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
}
EXAMPLES = [
    pytest.param(name, marks=[pytest.mark.emulator] if 'device="emulator"' in text else [])
    for name, text in PAGES.items()
    if "```python\n" in text
]
COMMANDS = [line for text in PAGES.values() for line in re.findall("(?m)^vgg-cuda .*", text)]
PRINTED = {  # by an example, as a pattern
    "README.md": r"Prediction\(label=.*all 15 layers are within their bounds",
    "docs/models.md": r"Prediction\(label=.*138,357,544.*Memory\(weights=",
    "docs/operations.md": r"conv3x3_f16_\w+_pool \d+\n",
    "docs/pytorch.md": r"'matched': [1-9].*'fallback': 0",
    "docs/verify.md": r"all \d+ layers are within their bounds",
}


def script(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run_as_printed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall("(?ms)^ *```python\n(.*?)^ *```", PAGES[name])
    code = "\n".join(blocks)
    if "keras" in code:
        pytest.importorskip("support.keras_models")  # selects a backend of Keras
    if "onnx" in code:
        pytest.importorskip("onnx")
    if "torch" in code:
        pytest.importorskip("torch._dynamo").utils.counters.clear()
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "example"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras with NumPy 2
        for block in blocks:
            exec(compile(textwrap.dedent(block), name, "exec"), scope)
    assert re.search(PRINTED.get(name, ""), capsys.readouterr().out, re.DOTALL)


def test_commands_have_known_options() -> None:
    for command in COMMANDS:
        _, *arguments = shlex.split(command, comments=True)
        parser = typer.main.get_command(app)
        while hasattr(parser, "commands"):
            parser = parser.commands[arguments.pop(0)]
        parser.make_context(command, arguments)


@pytest.mark.parametrize("name", PAGES)
def test_figures_match_results(name: str) -> None:
    to_root = "../" * name.count("/")
    rendered = script("bench/render.py").render(PAGES[name], to_root=to_root)
    assert rendered == PAGES[name], "run `make results`"


def test_all_results_have_a_page() -> None:
    render = script("bench/render.py")
    sections = [name for text in PAGES.values() for _, name, _ in render.MARKED.findall(text)]
    assert sorted(sections) == sorted(render.SECTIONS)


def test_picture_matches_plan() -> None:
    picture = (ROOT / "docs" / "network.svg").read_text(encoding="utf-8")
    assert script("docs/render_network.py").render() == picture, "run `make results`"


def test_accepted_models_are_those_of_the_zoo() -> None:
    for module in ("support.keras_models", "support.onnx_graphs"):
        pytest.importorskip(module)
    assert script("docs/render_models.py").render() == PAGES["docs/accepted-models.md"], (
        "run `make results`"
    )


def test_note_code_is_printed_unchanged() -> None:
    note = pytest.importorskip("support.keras_models").NOTE
    plain = [re.sub(r"#.*|\s", "", code) for code in (note, PAGES["docs/keras.md"])]
    assert plain[0] in plain[1]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", PAGES[name]):
        assert ((ROOT / name).parent / target).exists(), target


def test_contributing_names_existing_paths() -> None:
    tops = "vgg_cuda|csrc|tests|bench|docs|examples|build_backend|cmake"
    found = re.findall(rf"`((?:{tops})/[\w./-]*)`", PAGES["CONTRIBUTING.md"])
    assert [path for path in found if not (ROOT / path).exists()] == []
