"""Image files for tests: saved by Pillow, or PNG files assembled from chunks."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def saved(tmp_path: Path, image: Image.Image, name: str, **options: object) -> Path:
    path = tmp_path / name
    image.save(path, **options)
    return path


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """Assemble a PNG from chunks, with their lengths and checksums."""
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def ihdr(width: int, height: int, bits: int = 8, color: int = 2) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)


def idat(rows: np.ndarray) -> tuple[bytes, bytes]:
    lines = rows.reshape(len(rows), -1)
    return b"IDAT", zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))


IEND = (b"IEND", b"")
