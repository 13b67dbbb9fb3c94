"""Kinds of image sources besides paths: encoded bytes and file objects; advice for other kinds."""

from __future__ import annotations

import io
import os
import re
import threading
from typing import Any

LOCKS = tuple(threading.Lock() for _ in range(64))
VIDEO = "got a video; extract its frames first: ffmpeg -i VIDEO frame%06d.png"


def lock_of(source: Any) -> threading.Lock:
    """Return the lock of a source that only one thread at a time may read.

    A Pillow image that was opened lazily, and a file object, have one position in one file. One
    source may occur several times in one call.
    """
    return LOCKS[id(source) // 16 % len(LOCKS)]


def url_advice(source: str | os.PathLike[str]) -> str | None:
    """Return what to do instead of passing ``source`` if it is a URL and no file, else None."""
    text = os.fspath(source)
    if not isinstance(text, str) or not re.match(r"(?i)[a-z][a-z0-9+.-]+:/|data:image/", text):
        return None
    if os.path.exists(text):
        return None
    return (
        "expected a file, got a URL; download it first, for example with "
        "urllib.request.urlopen(url).read(), whose bytes are accepted, or curl --remote-name"
    )


def is_encoded(source: Any) -> bool:
    """Return whether ``source`` holds an encoded image: bytes, or a file object to read them."""
    return isinstance(source, (bytes, bytearray, memoryview)) or hasattr(source, "read")


def encoded_name(source: Any) -> str:
    """Return the name of an encoded source for messages."""
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return name if isinstance(name, str) and name else "file object"
    return f"image of {memoryview(source).nbytes:,} bytes"


def encoded_bytes(source: Any) -> io.BytesIO:
    """Return the bytes of an encoded source.

    A file object is read from its beginning if it can seek, so that it can be read again. Raises
    ``ValueError`` for empty sources and for files in text mode.
    """
    if hasattr(source, "read"):
        with lock_of(source):
            if getattr(source, "seekable", lambda: False)():
                source.seek(0)
            found = source.read()
        if isinstance(found, str):
            raise ValueError('expected a file opened in binary mode ("rb"), got one in text mode')
        source = found
    if not memoryview(source).nbytes:
        raise ValueError("expected an encoded image, got 0 bytes")
    return io.BytesIO(source)


def other_data(head: bytes) -> str | None:
    """Return what a file that begins with ``head`` is, with advice, if it is a known other kind."""
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    if brand[:3] in (b"hei", b"hev", b"mif", b"msf"):
        return "got HEIC; convert it first: heif-convert x.heic x.jpg"
    is_riff_video = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    starts = (b"\x1aE\xdf\xa3", b"FLV\x01", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"0&\xb2u")
    old_quicktime = head[4:8] in (b"moov", b"mdat", b"wide")
    if brand[:3] == b"avi":  # AVIF, which some builds of Pillow cannot read
        return None
    if brand or is_riff_video or old_quicktime or head.startswith(starts):
        return VIDEO
    return None
