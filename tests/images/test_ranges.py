"""Float images, and the warning for values that do not fit a preset."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from vgg_cuda.images.decode import ImageError
from vgg_cuda.images.presets import PRESETS, Preset, RangeWarning

COUNTER = itertools.count()


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def fresh(name: str) -> Preset:
    """A preset that has not warned yet."""
    return dataclasses.replace(PRESETS[name], name=f"{name}-{next(COUNTER)}")


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("size", [(300, 260), (20, 30), (3, 700)], ids=str)
def test_float_images_equal_8_bit_images(name: str, size: tuple[int, int]) -> None:
    preset = fresh(name)
    image = picture(*size)
    floats = np.asarray(image) / preset.divisor - preset.center  # in pixel_range
    kept = floats.copy()
    level = 1 / preset.divisor / min(preset.std)  # one grey level in the network's input
    expected = preset(image)
    for dtype, slack in (("f8", 1e-3), ("f4", 1e-3), ("f2", 0.5)):
        got = preset(floats.astype(dtype))
        assert (got.dtype, got.shape) == (np.float32, expected.shape)
        # The 8-bit path rounds once per pass; the float path does not round.
        bound = 1.001 if preset.resample == "bilinear" and preset.resize else 0
        assert np.abs(got - expected).max() <= (bound + slack) * level
    np.testing.assert_array_equal(floats, kept)


@pytest.mark.parametrize(
    ("name", "low", "high", "text"),
    [
        ("torchvision", 0, 255, r"0 to 1 .*got 0 to 255.*pixels in \[0, 255\]"),
        ("torchvision", -1, 1, "0 to 1 .*got -1 to 1"),
        ("features", 0, 255, "0 to 1 .*got 0 to 255"),
        ("keras", 0, 1, r"0 to 255 .*got 0 to 1.*pixels in \[0, 1\]"),
        ("caffe", -1, 1, "0 to 255 .*got -1 to 1"),
        ("lpips", 0, 255, "-1 to 1 .*got 0 to 255"),
        ("lpips", 0, 1, r"-1 to 1 .*got 0 to 1.*pixels in \[0, 1\]"),
    ],
)
def test_float_images_outside_their_range_warn_once(
    name: str, low: float, high: float, text: str
) -> None:
    preset = fresh(name)
    pixels = np.linspace(low, high, 48, dtype=np.float32).reshape(4, 4, 3)
    with pytest.warns(RangeWarning, match=rf"image: expected values from about {text}"):
        first = preset(pixels)
    np.testing.assert_array_equal(preset(pixels), first)  # silent: warnings are errors here
    with pytest.warns(RangeWarning, match=preset.name.split("-")[0]):
        fresh(name)(pixels)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("torchvision", 0, 255),
        ("torchvision", 0, 1),
        ("timm", 0, 255),
        ("keras", 0, 255),
        ("keras", 0, 1),
        ("features", 0, 255),
        ("features", 0, 1),
        ("lpips", 0, 255),
        ("lpips", 0, 1),
    ],
)
def test_raw_pixels_as_input_warn_once(name: str, low: float, high: float) -> None:
    preset = fresh(name)
    x = np.linspace(low, high, 96, dtype=np.float32).reshape(1, 4, 8, 3)
    guess = rf"\[{low}, {high}\]"
    with pytest.warns(RangeWarning, match=rf"x: expected .*{preset.name}.*{guess}") as caught:
        preset.check_range(x)
    assert caught[0].filename == __file__
    preset.check_range(x)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_outputs_are_in_range(name: str) -> None:
    preset = fresh(name)
    for value in ((0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255)):
        preset.check_range(preset(Image.new("RGB", (64, 64), value)))
    preset.check_range(preset(picture(64, 64)))
    low, high = preset.input_range
    ends = [
        f(preset(Image.new("RGB", (64, 64), (v,) * 3))) for v in (0, 255) for f in (np.min, np.max)
    ]
    assert (min(ends), max(ends)) == pytest.approx((low, high), rel=1e-5)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((1, 4, 4, 3), np.float32),
        np.full((1, 4, 4, 3), np.nan, np.float32),
        np.array([np.nan, 1.5, -1.0], np.float32),
        np.empty((0, 4, 4, 3), np.float32),
        np.random.default_rng(0).standard_normal((2, 64, 64, 3)).astype(np.float16),
        torch.full((3,), 1e9),
    ],
    ids=["zeros", "nan", "some-nan", "empty", "noise", "not-numpy"],
)
def test_plausible_inputs_do_not_warn(x: object) -> None:
    fresh("torchvision").check_range(x)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e9])
def test_nan_does_not_hide_other_values(value: float) -> None:
    with pytest.warns(RangeWarning, match="x: expected"):
        fresh("torchvision").check_range(np.array([np.nan, 0.5, value], np.float32))


def test_threads_warn_once() -> None:
    preset = fresh("torchvision")
    x = np.full(1000, 255, np.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=preset.check_range, args=(x,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [w.category for w in caught] == [RangeWarning]


@pytest.mark.parametrize(
    "x", [np.zeros((4, 4)), np.zeros((4, 4, 4)), np.zeros((0, 4, 3)), np.zeros((4, 4, 3), int)]
)
def test_arrays_of_other_shapes_are_refused(x: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"image: expected a float array \[H, W, 3\], got"):
        fresh("torchvision")(x)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_pixels_are_refused(value: float) -> None:
    pixels = np.zeros((4, 4, 3))
    pixels[1, 2, 0] = value
    with pytest.raises(ImageError, match="NaN or infinity"):
        fresh("torchvision")(pixels)
