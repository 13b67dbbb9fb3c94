"""Fuzz ``open_image`` with mutated image files: it must return RGB or raise ImageError.

    python tests/fuzz/fuzz_images.py --seconds 3600 [--seed N] [--keep FOLDER]

Deterministic: the n-th file of a seed is always the same. The first failure ends the run; its file
is written to FOLDER. A low pixel limit bounds the memory, whose growth is checked at the end.
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import struct
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, features

from vgg_cuda.images.batches import ImageError, open_image

MAX_PIXELS = 1_000_000  # a header with a false size costs at most 8 MB
MAX_GROWTH_MIB = 400
INTERESTING = [0, 1, 2, 4, 7, 8, 16, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1]


def corpus() -> dict[str, bytes]:
    """Return small valid files of every format by name; deterministic."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (12, 17, 3), dtype=np.uint8))
    grey16 = Image.fromarray(rng.integers(0, 65536, (12, 17), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    kinds: list[tuple[str, str, Image.Image, dict[str, object]]] = [
        ("rgb", "PNG", rgb, {"exif": exif, "dpi": (72, 72)}),
        ("palette", "PNG", rgb.quantize(16), {"transparency": bytes([0, 9, 255])}),
        ("bits", "PNG", rgb.convert("1"), {}),
        ("grey16", "PNG", grey16, {}),
        ("animated", "PNG", rgb, {"save_all": True, "append_images": [rgb.rotate(180)]}),
        ("rgb", "JPEG", rgb, {"exif": exif, "comment": b"text"}),
        ("progressive", "JPEG", rgb, {"progressive": True}),
        ("cmyk", "JPEG", rgb.convert("CMYK"), {}),
        ("palette", "GIF", rgb.quantize(16), {"transparency": 1}),
        ("animated", "GIF", rgb, {"save_all": True, "append_images": [rgb.rotate(180)]}),
        ("rgb", "BMP", rgb, {}),
        ("palette", "BMP", rgb.quantize(16), {}),
        ("rgb", "PPM", rgb, {}),
        ("bits", "PPM", rgb.convert("1"), {}),
        ("rgb", "TGA", rgb, {"compression": "tga_rle"}),
        ("palette", "TGA", rgb.quantize(16), {}),
        ("raw", "TIFF", rgb, {"exif": exif}),
        ("grey16", "TIFF", grey16, {}),
        ("pages", "TIFF", rgb, {"save_all": True, "append_images": [rgb]}),
    ]
    if features.check("libtiff"):
        names = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        kinds += [(name, "TIFF", rgb, {"compression": name}) for name in names]
        kinds += [("fax", "TIFF", rgb.convert("1"), {"compression": "group4"})]
    if features.check("webp"):
        kinds += [("lossy", "WEBP", rgb, {"exif": exif})]
        kinds += [("exact", "WEBP", rgb, {"lossless": True})]
    if features.check("jpg_2000"):
        kinds += [("rgb", "JPEG2000", rgb, {}), ("code", "JPEG2000", rgb, {"no_jp2": True})]
    if features.check("avif"):
        kinds += [("rgb", "AVIF", rgb, {"speed": 10})]
    files = {}
    for name, kind, image, options in kinds:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files[f"{kind.lower()}-{name}"] = buffer.getvalue()
    return files


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Return ``data`` after one to six random edits; some insert pieces of ``other``."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        if not out:
            break
        at = rng.randrange(len(out))
        if rng.random() < 0.5:  # prefer headers, which decide most
            at = min(at, rng.randrange(64))
        kind = rng.randrange(7)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.randrange(256)
        elif kind == 2:  # an integer of 1, 2 or 4 bytes, in either byte order
            width, order = rng.choice((1, 2, 4)), rng.choice("<>")
            value = rng.choice(INTERESTING) % (1 << 8 * width)
            out[at : at + width] = struct.pack(order + {1: "B", 2: "H", 4: "I"}[width], value)
        elif kind == 3:
            del out[at : rng.choice((len(out), at + rng.randrange(1, 32)))]
        elif kind == 4:
            out[at:at] = out[at : at + rng.randrange(1, 64)]
        elif kind == 5:
            begin = rng.randrange(len(other))
            out[at : at + rng.randrange(32)] = other[begin : begin + rng.randrange(1, 64)]
        else:
            out[at:at] = rng.randbytes(rng.randrange(1, 16))
    return bytes(out)


def examine(path: Path) -> bool:
    """Return whether the file is read; raise ``AssertionError`` for anything but ImageError."""
    try:
        image = open_image(path)
    except ImageError as error:
        if not str(error).startswith(f"{path}: "):
            raise AssertionError(f"no name in {error}") from error
        return False
    except BaseException as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error
    assert image.mode == "RGB", image.mode
    assert image.width * image.height <= MAX_PIXELS, image.size
    assert np.asarray(image).shape == (image.height, image.width, 3)
    return True


def fuzz(seconds: float, seed: int, keep: Path | None = None) -> tuple[int, int]:
    """Return how many files were tried and how many of them read; raise at the first failure."""
    files = corpus()
    names = sorted(files)
    tried = read = 0
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    end = time.monotonic() + seconds
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning is a failure
            path = Path(folder) / "fuzzed.png"
            for name in names:
                path.write_bytes(files[name])
                assert examine(path), f"the unmodified {name} is not read"
            while time.monotonic() < end:
                rng = random.Random(f"{seed} {tried}")
                name = names[tried % len(names)]
                data = mutated(files[name], files[rng.choice(names)], rng)
                path.write_bytes(data)
                begin = time.monotonic()
                try:
                    read += examine(path)
                    took = time.monotonic() - begin
                    assert took < 10, f"took {took:.0f} s"
                except AssertionError as error:
                    where = _kept(data, keep, f"{name}-{seed}-{tried}")
                    what = f"{name}, seed {seed}, file {tried}{where}: {error}"
                    raise AssertionError(what) from error
                tried += 1
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MAX_GROWTH_MIB, f"peak memory grew by {grown:.0f} MiB"
    return tried, read


def _kept(data: bytes, keep: Path | None, name: str) -> str:
    if keep is None:
        return ""
    keep.mkdir(parents=True, exist_ok=True)
    (keep / name).write_bytes(data)
    return f" (kept as {keep / name})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    options = parser.parse_args()
    tried, read = fuzz(options.seconds, options.seed, options.keep)
    print(f"{tried} files in {options.seconds:g} s, seed {options.seed}: {read} read, no failure")
    return 0


if __name__ == "__main__":
    sys.exit(main())
