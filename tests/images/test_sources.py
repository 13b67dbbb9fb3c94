"""Images as bytes, file objects and Pillow images; URLs and videos are refused with advice."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vgg_cuda import VGG, ImageError
from vgg_cuda.images.batches import batches, find_images, open_image
from vgg_cuda.images.presets import Preset

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded() -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "PNG")
    return file.getvalue()


class Stream:
    """A stream that cannot seek, like the response to an HTTP request."""

    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


def test_encoded_images_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encoded())
    kinds = [encoded(), bytearray(encoded()), memoryview(encoded()), io.BytesIO(encoded())]
    with path.open("rb") as file:
        for source in [*kinds, file, file, Stream(encoded())]:
            np.testing.assert_array_equal(np.asarray(open_image(source)), RGB)
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = io.BytesIO()
    Image.fromarray(RGB).save(turned, "PNG", exif=exif)
    np.testing.assert_array_equal(np.asarray(open_image(turned)), RGB[::-1, ::-1])


def test_classify_takes_bytes_and_files(tmp_path: Path) -> None:
    model = VGG.load("digits", device="cpu")
    [expected] = model.classify(RGB)
    assert model.classify(encoded()) == [expected]
    assert model.classify(io.BytesIO(encoded())) == [expected]
    file = io.BytesIO(encoded())
    assert model.classify([file, encoded(), file]) == model.classify([RGB] * 3)


def test_one_lazy_image_may_occur_often(tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    Image.fromarray(large).save(tmp_path / "x.png")
    preset = Preset("small", (8, 8), None)
    for _ in range(3):
        with Image.open(tmp_path / "x.png") as lazy:
            [batch] = batches([lazy] * 8, preset, 8)
        assert (batch.failed, len(batch.x)) == ([], 8)
        assert np.ptp(batch.x, axis=0).max() == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "image of 0 bytes: expected an encoded image, got 0 bytes"),
        (b"text", "image of 4 bytes: expected an image in one of the formats .*, got other data"),
        (io.BytesIO(b"text"), "file object: expected an image"),
        (io.StringIO("text"), r'file object: expected a file opened in binary mode \("rb"\)'),
        ("https://example.org/a.jpg", r"example.org/a.jpg: expected a file, got a URL; download"),
        ("data:image/png;base64,AAAA", "got a URL"),
    ],
    ids=["empty", "text", "file", "text-mode", "url", "data-url"],
)
def test_other_data_are_refused(source: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        open_image(source)


def test_urls_are_no_paths() -> None:
    with pytest.raises(FileNotFoundError, match=r"example\.org/a\.jpg: expected a file"):
        find_images(["https://example.org/a.jpg"])


HEADS = {
    "mp4": (b"\0\0\0\x20ftypisom", "got a video; extract its frames first: ffmpeg"),
    "mov": (b"\0\0\0\x14ftypqt  ", "got a video"),
    "avi": (b"RIFF\0\0\0\0AVI LIST", "got a video"),
    "mkv": (b"\x1aE\xdf\xa3\x01\0\0\0", "got a video"),
    "mpeg": (b"\0\0\x01\xba\x44\0\0\0", "got a video"),
    "heic": (b"\0\0\0\x18ftypheic", "got HEIC; convert it first"),
}


@pytest.mark.parametrize(("head", "message"), HEADS.values(), ids=HEADS)
def test_videos_are_refused_with_advice(tmp_path: Path, head: bytes, message: str) -> None:
    path = tmp_path / "x.jpg"  # the content decides, not the name
    path.write_bytes(head + bytes(100))
    with pytest.raises(ImageError, match=message):
        open_image(path)
