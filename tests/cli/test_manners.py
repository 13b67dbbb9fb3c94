"""Standard input, --quiet, --json, names of options, progress, Ctrl-C: what a terminal expects."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from vgg_cuda.cli.main import ORDER, app

RUNNER = CliRunner()
ROOT = Path(__file__).resolve().parents[2]
COMMAND = str(Path(sys.executable).parent / "vgg-cuda")


def run(*args: object, stdin: bytes | None = None) -> Any:
    return RUNNER.invoke(app, [str(arg) for arg in args], input=stdin)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    found = [tmp_path / name for name in ("a.png", "b c.png", "ü.png")]
    for i, path in enumerate(found):
        pixels = np.random.default_rng(i).integers(0, 256, (9, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return found


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_paths_on_standard_input(pictures: list[Path], separator: str) -> None:
    names = "".join(f"{path}{separator}" for path in pictures).encode()
    result = run("classify", "-", "--weights", "digits", "--device", "cpu", stdin=names)
    assert result.exit_code == 0, result.output
    assert [line.rpartition(".png:")[0] for line in result.stdout.splitlines()] == [
        str(path)[:-4] for path in pictures
    ]


@pytest.mark.parametrize(("data", "message"), [(b"", "got none"), (b"\n \n", "got none")])
def test_standard_input_without_paths(data: bytes, message: str) -> None:
    result = run("classify", "-", "--weights", "digits", stdin=data)
    assert result.exit_code == 2
    assert f"error: -: expected paths on standard input, one per line, {message}" in result.stderr


def test_image_on_standard_input_is_refused(pictures: list[Path]) -> None:
    result = run("verify", "-", stdin=pictures[0].read_bytes())
    assert result.exit_code == 2
    assert "-: expected paths, one per line, got an image" in result.stderr


def test_url_is_refused_in_a_sentence() -> None:
    result = run("classify", "https://example.org/a.png", "--weights", "digits")
    assert result.exit_code == 2
    assert "https://example.org/a.png: expected a file, got a URL; download" in result.stderr


def test_quiet_drops_notices_only(pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "zero.png").touch()
    out, weights = tmp_path / "r.json", tmp_path / "w.safetensors"
    assert run("convert", "digits", weights, "--to", "torchvision", "-q").output == ""
    save_file(load_file(weights), weights)  # without the header
    options = ("--weights", weights, "--device", "cpu", "--output", out, "--size", 32)
    loud = run("classify", *pictures, *options)
    assert "assumed preprocessing: " in loud.stderr
    assert f"wrote 3 results to {out}" in loud.stderr
    quiet = run("classify", *pictures, *options, "--quiet")
    assert "assumed" not in quiet.stderr
    assert "wrote" not in quiet.stderr
    skipped = run("classify", tmp_path / "zero.png", *options, "--quiet")
    assert skipped.exit_code == 3
    assert "zero.png: the file is empty" in skipped.stderr


def test_classify_json_equals_its_file(pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    result = run("classify", *pictures, "--weights", "digits", "--json", "--output", out)
    assert result.stdout == out.read_text(encoding="utf-8")
    assert [r["path"] for r in json.loads(result.stdout)] == [str(path) for path in pictures]


def test_summary_json_has_the_table() -> None:
    found = json.loads(run("summary", "vgg16", "--json").stdout)
    assert (found["parameters"], found["flops"]) == (138_357_544, 30_940_528_640)
    assert found["layers"][1]["layer"] == "conv1_1"


ERRORS = {
    "size": (("summary", "vgg16", "--size", 31), "error: --size: "),
    "planned size": (("plan", "vgg16", "--size", 31), "error: --size: "),
    "device": (("verify", "--device", "tpu"), "error: --device: expected"),
    "dtype": (("verify", "--device", "cpu", "--dtype", "int8"), "error: --dtype: "),
    "argument": (("summary", "vgg15"), "error: network: expected"),
    "output": (("bench", "model", "digits", "--output", "r.txt"), "error: --output: expected"),
    "missing report": (("bench", "compare", "nofile", "x"), "error: nofile: no such file or dir"),
    "random": (("summary", "random:vgg15"), "expected one of random:vgg11, random:vgg13"),
}


@pytest.mark.parametrize(("args", "message"), ERRORS.values(), ids=ERRORS)
def test_errors_name_the_option(args: tuple[object, ...], message: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Errno" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["x.bin", "x.pth", "x.safetensors", "x.h5", "x.keras", "x.onnx"])
def test_garbage_is_no_safetensors_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(np.random.default_rng(0).bytes(1000))
    result = run("summary", path)
    assert result.exit_code == 2
    assert "not a readable safetensors file" not in result.stderr


def test_full_standard_output_is_named() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [COMMAND, "summary", "vgg16"], stdout=full, stderr=-1, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "error: standard output: no space left on device\n"


def test_info_says_why_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VGG_CUDA_CACHE", "~nosuchuser/x")
    lines = run("info").stdout.splitlines()
    assert any(
        line.startswith("cache folder     not usable: VGG_CUDA_CACHE: expected a folder, got ")
        for line in lines
    )


def test_help_lists_commands_for_newcomers() -> None:
    lines = run("--help").stdout.partition("Commands:")[2].splitlines()
    assert [line.split()[0] for line in lines if line.strip()] == list(ORDER)


def test_progress_shows_counts_and_rate(pictures: list[Path]) -> None:
    """On a terminal, before and after the first batch."""
    controller, terminal = pty.openpty()
    args = ["classify", *map(str, pictures), "--weights", "digits", "--batch", "1"]
    env = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [COMMAND, *args], stdout=subprocess.DEVNULL, stderr=terminal, env=env
    ) as process:
        os.close(terminal)
        shown = io.BytesIO()
        try:
            while part := os.read(controller, 4096):
                shown.write(part)
        except OSError:  # the process has ended
            pass
    os.close(controller)
    assert process.returncode == 0
    text = shown.getvalue().decode()
    assert "0/3" in text
    assert "3/3" in text
    assert "images/s" in text


@pytest.mark.parametrize("command", [[COMMAND], [sys.executable, "-m", "vgg_cuda"]], ids=str)
def test_early_interrupt_prints_nothing(command: list[str], tmp_path: Path) -> None:
    """A signal during the imports, held open here by a stand-in for one of the packages."""
    program = "import time; print('importing', flush=True); time.sleep(30)"
    for package in ("msgspec", "threadpoolctl"):
        (tmp_path / f"{package}.py").write_text(program)
    path = os.pathsep.join(filter(None, [str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [*command, "info"], stdout=-1, stderr=-1, text=True, env=os.environ | {"PYTHONPATH": path}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == -signal.SIGINT


EXAMPLES = {
    "torch_module.py": "torch", "torch_compile.py": "torch", "onnx_vgg.py": "onnx",
    "keras_vgg16.py": "keras", "demo.py": "sklearn", "digits/train.py": "torch",
}  # fmt: skip


@pytest.mark.parametrize(("example", "missing"), EXAMPLES.items(), ids=EXAMPLES)
def test_examples_name_what_is_missing(example: str, missing: str, tmp_path: Path) -> None:
    (tmp_path / f"{missing}.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, str(ROOT / "examples" / example)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 1
    assert done.stderr.startswith("this example needs ")
    assert len(done.stderr.splitlines()) == 1
