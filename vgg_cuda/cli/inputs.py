"""Image files that arguments name; "-" stands for a list of paths on standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from ..images.batches import find_images

STARTS_OF_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")


def images_named(paths: Iterable[str]) -> list[Path]:
    """Return the image files that ``paths`` name, as :func:`find_images`.

    Raises ``ValueError`` if standard input holds no paths, ``FileNotFoundError`` for bad paths.
    """
    return find_images(name for path in paths for name in (_listed() if path == "-" else [path]))


def _listed() -> list[str]:
    """Return the paths on standard input: one per line, or separated by NUL bytes."""
    if sys.stdin is None:
        raise ValueError("-: expected paths on standard input, which is closed")
    data = sys.stdin.buffer.read()
    if data.startswith(STARTS_OF_IMAGES) or data[8:12] == b"WEBP":
        raise ValueError("-: expected paths, one per line, got an image; save it to a file first")
    names = data.split(b"\0") if b"\0" in data else data.splitlines()
    found = [os.fsdecode(name) for name in names if name.strip()]
    if not found:
        raise ValueError("-: expected paths on standard input, one per line, got none")
    return found
