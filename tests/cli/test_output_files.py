"""Files that the command line reads and writes: images, features, weights, partial files."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner

from vgg_cuda import VGG, __version__
from vgg_cuda.cli.batch_jobs import FeatureSink
from vgg_cuda.cli.main import app
from vgg_cuda.configs import Config
from vgg_cuda.images.batches import open_image
from vgg_cuda.images.presets import PRESETS
from vgg_cuda.weights import he_weights, load_weights, save

RUNNER = CliRunner()
COMMAND = str(Path(sys.executable).parent / "vgg-cuda")


def run(*args: object):  # type: ignore[no-untyped-def]
    return RUNNER.invoke(app, [str(arg) for arg in args])


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (9, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return [
        picture(tmp_path / "in" / name, i) for i, name in enumerate(["a.png", "b.bmp", "c.gif"])
    ]


def test_every_bad_path_is_named(tmp_path: Path, pictures: list[Path]) -> None:
    (tmp_path / "empty").mkdir()
    bad = [tmp_path / "gone.png", tmp_path / "*.xyz", tmp_path / "empty"]
    result = run("classify", pictures[0], *bad, "--weights", "digits")
    assert result.exit_code == 2
    assert result.stdout == ""
    for path in bad:
        assert str(path) in result.stderr


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_features_equal_the_model(tmp_path: Path, pictures: list[Path], suffix: str) -> None:
    out = tmp_path / f"f{suffix}"
    options = ("--weights", "digits", "--layers", "relu3_2, fc1,bn1_1", "--batch", 2)
    result = run("features", *pictures, *options, "--output", out)
    assert result.exit_code == 0, result.output
    model = VGG.load("digits", device="cpu")
    x = np.stack([model.preset(open_image(path)) for path in pictures])
    expected = model.features(x, ["relu3_2", "fc1", "bn1_1"])
    if suffix == ".npz":
        with np.load(out) as file:  # np.load refuses pickles
            found = {name: file[name] for name in file.files}
        paths = list(found.pop("paths"))
    else:
        with safe_open(out, framework="numpy") as file:
            paths = json.loads(file.metadata()["paths"])
            found = {name: file.get_tensor(name) for name in expected}
    assert paths == [str(path) for path in pictures]
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == [out.name, "in"]


def test_features_skip_broken_images(tmp_path: Path, pictures: list[Path]) -> None:
    (tmp_path / "in" / "zero.png").touch()
    out = tmp_path / "f.npz"
    options = ("--weights", "digits", "--layers", "pool5", "--output", out)
    result = run("features", tmp_path / "in", *options)
    assert result.exit_code == 3
    assert "zero.png" in result.stderr
    with np.load(out) as file:
        assert file["pool5"].shape == (3, 1, 1, 64)
        assert len(file["paths"]) == 3
    out.unlink()
    assert run("features", tmp_path / "in", *options, "--strict").exit_code == 2
    assert not out.exists()


def test_features_of_different_sizes_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png", size=(40, 40))
    picture(tmp_path / "in" / "b.png", size=(40, 48))
    options = ("--weights", "digits", "--layers", "relu1_1", "--preset", "lpips")
    result = run("features", tmp_path / "in", *options, "--output", tmp_path / "f.npz")
    assert result.exit_code == 2
    assert "preset that crops" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


BAD = {
    "layer": (["--layers", "relu9_9", "--output", "f.npz"], "has no layer 'relu9_9'"),
    "no layers": (["--layers", " , ", "--output", "f.npz"], "expected at least one name"),
    "format": (["--layers", "pool5", "--output", "f.txt"], "ending in .npz or .safetensors"),
    "folder": (["--layers", "pool5", "--output", "no/f.npz"], "no/"),
    "preset": (
        ["--layers", "pool5", "--output", "f.npz", "--preset", "inception"],
        "expected one of torchvision",
    ),
}


@pytest.mark.parametrize(("args", "text"), BAD.values(), ids=BAD.keys())
def test_features_mistakes_exit_with_2(
    args: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(Path("a.png"))
    result = run("features", "a.png", "--weights", "digits", *args)
    assert result.exit_code == 2, result.output
    assert text in result.stderr
    assert [p.name for p in Path().iterdir()] == ["a.png"]


def test_convert_round_trips(tmp_path: Path) -> None:
    there, back = tmp_path / "tv.safetensors", tmp_path / "native.safetensors"
    assert run("convert", "digits", there, "--to", "torchvision").exit_code == 0
    assert run("convert", there, back).exit_code == 0
    original, again = load_weights("digits"), load_weights(back)
    for name, tensor in original.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], tensor)
    back.unlink()
    unwritable = tmp_path / "no" / "native.safetensors"
    result = run("convert", "digits", unwritable)
    assert result.exit_code == 2
    assert str(unwritable.parent) in result.stderr
    for args in (["gone.safetensors", back], ["digits", tmp_path], ["digits", back, "--to", "x"]):
        result = run("convert", *args)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == [there]


def test_empty_sink_writes_empty_arrays(tmp_path: Path) -> None:
    sink = FeatureSink(["pool5"], tmp_path)
    sink.write(tmp_path / "f.npz", ".npz")
    sink.close()
    with np.load(tmp_path / "f.npz") as file:
        assert len(file["pool5"]) == len(file["paths"]) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["interrupt", "terminate"])
@pytest.mark.parametrize(
    ("sign_of_life", "delay"),
    [(".*.part", 0.0), (".*.part", 0.1), (".features.*/relu1_1", 0.0)],
    ids=["at-once", "in-an-import", "computing"],
)
def test_interrupted_run_leaves_no_partial_file(
    tmp_path: Path, number: signal.Signals, sign_of_life: str, delay: float
) -> None:
    for i in range(20):
        picture(tmp_path / "in" / f"{i}.png", i)
    options = ("--weights", "digits", "--batch", "1", "--layers", "relu1_1")
    # 20,000 images: the run must not end before the signal
    command = [COMMAND, "features", *[str(tmp_path / "in")] * 1000, *options]
    command += ["--output", str(tmp_path / "f.npz")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(sign_of_life)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    assert "Traceback" not in stderr


def test_classify_reads_unusual_formats(tmp_path: Path) -> None:
    """A dozen unusual images are classified, three broken ones named; the exit code is 3."""
    folder = tmp_path / "in"
    folder.mkdir()
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    grey16 = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("L").save(folder / "grey.jpg", progressive=True)
    rgb.convert("1").save(folder / "one-bit.png")
    rgb.convert("P").save(folder / "palette.gif")
    rgb.quantize(8).save(folder / "transparent.png", transparency=0)
    rgb.convert("RGBA").save(folder / "alpha.webp")
    rgb.convert("LA").save(folder / "grey-alpha.png")
    grey16.save(folder / "grey16.png")
    grey16.save(folder / "grey16.tiff")
    rgb.save(folder / "turned.jpg", exif=exif)
    rgb.save(folder / "plain.bmp")
    rgb.save(folder / "UPPER.PPM")
    rgb.resize((2000, 3)).save(folder / "panorama.png")
    good = sorted(folder.iterdir())
    assert len(good) >= 12
    (folder / "zero.png").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.bmp").write_bytes((folder / "plain.bmp").read_bytes()[:900])
    out = tmp_path / "r.json"
    result = run("classify", folder, "--weights", "digits", "--output", out)
    assert result.exit_code == 3, result.output
    records = json.loads(out.read_text(encoding="utf-8"))
    assert sorted(r["path"] for r in records if "predictions" in r) == [str(p) for p in good]
    assert sorted(Path(r["path"]).name for r in records if "error" in r) == [
        "cut.bmp", "text.jpg", "zero.png",
    ]  # fmt: skip
    for name in ("cut.bmp", "text.jpg", "zero.png"):
        assert name in result.stderr


def test_names_and_labels_are_escaped(tmp_path: Path) -> None:
    labels = ("a\x1b]0;x\x07\nerror: b", *"123456789")
    path = tmp_path / "w.safetensors"
    save(replace(load_weights("digits"), labels=labels), path)
    picture(tmp_path / "in" / "x\x1b[31m.png")
    (tmp_path / "in" / "\x1b[32m.png").touch()
    result = run("classify", tmp_path / "in", "--weights", path, "--top-k", 10)
    assert result.exit_code == 3
    assert "\x1b" not in result.output
    assert len(result.stdout.splitlines()) == 1


def test_names_outside_utf8_are_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    try:
        picture(tmp_path / "in" / name)
    except OSError:
        pytest.skip("the file system accepts only UTF-8")
    for output in ("r.json", "r.csv", "f.npz", "f.safetensors"):
        command = ["classify"] if output.startswith("r") else ["features", "--layers", "pool5"]
        options = ("--weights", "digits", "--output", tmp_path / output)
        assert run(*command, tmp_path / "in", *options).exit_code == 0
    assert json.loads((tmp_path / "r.json").read_text())[0]["path"].endswith("\\xff.png")


def test_too_small_images_are_skipped(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "small.png")
    picture(tmp_path / "in" / "large.png", size=(40, 40))
    options = ("--weights", "digits", "--preset", "lpips")
    result = run("classify", tmp_path / "in", *options)
    assert result.exit_code == 3
    assert "small.png: after preset 'lpips': expected H and W >= 32" in result.stderr
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", ["classify a.png --weights digits", "plan vgg16", "info"])
def test_full_disk_is_reported(words: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [COMMAND, *words.split()], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: standard output: no space left on device\n"
    assert "Traceback" not in done.stderr


def test_version_is_printed() -> None:
    command = [sys.executable, "-m", "vgg_cuda", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__


def test_progress_bar_leaves_redirected_output(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    terminal, side = pty.openpty()
    command = [COMMAND, "classify", str(tmp_path / "a.png"), "--weights", "digits"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=side, text=True, check=True)
    os.close(side)
    os.close(terminal)
    assert done.stdout.startswith(str(tmp_path / "a.png"))


@pytest.fixture
def unusual(tmp_path: Path) -> dict[str, Path]:
    """Weights of a network with one input channel, and of one with a fixed input size."""
    configs = {
        "grey": Config("vgg", (8, "M"), (3,), in_channels=1, pool_grid=1),
        "small": Config("vgg", (8, "M"), (3,), pooling="none", input_size=(8, 8)),
    }
    for name, config in configs.items():
        save(he_weights(config, 0), tmp_path / f"{name}.safetensors")
    return {name: tmp_path / f"{name}.safetensors" for name in configs}


def test_networks_without_three_channels_are_refused(
    unusual: dict[str, Path], pictures: list[Path], tmp_path: Path
) -> None:
    features = ["--layers", "relu1_1", "--output", tmp_path / "f.npz"]
    for command in (["classify"], ["features", *features]):
        result = run(command[0], pictures[0], "--weights", unusual["grey"], *command[1:])
        assert result.exit_code == 2
        assert "expected a network with 3 input channels" in result.stderr


def test_images_of_a_wrong_size_are_skipped(unusual: dict[str, Path], pictures: list[Path]) -> None:
    small = ["--weights", unusual["small"]]
    assert run("classify", pictures[0], *small, "--preset", "keras").exit_code == 0
    result = run("classify", *pictures, *small, "--size", 10)
    assert "--size: expected H from 8 to 9 and W from 8 to 9" in result.stderr
    (own := pictures[0].with_name("own.json")).write_text(json.dumps(PRESETS["keras"].to_dict()))
    result = run("classify", pictures[0], *small, "--preset", own)
    assert result.exit_code == 3
    assert "after preset 'keras': expected H from 8 to 9 and W from 8 to 9" in result.stderr
    assert run("verify", *small).exit_code == 0
    assert "expected H from 8 to 9" in run("verify", *small, "--size", 10).stderr
