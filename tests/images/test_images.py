"""Every supported format and mode becomes an upright 8-bit RGB image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, features
from support.pictures import IEND, RGB, RNG, idat, ihdr, png, saved

from vgg_cuda.images.batches import ImageError, open_image
from vgg_cuda.images.decode import FORMATS

SMOOTH = np.zeros((20, 30, 3), np.uint8)
SMOOTH[..., 0] = np.add.outer(np.arange(20) * 6, np.arange(30) * 4)
SMOOTH[..., 1] = 90


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
    else:
        np.testing.assert_array_equal(np.asarray(got), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("dtype", "compression"),
    [("<u2", "raw"), (">u2", "raw"), ("<i4", "raw"), ("<u2", "tiff_lzw"), ("<i4", "tiff_lzw")],
)
def test_16_bit_tiff_keeps_its_upper_8_bits(tmp_path: Path, dtype: str, compression: str) -> None:
    levels = RNG.integers(0, 65536, (20, 30)).astype(dtype)
    path = saved(tmp_path, Image.fromarray(levels), "x.tif", compression=compression)
    np.testing.assert_array_equal(np.asarray(open_image(path))[..., 1], levels >> 8)


def test_16_bit_colour_keeps_its_upper_8_bits(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 65536, (20, 30, 3)).astype(">u2")
    path = tmp_path / "x.png"
    path.write_bytes(png(ihdr(30, 20, bits=16), idat(pixels), IEND))
    np.testing.assert_array_equal(np.asarray(open_image(path)), pixels >> 8)


def test_32_bit_integers_outside_16_bits_are_refused(tmp_path: Path) -> None:
    for value in (-1, 65536):
        levels = np.full((2, 2), value, np.int32)
        path = saved(tmp_path, Image.fromarray(levels), "x.tif")
        with pytest.raises(ImageError, match=r"x\.tif: expected pixels from 0 to 65535"):
            open_image(path)


@pytest.mark.parametrize(
    ("name", "transparency"),
    [
        ("x.png", bytes([0, 128] + [255] * 6)),
        *[(name, value) for name in ("x.png", "x.gif") for value in (1, None)],
    ],
    ids=str,
)
def test_palettes_keep_their_colours(
    tmp_path: Path, name: str, transparency: bytes | int | None
) -> None:
    image = Image.fromarray(RGB).quantize(8)
    options = {} if transparency is None else {"transparency": transparency}
    path = saved(tmp_path, image, name, **options)
    np.testing.assert_array_equal(np.asarray(open_image(path)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["HSV", "YCbCr", "RGBX", "RGBa", "La", "PA", "F", "CMYK", "1"])
def test_pillow_images_of_any_mode(mode: str) -> None:
    via = {"RGBa": "RGBA", "La": "LA", "PA": "LA"}.get(mode, "RGB")
    image = Image.fromarray(SMOOTH).convert(via)
    image = image.convert(mode) if mode != via else image
    if mode == "F":
        with pytest.raises(ImageError, match=r"Pillow image: .*floating-point"):
            open_image(image)
        return
    got = np.asarray(open_image(image)).astype(int)
    assert got.shape == (20, 30, 3)
    if mode in ("HSV", "YCbCr", "RGBX", "RGBa"):
        assert np.abs(got - SMOOTH).max() <= 6  # rounding of 8-bit colour spaces


def test_adobe_cmyk_jpeg_is_inverted(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red ink; Pillow writes it inverted
    path = saved(tmp_path, image, "x.jpg", quality=95)
    assert b"Adobe" in path.read_bytes()
    assert np.abs(np.asarray(open_image(path)).astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.skipif(not features.check("littlecms2"), reason="Pillow without littlecms2")
def test_lab_tiff_becomes_rgb(tmp_path: Path) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(SMOOTH), srgb, lab, outputMode="LAB")
    path = saved(tmp_path, image, "x.tif")
    assert np.abs(np.asarray(open_image(path)).astype(int) - SMOOTH).max() <= 16
    assert np.abs(np.asarray(open_image(path)).astype(int) - SMOOTH).mean() < 4


def test_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for name in ("x.gif", "x.tif", "x.png", "x.webp"):
        options = {"lossless": True} if name == "x.webp" else {}
        path = saved(
            *(tmp_path, frames[0], name), save_all=True, append_images=frames[1:], **options
        )
        assert open_image(path).getpixel((3, 3)) == (255, 0, 0), name


@pytest.mark.parametrize("extension", [e for group in FORMATS.values() for e in group[:1]])
def test_every_format_is_read(tmp_path: Path, extension: str) -> None:
    needs = {".webp": "webp", ".avif": "avif", ".jp2": "jpg_2000", ".jpg": "jpg"}.get(extension)
    if needs and not features.check(needs):
        pytest.skip(f"Pillow without {needs}")
    path = saved(tmp_path, Image.fromarray(SMOOTH), f"x{extension}".replace(".pbm", ".ppm"))
    got = np.asarray(open_image(path)).astype(int)
    assert np.abs(got - SMOOTH).mean() < 4
    path.rename(tmp_path / "picture.of-unknown-kind")  # the content decides, not the name
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "picture.of-unknown-kind")), got)


def test_progressive_jpeg_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(SMOOTH), "x.jpg", progressive=True, quality=95)
    assert np.abs(np.asarray(open_image(path)).astype(int) - SMOOTH).mean() < 3


UPRIGHT = {  # EXIF orientation: the operation that turns the stored pixels upright
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
    9: lambda a: a,  # not a value of the standard
}


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_turns_images_upright(tmp_path: Path, orientation: int, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if name == "x.webp" else {}
    path = saved(tmp_path, Image.fromarray(RGB), name, exif=exif, **options)
    expected = UPRIGHT[orientation](RGB)
    np.testing.assert_array_equal(np.asarray(open_image(path)), expected)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0garbage!",
        b"Exif\0\0MM\0*\0\0\0\x08",
    ],
    ids=["empty", "offset", "garbage", "no-entries"],
)
@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp"])
def test_damaged_exif_leaves_the_pixels(tmp_path: Path, name: str, exif: bytes) -> None:
    plain = saved(tmp_path, Image.fromarray(SMOOTH), f"plain-{name}")
    path = saved(tmp_path, Image.fromarray(SMOOTH), name, exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(path)), np.asarray(open_image(plain)))


@pytest.mark.parametrize(
    "array", [RGB, RGB[..., 0], np.dstack([RGB, RGB[..., :1]])], ids=["rgb", "grey", "rgba"]
)
def test_uint8_arrays_are_read(array: np.ndarray) -> None:
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
