"""Statements of weights about preprocessing and classes, and what users state instead."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from vgg_cuda import VGG, AssumedWarning
from vgg_cuda.configs import Config
from vgg_cuda.images.normalization import Normalization
from vgg_cuda.images.presets import PRESETS
from vgg_cuda.system import notices
from vgg_cuda.weights import WeightsError, he_weights, load_weights, save, save_torchvision
from vgg_cuda.weights.convert import convert
from vgg_cuda.weights.labels import read_labels
from vgg_cuda.weights.metadata import KEY, to_metadata
from vgg_cuda.weights.torchvision import to_state_dict

CONFIG = Config("net", (4, "M", 4, "M", 8, "M", 8, "M", 8, "M"), (5, 3))
WEIGHTS = replace(he_weights(CONFIG, 0), preset_stated=False)
NAMES = ("cat", "dog", "eel")
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.fixture
def unstated(tmp_path: Path) -> Path:
    pytest.importorskip("torch")
    save_torchvision(WEIGHTS, path := tmp_path / "net.pth")
    return path


def test_assumed_presets_warn_once_in_python(unstated: Path) -> None:
    notices.forget()
    model = VGG.load(unstated, device="cpu")
    assert not model.preset_stated
    with pytest.warns(AssumedWarning, match="assumed preprocessing: shorter side .*classify") as w:
        model.classify(IMAGE)
    assert w[0].filename == __file__
    model.classify(IMAGE)
    model(IMAGE[None, :32, :32])
    notices.forget()
    with pytest.warns(AssumedWarning):
        model(IMAGE[None, :32, :32])
    stated = VGG.load(unstated, device="cpu", preset="tf", labels=NAMES)
    assert (stated.preset, stated.preset_stated) == (PRESETS["tf"], True)
    assert stated.classify(IMAGE)[0][0].label in NAMES
    model.classify(IMAGE, preset="unit")


def test_assumptions_survive_conversion(unstated: Path, tmp_path: Path) -> None:
    names = {"native": "a.safetensors", "torchvision": "b.safetensors", "onnx": "c.onnx"}
    for to, name in names.items():
        if to == "onnx":
            pytest.importorskip("onnx")
        convert(unstated, tmp_path / name, to)
        assert not load_weights(tmp_path / name).preset_stated
        convert(unstated, tmp_path / name, to, preset="tf", labels=NAMES)
        found = load_weights(tmp_path / name)
        assert (found.preset, found.preset_stated, found.labels) == (PRESETS["tf"], True, NAMES)
    with pytest.raises(ValueError, match=r"x\.pth: .* holds no preset"):
        convert(unstated, tmp_path / "x.pth", "torchvision", preset="tf")


def test_natural_size_is_one_rule() -> None:
    sized = Config("net", (4, "M"), (3,), pooling="none", input_size=(64, 96))
    assert he_weights(sized, 0).natural_size == (64, 96)
    assert load_weights("digits").natural_size == (32, 32)
    assert replace(WEIGHTS, preset=PRESETS["lpips"]).natural_size == (224, 224)
    small = replace(PRESETS["unit"], resize=(16, 16))
    assert replace(WEIGHTS, preset=small).natural_size == (224, 224)  # the network needs 32
    assert "32x32x3" in VGG.load("digits", device="cpu").summary()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.txt", "cat\ndog\neel\n"),
        ("l.json", json.dumps(NAMES)),
        ("l.json", json.dumps({"0": "cat", "1": "dog", "2": "eel"})),
        ("l.json", json.dumps({"eel": 2, "cat": 0, "dog": 1})),
        ("l.json", json.dumps({str(i): [f"n{i}", name] for i, name in enumerate(NAMES)})),
    ],
)
def test_labels_are_read(tmp_path: Path, name: str, content: str) -> None:
    (path := tmp_path / name).write_text(content)
    assert read_labels(path) == NAMES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "utf-8"),
        (b"{", "Expecting"),
        (b"3", "expected a list of names"),
        (b"[1, 2]", "every name to be a string"),
        (b'{"a": 0, "b": 2}', "indices 0 to 1"),
        (b"[" * 99999, "nested"),
    ],
)
def test_bad_label_files_are_reported(tmp_path: Path, content: bytes, message: str) -> None:
    (path := tmp_path / "l.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^labels: .*l\.json: .*{message}"):
        read_labels(path)


def test_wrong_number_of_labels_is_reported(tmp_path: Path) -> None:
    save(WEIGHTS, path := tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="labels: expected 3 names, one per class, got 2"):
        VGG.load(path, device="cpu", labels=["a", "b"])
    with pytest.raises(FileNotFoundError, match="labels: no such file"):
        VGG.load(path, device="cpu", labels=tmp_path / "gone.txt")


OWN = Normalization((0.5, 1.0, 2.0), (0.1, -0.2, 0.3), reverse=True)


def test_input_layers_are_kept_in_files(tmp_path: Path) -> None:
    weights = replace(WEIGHTS, normalization=OWN)
    save(weights, tmp_path / "w.safetensors")
    save_torchvision(weights, tmp_path / "t.safetensors")
    for name in ("w", "t"):
        assert load_weights(tmp_path / f"{name}.safetensors").normalization == OWN
    with pytest.raises(WeightsError, match="without input layers"):
        save_torchvision(weights, tmp_path / "t.pth")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": [1, 1, 0]}, "scales other than 0"),
        ({"scale": [1, 1]}, "a finite scale and offset per channel"),
        ({"offset": ["a", 1, 1]}, r"normalization.offset\[0\]: expected `float`"),
        ({"scale": [1] * 4, "offset": [0] * 4}, "expected 3 channels, got 4"),
        ({"reverse": 2}, "normalization.reverse: expected `bool`"),
    ],
)
def test_bad_input_layers_in_a_header(
    tmp_path: Path, values: dict[str, object], message: str
) -> None:
    weights = replace(WEIGHTS, normalization=OWN)
    stated = json.loads(to_metadata(weights)[KEY])
    stated["normalization"] |= values
    save_file(weights.tensors, path := tmp_path / "w.safetensors", {KEY: json.dumps(stated)})
    with pytest.raises(WeightsError, match=message):
        load_weights(path)


def test_pixels_equal_preset_then_input_layers() -> None:
    model = VGG(replace(WEIGHTS, normalization=OWN, preset_stated=True), device="cpu")
    pixels = IMAGE[None, :32, :32]
    x = model.preset.normalize(pixels)
    np.testing.assert_allclose(model(pixels), model(x), rtol=1e-4, atol=1e-5)
    plain = VGG(WEIGHTS, device="cpu")
    expected = x[..., ::-1] * np.float32(OWN.scale) + np.float32(OWN.offset)
    np.testing.assert_allclose(model(x), plain(expected), rtol=1e-4, atol=1e-5)


def test_config_of_timm_beside_the_weights(tmp_path: Path) -> None:
    tensors = dict(to_state_dict(WEIGHTS))
    save_file(tensors, tmp_path / "model.safetensors")
    save_file(tensors, tmp_path / "other.safetensors")
    config = tmp_path / "config.json"
    cfg = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 64, 64], "crop_pct": 0.9}
    config.write_text(json.dumps({"architecture": "vgg11", "pretrained_cfg": cfg}))
    found = load_weights(tmp_path / "model.safetensors")
    assert found.preset_stated
    assert (found.preset.resize, found.preset.crop, found.preset.mean) == (71, 64, (0.5,) * 3)
    assert not load_weights(tmp_path / "other.safetensors").preset_stated
    for other in ("{}", "[", json.dumps({"model_type": "bert"})):
        config.write_text(other)
        assert not load_weights(tmp_path / "model.safetensors").preset_stated
    config.write_text(json.dumps({"pretrained_cfg": cfg | {"crop_mode": "border"}}))
    with pytest.raises(WeightsError, match=r"config.json: .*crop_mode 'center'"):
        load_weights(tmp_path / "model.safetensors")
