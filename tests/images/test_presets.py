"""Presets equal the recipes of their libraries, written out here in Pillow, NumPy and PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vgg_cuda.images.decode import ImageError
from vgg_cuda.images.presets import PRESETS, RESAMPLE, Preset, as_preset, get_preset
from vgg_cuda.images.resample import PANORAMA, resized_window

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FEATURES = ((0.48235, 0.45882, 0.40784), (1.0 / 255.0, 1.0 / 255.0, 1.0 / 255.0))
CAFFE_MEAN = (103.939, 116.779, 123.68)
SIZES = [(300, 260), (256, 256), (257, 999), (640, 427), (30, 20), (1, 1), (5, 223), (225, 3)]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def resize_shorter(image: Image.Image, size: int) -> Image.Image:
    """torchvision.transforms.Resize(size) on a Pillow image (_compute_resized_output_size)."""
    w, h = image.size
    short, long = (w, h) if w <= h else (h, w)
    new_short, new_long = size, int(size * long / short)
    new_w, new_h = (new_short, new_long) if w <= h else (new_long, new_short)
    return image.resize((new_w, new_h), Image.Resampling.BILINEAR)


def center_crop(pixels: np.ndarray, size: int) -> np.ndarray:
    """torchvision.transforms.functional.center_crop on [H,W,3], with its padding."""
    height, width = pixels.shape[:2]
    if size > width or size > height:
        left = (size - width) // 2 if size > width else 0
        top = (size - height) // 2 if size > height else 0
        right = (size - width + 1) // 2 if size > width else 0
        bottom = (size - height + 1) // 2 if size > height else 0
        pixels = np.pad(pixels, ((top, bottom), (left, right), (0, 0)))
        height, width = pixels.shape[:2]
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return pixels[top : top + size, left : left + size]


def to_tensor_normalize(pixels: np.ndarray, mean: tuple, std: tuple) -> np.ndarray:
    """ToTensor, Normalize: float32 in torch, then back to [H,W,3]."""
    x = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).to(torch.float32).div(255)
    x = x.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None])
    return x.numpy().transpose(1, 2, 0)


def torchvision_recipe(image: Image.Image, mean: tuple, std: tuple) -> np.ndarray:
    pixels = center_crop(np.asarray(resize_shorter(image, 256)), 224)
    return to_tensor_normalize(pixels, mean, std)


def caffe_mode(pixels: np.ndarray) -> np.ndarray:
    """keras.applications.imagenet_utils.preprocess_input(mode="caffe") on a NumPy array."""
    x = pixels.astype(np.float32)[..., ::-1].copy()
    for channel, mean in enumerate(CAFFE_MEAN):
        x[..., channel] -= mean
    return x


def lpips_recipe(image: Image.Image) -> np.ndarray:
    """lpips.im2tensor(image), then ScalingLayer.forward."""
    array = np.asarray(image) / (255.0 / 2.0) - 1.0
    x = torch.Tensor(array[:, :, :, np.newaxis].transpose((3, 2, 0, 1)))
    shift = torch.Tensor([-0.030, -0.088, -0.188])[None, :, None, None]
    scale = torch.Tensor([0.458, 0.448, 0.450])[None, :, None, None]
    return ((x - shift) / scale)[0].numpy().transpose(1, 2, 0)


def keras_recipe(image: Image.Image) -> np.ndarray:
    return caffe_mode(np.asarray(image.resize((224, 224), Image.Resampling.NEAREST)))


def loaded(image: Image.Image) -> np.ndarray:
    """keras.utils.load_img(target_size=(224, 224)), as float32."""
    return np.asarray(image.resize((224, 224), Image.Resampling.NEAREST)).astype(np.float32)


def tf_mode(pixels: np.ndarray) -> np.ndarray:
    """keras.applications.imagenet_utils.preprocess_input(mode="tf"), rounded to float32 once."""
    return (pixels.astype(np.float64) / 127.5 - 1).astype(np.float32)


RECIPES = {
    "torchvision": lambda image: torchvision_recipe(image, *IMAGENET),
    "timm": lambda image: torchvision_recipe(image, *IMAGENET),  # floor(224 / 0.875) is 256
    "keras": keras_recipe,
    "caffe": lambda image: caffe_mode(center_crop(np.asarray(resize_shorter(image, 256)), 224)),
    "features": lambda image: torchvision_recipe(image, *FEATURES),
    "lpips": lpips_recipe,
    "unit": lambda image: loaded(image) / np.float32(255),
    "tf": lambda image: tf_mode(loaded(image)),
    "pixels": loaded,
}


def test_every_preset_has_a_recipe() -> None:
    assert PRESETS.keys() == RECIPES.keys()
    assert all(preset.name == name for name, preset in PRESETS.items())


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
@pytest.mark.parametrize("name", RECIPES)
def test_presets_equal_their_recipes(name: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    got = PRESETS[name](image)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, RECIPES[name](image))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(RECIPES)),
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    seed=st.integers(0, 9),
)
def test_presets_equal_their_recipes_at_any_size(
    name: str, width: int, height: int, seed: int
) -> None:
    image = picture(width, height, seed)
    np.testing.assert_array_equal(PRESETS[name](image), RECIPES[name](image))


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 40), height=st.integers(1, 40), crop=st.integers(1, 40))
def test_crops_pad_as_torchvision_does(width: int, height: int, crop: int) -> None:
    preset = Preset("crop", None, crop, divisor=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    image = picture(width, height)
    np.testing.assert_array_equal(preset(image), center_crop(np.asarray(image), crop))


@settings(max_examples=150, deadline=None)
@given(data=st.data(), resample=st.sampled_from(RESAMPLE), mode=st.sampled_from(["RGB", "F"]))
def test_resized_window_is_bit_identical_to_pillow(
    data: st.DataObject, resample: str, mode: str
) -> None:
    source, size = (
        (data.draw(st.integers(1, 60)), data.draw(st.integers(1, 200))) for _ in range(2)
    )
    box = [sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2))) for n in size]
    (left, right), (top, bottom) = (
        (a, b) if a < b else (0, n) for (a, b), n in zip(box, size, strict=True)
    )
    image = picture(*source)
    if mode == "F":
        image = Image.fromarray(np.asarray(image)[..., 0] / np.float32(255))
    window = (left, top, right, bottom)
    method = Image.Resampling[resample.upper()]
    expected = image.resize((size[0], source[1]), method).resize(size, method).crop(window)
    if size[1] >= source[1]:  # else Pillow may run the vertical pass first
        np.testing.assert_array_equal(expected, image.resize(size, method).crop(window))
    got = resized_window(image, size, window, resample)
    assert got.mode == mode
    if resample == "nearest":  # Pillow accumulates steps; a window computes each position
        return
    got, expected = np.asarray(got), np.asarray(expected)
    if resample in (
        "hamming",
        "lanczos",
    ):  # NumPy's sine and the C library's differ in the last bit
        assert np.abs(got.astype(float) - expected).max() <= (1e-6 if mode == "F" else 1)
    else:
        np.testing.assert_array_equal(got, expected)


PANORAMAS = [(700, 3), (3, 700), (999, 7), (5, 1001), (13000, 200), (201, 13001), (60, 1), (1, 99)]


@pytest.mark.parametrize("size", PANORAMAS, ids=lambda size: "{}x{}".format(*size))
def test_panoramas_equal_the_recipe(size: tuple[int, int]) -> None:
    image = picture(*size)
    assert (
        256 * 256 * max(size) // min(size) > PANORAMA * 224**2
    )  # takes the path of resized_window
    x = torchvision_recipe(image, *IMAGENET)
    np.testing.assert_array_equal(PRESETS["torchvision"](image), x)


MEMORY = """
import json, resource, sys
import numpy as np
from PIL import Image
from vgg_cuda.images.presets import PRESETS
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def grown(size, array=False):
    pixels = np.zeros((size[1], size[0], 3), np.float32 if array else np.uint8)
    before = peak()
    PRESETS["torchvision"](pixels if array else Image.fromarray(pixels))
    return (peak() - before) / 1024
