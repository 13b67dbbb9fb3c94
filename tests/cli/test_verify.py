"""The command ``vgg-cuda verify``: its output, exit status and errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.verify_cases import DEVICES_AND_DTYPES, Altered, changed, pixels
from typer.testing import CliRunner

import vgg_cuda
from vgg_cuda import _C, VGG
from vgg_cuda.cli.main import app
from vgg_cuda.weights import Weights, load_weights, save

RUNNER = CliRunner()


def run(*args: object) -> Any:
    return RUNNER.invoke(app, ["verify", *(str(arg) for arg in args)])


def test_command_passes_correct_network() -> None:
    result = run("--device", "cpu")
    assert result.exit_code == 0, result.output
    first, *_, last = result.stdout.splitlines()
    assert first == "digits: float32 on cpu; 1 image of 32x32, float32"
    assert last == "all 15 layers are within their bounds"
    result = run("--device", "cpu", "--size", 40, "--batch", 3, "--uint8")
    assert result.stdout.splitlines()[0].endswith("3 images of 40x40, uint8")


@pytest.mark.parametrize(("device", "dtype"), DEVICES_AND_DTYPES)
def test_command_json_fields(device: str, dtype: str) -> None:
    result = run("--device", device, "--dtype", dtype, "--json", "--seed", 7)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout, parse_constant=pytest.fail)
    assert found["vgg_cuda"] == vgg_cuda.__version__
    assert found["commit"] == _C.commit()
    expected = {
        "device": device, "dtype": dtype, "seed": 7, "first_bad": None, "verdict": "ok",
        "arch": None if device == "cpu" else "sm_80", "images": 1, "sizes": [[32, 32]],
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert len(found["layers"]) == 15
    for layer in found["layers"]:
        assert layer.keys() == {
            "layer", "shape", "kernels", "relative_l2", "since_input", "of_bound", "worst",
            "counts", "verdict",
        }  # fmt: skip
        assert layer["worst"].keys() == {"index", "got", "expected", "bound"}
        assert len(layer["worst"]["index"]) == len(layer["shape"])


def test_command_exits_with_1_for_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    import vgg_cuda.cli.verify as command

    def faulty(weights: Weights, **where: Any) -> VGG:
        conv = weights.tensors["conv3_2.weight"].copy()
        conv[3, 0, 0, 0] += 1
        return VGG(changed(weights, conv3_2_weight=conv), **where)

    monkeypatch.setattr(command, "VGG", faulty)
    result = run("--device", "cpu")
    assert result.exit_code == 1
    assert "first bad layer: conv3_2 relu3_2 pool3: " in result.stdout.splitlines()[-1]
    assert " elements are beyond what rounding explains; the worst at [0, " in result.stdout
    result = run("--device", "cpu", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["first_bad"], found["verdict"]) == ("conv3_2 relu3_2 pool3", "wrong")

    def lost(weights: Weights, **where: Any) -> Any:
        def alter(y: np.ndarray) -> None:
            y[...] = np.nan

        return Altered(VGG(weights, **where), relu1_1=alter)

    monkeypatch.setattr(command, "VGG", lost)
    found = json.loads(run("--device", "cpu", "--json").stdout, parse_constant=pytest.fail)
    assert found["verdict"] == "not finite"
    first = found["layers"][0]
    assert first["worst"]["got"] == first["relative_l2"] == "nan"
    assert first["of_bound"] == "inf"


@pytest.mark.emulator
def test_command_takes_arch() -> None:
    result = run("--device", "emulator", "--arch", "sm_90", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["arch"] == "sm_90"


def test_command_takes_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for i, (h, w) in enumerate([(40, 50), (33, 90), (64, 64)]):
        Image.fromarray(pixels(1, h, w, i)[0]).save(f"{i}.png")
    for options in ((), ("--uint8",)):
        result = run(*options, "--device", "cpu", "--batch", 2, "0.png", ".")
        assert result.exit_code == 0, result.output
        assert "4 images of 32x32" in result.stdout
    # this preset keeps sizes, so each batch has images of one size
    weights = replace(load_weights("digits"), preset=vgg_cuda.PRESETS["lpips"])
    save(weights, "keeps.safetensors")
    for options in ((), ("--uint8",)):
        result = run(*options, "--device", "cpu", "--weights", "keeps.safetensors", ".")
        assert result.exit_code == 0, result.output
        assert "3 images of 40x50, 33x90, 64x64" in result.stdout


def test_command_names_too_large_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (3000, 1)).save("long.png")
    weights = load_weights("digits")
    preset = replace(weights.preset, resize=8192, crop=None)
    save(replace(weights, preset=preset), "large.safetensors")
    result = run("--device", "cpu", "--weights", "large.safetensors", "long.png")
    assert result.exit_code == 2, result.output
    assert "long.png: expected at most" in result.stderr


MISTAKES: dict[str, tuple[list[str], str]] = {
    "device": (["--device", "tpu"], "got 'tpu'"),
    "dtype": (
        ["--device", "cpu", "--dtype", "float16"],
        "expected float32 on cpu, got 'float16'",
    ),
    "arch on the CPU": (
        ["--device", "cpu", "--arch", "sm_80"],
        "arch: expected None on the cpu",
    ),
    "network": (["--network", "vgg15"], "expected one of vgg11, vgg13, vgg16, vgg19"),
    "both": (["--network", "vgg11", "--weights", "digits"], "expected one of them, got both"),
    "size": (["--size", "31"], "--size: expected H and W >= 32"),
    "size of images": (["--size", "40", "a.png"], "--size: expected none for images"),
    "no image": (["bad.png"], "bad.png: expected an image"),
    "no file": (["gone.png"], "no such file or folder: 'gone.png'"),
    "weights": (["--weights", "gone"], "expected the path of a weights file, 'digits'"),
    "seed": (["--seed", "-1"], "--seed"),
    "batch size": (["--batch", "0"], "--batch"),
}


@pytest.mark.parametrize(("args", "text"), MISTAKES.values(), ids=MISTAKES.keys())
def test_command_exits_with_2_for_bad_arguments(
    args: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 40)).save("a.png")
    Path("bad.png").write_text("text")
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert text in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output
