"""The subcommands info, summary and classify, run in this process and once as a process."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vgg_cuda import __version__
from vgg_cuda.backends import why_missing
from vgg_cuda.cli.main import app
from vgg_cuda.weights import load_weights, save

RUNNER = CliRunner()
NO_GPU = pytest.mark.skipif(why_missing("cuda") is None, reason="a GPU is present")


def run(*args: object):  # type: ignore[no-untyped-def]
    return RUNNER.invoke(app, [str(arg) for arg in args])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, name in enumerate(["a.png", "ü.png", "c.jpg"]):
        pixels = np.random.default_rng(i).integers(0, 256, (9, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_info_lists_backends() -> None:
    result = run("info", "--json")
    assert result.exit_code == 0
    info = json.loads(result.stdout)
    assert info["vgg_cuda"] == __version__
    assert info["backends"]["cpu"] == {"available": True, "reason": None}
    assert set(info["backends"]) == {"cpu", "cuda", "emulator"}
    assert info["backends"]["cuda"]["available"] == (info["backends"]["cuda"]["reason"] is None)
    assert isinstance(info["architectures"], list)
    assert info["blas"]
    plain = run("info")
    assert plain.exit_code == 0
    for word in (__version__, info["commit"], "backend cpu      available", "BLAS"):
        assert word in plain.stdout


def test_summary_prints_the_layers() -> None:
    result = run("summary", "vgg16")
    assert result.exit_code == 0
    assert "138,357,544" in result.stdout
    assert "conv5_3" in result.stdout
    assert run("summary", "digits", "--size", "32").exit_code == 0
    bad = run("summary", "vgg15")
    assert bad.exit_code == 2
    assert "expected one of vgg11, vgg13, vgg16, vgg19, digits" in bad.stderr
    assert run("summary", "vgg16", "--size", "31").exit_code == 2


def test_classify_prints_a_line_per_image(pictures: Path) -> None:
    result = run("classify", pictures, "--weights", "digits", "--top-k", 2, "--device", "cpu")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [Path(line.partition(":")[0]).name for line in lines] == ["a.png", "c.jpg", "ü.png"]
    assert all(line.count("%") == 2 for line in lines)


def test_classify_writes_json(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    options = ("--weights", "digits", "--output", out, "--batch", 2)
    assert run("classify", pictures, *options).exit_code == 0
    text = out.read_text(encoding="utf-8")
    assert "ü.png" in text
    records = json.loads(text)
    assert len(records) == 3
    for record in records:
        assert set(record) == {"path", "predictions"}
        assert len(record["predictions"]) == 5
        assert set(record["predictions"][0]) == {"label", "index", "probability"}


def test_classify_writes_csv(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    (pictures / "zero.png").touch()
    result = run("classify", pictures, "--weights", "digits", "--output", out, "--top-k", 1)
    assert result.exit_code == 3
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "1", "", "1"]
    assert "0 bytes" in rows[2]["error"]


def test_skipped_images_are_named(pictures: Path) -> None:
    (pictures / "zero.png").touch()
    (pictures / "b.jpg").write_bytes(b"text")
    result = run("classify", pictures, "--weights", "digits")
    assert result.exit_code == 3
    assert "zero.png: the file is empty" in result.stderr
    assert "b.jpg: expected an image" in result.stderr
    assert "2 of 5 images were skipped" in result.stderr
    assert len(result.stdout.splitlines()) == 3


def test_strict_stops_at_the_first_broken_image(pictures: Path, tmp_path: Path) -> None:
    (pictures / "b.png").touch()
    out = tmp_path / "r.json"
    result = run("classify", pictures, "--weights", "digits", "--strict", "--output", out)
    assert result.exit_code == 2
    assert "b.png" in result.stderr
    assert not out.exists()
    assert sorted(tmp_path.iterdir()) == [pictures]  # no temporary file is left


BAD = {
    "missing path": (["gone.png", "--weights", "digits"], "gone.png"),
    "empty folder": (["empty", "--weights", "digits"], "no images in the folder 'empty'"),
    "weights": (
        ["a.png", "--weights", "gone.safetensors"],
        "expected the path of a weights file",
    ),
    "not weights": (["a.png", "--weights", "a.png"], "a.png: expected a weights file"),
    "device": (["a.png", "--weights", "digits", "--device", "tpu"], 'expected "auto", "cpu"'),
    "dtype": (
        ["a.png", "--weights", "digits", "--device", "cpu", "--dtype", "int8"],
        "expected float32",
    ),
    "arch": (
        ["a.png", "--weights", "digits", "--device", "cpu", "--arch", "sm_80"],
        "the cpu, which runs no GPU kernels",
    ),
    "output format": (["a.png", "--weights", "digits", "--output", "r.txt"], "ending in .json or"),
    "output folder": (["a.png", "--weights", "digits", "--output", "no/r.json"], "no/"),
    "output is a folder": (["a.png", "--weights", "digits", "--output", "d.json"], "is a folder"),
    "top k": (["a.png", "--weights", "digits", "--top-k", "0"], "--top-k"),
    "no weights": (["a.png"], "Missing option '--weights'"),
    "no head": (["a.png", "--weights", "headless.safetensors"], "with a dense head"),
}


@pytest.mark.parametrize(("args", "text"), BAD.values(), ids=BAD.keys())
def test_invalid_arguments_exit_with_2(
    args: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    Path("empty").mkdir()
    Path("d.json").mkdir()
    if "headless.safetensors" in args:
        from vgg_cuda.configs import Config
        from vgg_cuda.weights import he_weights

        save(he_weights(Config("x", (8, "M") * 5, ()), 0), "headless.safetensors")
    before = sorted(Path().iterdir())
    result = run("classify", *args)
    assert result.exit_code == 2, result.output
    assert text in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output
    assert sorted(Path().iterdir()) == before


@NO_GPU
def test_missing_gpu_is_explained(pictures: Path) -> None:
    result = run("classify", pictures, "--weights", "digits", "--device", "cuda")
    assert result.exit_code == 2
    assert f"'cuda' is not available: {why_missing('cuda')}" in result.stderr


def test_classify_runs_as_a_process(pictures: Path, tmp_path: Path) -> None:
    """The installed command shows no progress bar without a terminal, and no warning."""
    command = [str(Path(sys.executable).parent / "vgg-cuda"), "classify", str(pictures)]
    env = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [*command, "--weights", "digits"], capture_output=True, text=True, check=False, env=env
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3
    done = subprocess.run([*command], capture_output=True, text=True, check=False)
    assert done.returncode == 2


def test_classify_loads_weights_from_a_file(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.safetensors"
    save(load_weights("digits"), path)
    by_name = run("classify", pictures, "--weights", "digits")
    by_path = run("classify", pictures, "--weights", path)
    assert by_name.stdout == by_path.stdout