sizes = json.loads(sys.argv[1])
for size in ([300, 300], *sizes):
    print(size, grown(size), grown(size, True))
"""


def test_panoramas_need_little_memory(tmp_path: Path) -> None:
    sizes = [(2000, 3), (20000, 3), (3, 20000), (60000, 2), (1, 30000), (65000, 1)]
    command = [sys.executable, "-c", MEMORY, json.dumps(sizes)]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()[1:]  # the first size includes the imports
    grown = [float(part) for line in lines for part in line.split("]")[1].split()]
    assert len(grown) == 2 * len(sizes)
    assert max(grown) < 40, f"growth of peak memory in MiB: {done.stdout}"


def test_panorama_without_a_crop_is_refused() -> None:
    preset = Preset("no-crop", 256, None)
    with pytest.raises(ImageError, match=r"got 1706666 x 256 from 20000 x 3: .* no crop"):
        preset(picture(20000, 3))


def test_preset_orders_channels_and_sizes() -> None:
    image = picture(30, 20)
    preset = Preset("x", (24, 40), None, "nearest", "BGR", 1.0, (1.0, 2.0, 3.0), (1.0, 1.0, 2.0))
    x = preset(image)
    assert x.shape == (24, 40, 3)
    pixels = np.asarray(image.resize((40, 24), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(x[..., 2], (pixels[..., 0] - 3.0) / 2)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    values = json.loads(json.dumps(PRESETS[name].to_dict()))
    assert ("center" in values) == (name in ("lpips", "tf"))  # older files have no center
    assert Preset.from_dict(values) == PRESETS[name]


def test_unknown_presets_list_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="expected one of torchvision, timm, keras, caffe"):
        get_preset("tensorflow")


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("torchvision", (64, 64), (73, 64)),
        ("torchvision", (64, 96), ((64, 96), None)),
        ("torchvision", None, (256, 224)),
        ("unit", (64, 96), ((64, 96), None)),
        ("lpips", (64, 64), (None, None)),
    ],
)
def test_named_presets_adapt_to_a_size(name: str, size: Any, expected: Any) -> None:
    preset = as_preset(name, size)
    assert (preset.resize, preset.crop) == expected
    assert preset == replace(PRESETS[name], resize=preset.resize, crop=preset.crop)


def test_crops_may_be_oblong() -> None:
    image = picture(60, 50)
    x = Preset("x", 40, (30, 44), divisor=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)(image)
    assert x.shape == (30, 44, 3)
    whole = np.asarray(resize_shorter(image, 40))
    np.testing.assert_array_equal(x, whole[5:35, 2:46])
