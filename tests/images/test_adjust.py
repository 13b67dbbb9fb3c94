"""Presets adjusted by single values, presets in JSON files, and their descriptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vgg_cuda.images.adjust import Adjustments
from vgg_cuda.images.presets import PRESETS, Preset, as_preset

TORCHVISION = PRESETS["torchvision"]
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def adjusted(preset: Preset = TORCHVISION, **values: Any) -> Preset:
    return Adjustments(**values).applied(preset, (224, 224))


def test_no_adjustment_keeps_the_preset() -> None:
    assert adjusted() is TORCHVISION
    assert adjusted(channels="RGB").name == "torchvision"


@pytest.mark.parametrize("scale", [1 / 255, 1 / 127.5])
def test_scale_resets_mean_and_std(scale: float) -> None:
    preset = adjusted(scale=scale, size=(8, 8), resize="squash")
    pixels = np.asarray(IMAGE.resize((8, 8), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(preset(IMAGE), pixels * np.float32(scale), rtol=1e-6)


def test_mean_and_std_are_of_scaled_pixels() -> None:
    preset = adjusted(mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5), size=(8, 8), resize="squash")
    pixels = np.asarray(IMAGE.resize((8, 8), Image.Resampling.BILINEAR), np.float32)
    expected = (pixels / 255 - np.float32([0.1, 0.2, 0.3])) / 0.5
    np.testing.assert_allclose(preset(IMAGE), expected, rtol=1e-5, atol=1e-6)


def test_channels_take_mean_and_std_along() -> None:
    np.testing.assert_array_equal(adjusted(channels="BGR")(IMAGE), TORCHVISION(IMAGE)[..., ::-1])


@pytest.mark.parametrize(
    ("values", "resize", "crop"),
    [
        ({"size": (64, 64)}, 73, 64),
        ({"size": (64, 64), "resize": "squash"}, (64, 64), None),
        ({"size": (64, 96), "resize": "squash"}, (64, 96), None),
        ({"size": (64, 64), "resize": "shorter"}, 64, 64),
        ({"size": (64, 96), "resize": "shorter"}, 96, (64, 96)),
        ({"resize_to": 300}, 300, 224),
        ({"resize": "crop"}, None, 224),
    ],
)
def test_kinds_of_resizing(values: dict[str, Any], resize: Any, crop: Any) -> None:
    preset = adjusted(**values)
    assert (preset.resize, preset.crop) == (resize, crop)
    assert preset(IMAGE).shape[:2] == values.get("size", (224, 224))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"mean": (124.0, 117.0, 104.0)},
            r"mean: .* from 0 to 1, .*; scale is 0.003",
        ),
        ({"std": (1.0, 1.0)}, "std: expected one number or three, got 2"),
        ({"std": (1.0, 0.0, 1.0)}, "std: expected 3 numbers, none of them 0"),
        ({"scale": 0.0}, "scale: expected a number other than 0"),
        ({"resize": "stretch"}, "resize: expected squash, shorter, crop, got 'stretch'"),
        ({"resize": "squash", "resize_to": 9}, "resize_to: expected resize 'shorter' with it"),
        ({"size": (0, 5)}, "resize: expected sizes from 1"),
        ({"channels": "GBR"}, "channels: expected RGB or BGR, got 'GBR'"),
    ],
)
def test_bad_adjustments_name_the_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adjusted(**values)


TIMM = {
    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "input_size": [3, 224, 224],
    "crop_pct": 0.875, "interpolation": "bilinear", "crop_mode": "center",
}  # fmt: skip


def test_presets_are_read_from_json(tmp_path: Path) -> None:
    own, timm = tmp_path / "mine.json", tmp_path / "config.json"
    own.write_text(json.dumps({"resize": [8, 8], "crop": None, "mean": [0, 0, 0]}))
    preset = as_preset(str(own))
    assert (preset.name, preset.size, preset.mean) == ("mine", (8, 8), (0, 0, 0))
    own.write_text(json.dumps({"mean": [0, 0, 0]}))
    assert as_preset(str(own), (64, 64)).size == (64, 64)
    timm.write_text(json.dumps({"architecture": "vgg16", "pretrained_cfg": TIMM}))
    assert as_preset(str(timm)) == PRESETS["timm"]


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{", "[" * 99999, '{"colour": 1}', '{"mean": [1, 2]}', '{"pretrained_cfg": 3}',
        json.dumps({"pretrained_cfg": TIMM | {"crop_mode": "border"}}),
        json.dumps({"pretrained_cfg": TIMM | {"crop_pct": 0}}),
        json.dumps({"pretrained_cfg": TIMM | {"interpolation": "random"}}),
        json.dumps({"pretrained_cfg": {"std": [1, 1, 1]}}),
    ],
)  # fmt: skip
def test_bad_preset_files_are_reported(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"^preset: .*p\.json: ") as caught:
        as_preset(str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="preset: no such file"):
        as_preset(str(tmp_path / "gone.json"))


@pytest.mark.parametrize(
    ("name", "size", "values"),
    [
        (
            "torchvision", "shorter side resized to 256 (bilinear), centre crop 224x224",
            "RGB, pixels / 255 - (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225)",
        ),
        ("keras", "resized to 224x224 (nearest)", "BGR, pixels - (103.939, 116.779, 123.68)"),
        ("tf", "resized to 224x224 (nearest)", "RGB, pixels / 127.5 - 1"),
        ("pixels", "resized to 224x224 (nearest)", "RGB, pixels from 0 to 255"),
        (
            "lpips", "images keep their size",
            "RGB, pixels / 127.5 - 1 - (-0.03, -0.088, -0.188), divided by (0.458, 0.448, 0.45)",
        ),
    ],
)  # fmt: skip
def test_descriptions_state_every_step(name: str, size: str, values: str) -> None:
    assert (PRESETS[name].describe_size(), PRESETS[name].describe_values()) == (size, values)
