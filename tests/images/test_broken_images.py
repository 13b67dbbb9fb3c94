"""Broken, hostile and missing image files: each raises one clear ImageError and no warning."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pictures import IEND, RGB, idat, ihdr, png, saved

from vgg_cuda.images.batches import EXTENSIONS, ImageError, open_image


def encoded(name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, name, **options)
    return buffer.getvalue()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
TEXT_BOMB = (b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000), 9))
GIF_FRAME = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + bytes([8, 1, 1, 0])
BROKEN = {
    "zero": (b"", "the file is empty"),
    "text": (b"no picture at all", "expected an image in one of the formats PNG, JPEG"),
    "text-of-a-page": (b"All work and no play makes Jack a dull boy.\n" * 99, "expected an image"),
    "eps": (EPS, "expected an image"),
    "truncated-png": (encoded("PNG")[:-400], "truncated"),
    "truncated-jpeg": (encoded("JPEG")[:-400], "truncated"),
    "truncated-progressive": (encoded("JPEG", progressive=True)[:-400], "truncated"),
    "header-only": (encoded("PNG")[:40], ""),
    "signature-only": (encoded("PNG")[:8], ""),
    "no-width": (png(ihdr(0, 5), IEND), ""),
    "bomb": (
        png(ihdr(60000, 60000), IEND),
        "got more than twice as many: possibly a decompression bomb",
    ),
    "bomb-that-Pillow-warns-of": (png(ihdr(10000, 10000), IEND), "got 10000 x 10000: .* bomb"),
    "text-bomb": (png(ihdr(2, 2), TEXT_BOMB, idat(RGB[:2, :2]), IEND), "decompression bomb"),
    "bmp-bomb": (encoded("BMP")[:18] + struct.pack("<ii", 60000, 60000), ""),
    "gif-bomb": (
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(3) + GIF_FRAME,
        "decompression bomb",
    ),
}


@pytest.mark.parametrize(("content", "text"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_are_named(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"broken\.png: .*{text}") as caught:
        open_image(path)
    assert "\n" not in str(caught.value)


def test_eps_never_reaches_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args: started.append(args))
    for name in ("x.eps", "x.png", "x.jpg"):
        (tmp_path / name).write_bytes(EPS)
        with pytest.raises(ImageError, match="expected an image"):
            open_image(tmp_path / name)
    assert not started
    assert not {".eps", ".ico", ".icns", ".wmf", ".pdf"} & set(EXTENSIONS)


def test_paths_without_a_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name, text in {
        "folder.png": "expected a file, got a folder",
        "link.png": "no such file",
        "loop.png": "too many levels of symbolic links",
        "pipe.png": "expected a regular file",
        "gone.png": "no such file",
        "a\0b.png": "embedded null",
        "n" * 300: "file name too long",
    }.items():
        with pytest.raises(ImageError, match=text):
            open_image(tmp_path / name)
    with pytest.raises(ImageError, match="/dev/zero: expected a regular file"):
        open_image("/dev/zero")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_forbidden_files_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(RGB), "x.png")
    path.chmod(0)
    with pytest.raises(ImageError, match=r"x\.png: permission denied"):
        open_image(path)


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(RGB[..., 0].astype(np.float32)), "f.tif")
    with pytest.raises(ImageError, match=r"f\.tif: .*floating-point"):
        open_image(path)


def test_pillow_images_that_fail_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(encoded("PNG")[:-400])
    with Image.open(path) as image, pytest.raises(ImageError, match=r"cut\.png: .*truncated"):
        open_image(image)
    with pytest.raises(ImageError, match="Pillow image: expected at least one pixel, got 0 x 5"):
        open_image(Image.new("RGB", (0, 5)))


def test_pixel_limit_is_that_of_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, Image.new("1", (200, 100)), "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15_000)
    with pytest.raises(
        ImageError, match=r"bomb\.png: expected at most 15,000 pixels, got 200 x 100"
    ):
        open_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert open_image(path).size == (200, 100)


ODD = png(ihdr(2, 2), (b"acTL", bytes(8)), idat(RGB[:2, :2]), IEND)  # an animation without frames


def test_pillow_warnings_are_suppressed(tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(ODD)
    with pytest.warns(UserWarning, match="Invalid APNG"), Image.open(path):
        pass
    with ThreadPoolExecutor(8) as pool:
        for image in pool.map(open_image, [path] * 200):
            assert image.size == (2, 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_image(path)
    assert not caught
    with pytest.raises(UserWarning, match="mine"):  # warnings of other code still appear
        warnings.warn("mine", stacklevel=1)
