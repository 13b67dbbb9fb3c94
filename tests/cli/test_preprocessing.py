"""Options of ``classify`` and ``features`` for preprocessing, and the notice of assumptions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vgg_cuda import VGG
from vgg_cuda.cli.main import app
from vgg_cuda.configs import Config
from vgg_cuda.images.presets import PRESETS, Preset
from vgg_cuda.weights import he_weights, save

CONFIG = Config("net", (4, "M", 8, "M"), (3,), pooling="none", input_size=(24, 32))
UNSTATED = replace(
    he_weights(CONFIG, 0),
    preset=replace(PRESETS["unit"], resize=(24, 32)),
    labels=("a", "b", "c"),
    preset_stated=False,
)
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def run(*args: object):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    save(UNSTATED, weights := tmp_path / "net.safetensors")
    Image.fromarray(PIXELS).save(image := tmp_path / "p.png")
    return weights, image


def expected(preset: Preset) -> list[float]:
    x = preset(Image.fromarray(PIXELS))
    return VGG(UNSTATED, device="cpu").probabilities(x[None])[0].tolist()  # type: ignore[no-any-return]


def classified(files: tuple[Path, Path], *options: object) -> tuple[list[float], str]:
    weights, image = files
    out = weights.with_suffix(".json")
    result = run("classify", image, "--weights", weights, "--output", out, *options)
    assert result.exit_code == 0, result.output
    (record,) = json.loads(out.read_text())
    found = {p["index"]: p["probability"] for p in record["predictions"]}
    return [found[i] for i in range(3)], result.stderr


def test_assumptions_are_printed_on_one_line(files: tuple[Path, Path]) -> None:
    found, printed = classified(files)
    np.testing.assert_allclose(found, expected(UNSTATED.preset), rtol=1e-6)
    (line,) = (line for line in printed.splitlines() if "assumed" in line)
    start = "assumed preprocessing: resized to 24x32 (nearest); RGB, pixels / 255 (preset unit); "
    assert line.startswith(f"{start}change it with --preset, ")
    assert line.endswith(f"vgg-cuda convert {files[0]} NEW --preset unit")
    out = files[0].with_suffix(".npz")
    options = ("--weights", files[0], "--layers", "fc6", "--output", out)
    assert line in run("features", files[1], *options).stderr.splitlines()
    assert "assumed" not in run("classify", files[1], "--weights", "digits").stderr


CASES = {
    "name": (["--preset", "tf"], replace(PRESETS["tf"], resize=(24, 32)), ""),
    "values": (
        ["--scale", "1/127.5", "--mean", "1", "--std", "0.5,1,2"],
        replace(UNSTATED.preset, divisor=127.5, mean=(1.0,) * 3, std=(0.5, 1.0, 2.0)),
        "assumed preprocessing: resized to 24x32 (nearest); change",
    ),
    "resizing": (
        ["--resize", "shorter", "--resize-to", "40", "--channels", "bgr"],
        replace(UNSTATED.preset, resize=40, crop=(24, 32), channels="BGR"),
        "assumed preprocessing: BGR, pixels / 255; change",
    ),
    "all": (
        ["--scale", "1", "--resize", "crop", "--size", "24x32"],
        replace(UNSTATED.preset, resize=None, crop=(24, 32), divisor=1.0),
        "",
    ),
}


@pytest.mark.parametrize(("options", "preset", "notice"), CASES.values(), ids=CASES)
def test_options_change_the_preset(
    files: tuple[Path, Path], options: list[str], preset: Preset, notice: str
) -> None:
    found, printed = classified(files, *options)
    np.testing.assert_allclose(found, expected(preset), rtol=1e-5)
    assert notice in printed
    assert bool(notice) == ("assumed" in printed)


def test_presets_and_labels_are_written_into_files(files: tuple[Path, Path]) -> None:
    weights, image = files
    (names := weights.with_name("names.txt")).write_text("cat\ndog\neel\n")
    new = weights.with_name("new.safetensors")
    options = ("--preset", "tf", "--labels", names)
    assert run("convert", weights, new, *options).exit_code == 0
    found, printed = classified((new, image))
    np.testing.assert_allclose(found, expected(CASES["name"][1]), rtol=1e-5)
    assert "assumed" not in printed
    assert "cat" in run("classify", image, "--weights", new).stdout
    assert "eel" in run("classify", image, "--weights", weights, "--labels", names).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "unknown"], "preset: expected one of torchvision"),
        (["--preset", "gone.json"], "preset: no such file"),
        (["--mean", "1,2"], "--mean: expected one number or 3"),
        (["--mean", "104,117,124"], "--mean: expected numbers from 0 to 1, the range of scaled"),
        (["--scale", "1/0"], "--scale: expected a number"),
        (["--size", "big"], "--size: expected pixels such as 224"),
        (["--resize", "stretch"], "--resize: expected squash, shorter, crop"),
        (["--channels", "rgba"], "channels: expected RGB or BGR"),
        (["--labels", "gone.txt"], "labels: no such file"),
    ],
)
def test_bad_options_are_reported(
    files: tuple[Path, Path], options: list[str], message: str
) -> None:
    result = run("classify", files[1], "--weights", files[0], *options)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_normalizing_twice_is_reported(files: tuple[Path, Path]) -> None:
    weights, image = files
    stated = replace(UNSTATED, preset=replace(PRESETS["pixels"], resize=(24, 32)))
    save(replace(stated, preset_stated=True), weights)
    printed = run("classify", image, "--weights", weights, "--preset", "tf").stderr
    assert "takes pixels from 0 to 255, which it normalizes itself; preset 'tf'" in printed
    for options in ([], ["--preset", "pixels"], ["--size", "24x32", "--resize", "crop"]):
        assert run("classify", image, "--weights", weights, *options).stderr == ""
