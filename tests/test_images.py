"""Images: decoding odd formats, presets against torchvision's recipe, finding files, batches."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vgg_cuda.images import ImageError, batches, find_images, open_image
from vgg_cuda.preprocess import PRESETS, Preset, get_preset

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def saved(tmp_path: Path, image: Image.Image, name: str, **options: object) -> Path:
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(RNG.integers(0, 65536, (20, 30), dtype=np.uint16))
    else:
        image = Image.fromarray(RGB).convert(mode)
    path = saved(tmp_path, image, "x.tif" if mode == "CMYK" else "x.png")
    got = open_image(path)
    assert (got.mode, got.size) == ("RGB", (30, 20))
    if mode == "I;16":
        np.testing.assert_array_equal(np.asarray(got)[..., 0], np.asarray(image) >> 8)
    elif mode in ("RGB", "RGBA", "L", "1", "LA"):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(image.convert("RGB")))


def test_a_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(RGB).quantize(8)
    path = saved(tmp_path, image, "x.png", transparency=bytes([0, 128] + [255] * 6))
    assert open_image(path).mode == "RGB"


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees
    path = saved(tmp_path, Image.fromarray(RGB), "x.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(path)), np.rot90(RGB, -1))


@pytest.mark.parametrize(
    "array", [RGB, RGB[..., 0], np.dstack([RGB, RGB[..., :1]])], ids=["rgb", "grey", "rgba"]
)
def test_arrays(array: np.ndarray) -> None:
    expected = np.stack([array] * 3, axis=-1) if array.ndim == 2 else array[..., :3]
    np.testing.assert_array_equal(np.asarray(open_image(array)), expected)


@pytest.mark.parametrize(
    "source",
    [RGB.astype(float), RGB[:0], RGB[None], 3, None],
    ids=["float", "empty", "4d", "int", "none"],
)
def test_other_sources_are_refused(source: object) -> None:
    with pytest.raises(TypeError, match="image: expected"):
        open_image(source)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG")
    return buffer.getvalue()


BROKEN = {
    "zero": (b"", "the file is empty"),
    "text": (b"no picture at all", "no image that Pillow can identify"),
    "truncated": (png()[:-400], "truncated"),
    "header-only": (png()[:40], ""),
}


@pytest.mark.parametrize(("content", "text"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_are_named(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"broken\.png: .*{text}"):
        open_image(path)


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(RGB[..., 0].astype(np.float32)), "f.tif")
    with pytest.raises(ImageError, match=r"f\.tif: floating-point"):
        open_image(path)


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, Image.new("1", (200, 100)), "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15_000)
    with pytest.raises(ImageError, match=r"bomb\.png"):
        open_image(path)


@pytest.mark.parametrize(
    "size", [(300, 260), (256, 256), (257, 999), (640, 427), (30, 20)], ids=str
)
def test_the_torchvision_preset(size: tuple[int, int]) -> None:
    """torchvision's documented steps, spelled out with Pillow and NumPy."""
    pixels = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    w, h = size
    new = (256, int(256 * h / w)) if w <= h else (int(256 * w / h), 256)
    resized = image.resize(new, Image.Resampling.BILINEAR)
    left, top = round((new[0] - 224) / 2.0), round((new[1] - 224) / 2.0)
    x = np.asarray(resized)[top : top + 224, left : left + 224].astype(np.float32) / 255
    x = (x - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    np.testing.assert_array_equal(PRESETS["torchvision"](image), x)


def test_channel_order_and_exact_sizes() -> None:
    preset = Preset("x", (24, 40), None, "nearest", "BGR", 1.0, (1.0, 2.0, 3.0), (1.0, 1.0, 2.0))
    x = preset(Image.fromarray(RGB))
    assert x.shape == (24, 40, 3)
    pixels = np.asarray(Image.fromarray(RGB).resize((40, 24), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(x[..., 2], (pixels[..., 0] - 3.0) / 2)
    assert Preset.from_dict(preset.to_dict()) == preset


def test_unknown_presets_list_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="expected one of torchvision"):
        get_preset("tensorflow")


def test_folders_are_searched(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    names = ["b/2.JPG", "b/c/1.png", "a.webp"]
    for name in [*names, "notes.txt", ".hidden.png"]:
        (tmp_path / name).touch()
    assert find_images([tmp_path]) == [tmp_path / n for n in ("a.webp", "b/2.JPG", "b/c/1.png")]
    assert find_images([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no images in the folder .*empty"):
        find_images([tmp_path / "empty"])
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*gone"):
        find_images([tmp_path / "gone"])


def test_batches_keep_order_and_skip_what_is_broken(tmp_path: Path) -> None:
    preset = Preset("small", (8, 8), None)
    sources: list[object] = [RGB] * 7
    (tmp_path / "zero.png").touch()
    sources[3] = tmp_path / "zero.png"
    found = list(batches(sources, preset, 3))
    assert [b.indices for b in found] == [[0, 1, 2], [4, 5, 6]]
    assert [f.index for b in found for f in b.failed] == [3]
    assert [b.x.shape for b in found] == [(3, 8, 8, 3)] * 2


def test_batches_end_where_sizes_change() -> None:
    preset = Preset("as-is", None, None)
    sources = [RGB, RGB, RGB[:10], RGB]
    assert [b.x.shape[:2] for b in batches(sources, preset, 8)] == [(2, 20), (1, 10), (1, 20)]
    assert list(batches([], preset, 8)) == []
