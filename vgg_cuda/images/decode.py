"""Decode one source to an upright 8-bit RGB Pillow image, or raise :class:`ImageError`.

Pillow decodes the raster formats listed in :data:`FORMATS`. Formats that start another program
(EPS runs Ghostscript) and containers of several images are excluded. Alpha is dropped and the
colours of transparent palette entries are kept, as in torchvision's loader. 16-bit greyscale
images keep their upper 8 bits. Only the first frame of an animation is read.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .sources import encoded_bytes, encoded_name, is_encoded, lock_of, other_data, url_advice

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's name of each format, and the extensions by which find_images recognizes its files.
# Pillow tries them in this order: TGA is last because its files have no signature.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "JPEG2000": (".jp2", ".j2k"),
    "PPM": (".pbm", ".pgm", ".ppm", ".pnm"),
    "TGA": (".tga",),
}
EXIF_ORIENTATION = 0x0112
TRANSPOSE_OF_ORIENTATION = (  # names of Pillow's Transpose for the orientations 2 to 8
    *("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM"),
    *("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"),
)


class ImageError(ValueError):
    """A source that cannot be read as an image; the message names the source and the reason."""


def open_image(source: Any) -> Image:
    """Return ``source`` as an 8-bit RGB Pillow image.

    ``source`` is a path, the bytes of a file, a file object in binary mode, a Pillow image or a
    uint8 array [H,W], [H,W,3] or [H,W,4]. Files are turned upright by their EXIF orientation;
    Pillow images and arrays are not. Pillow's warnings about unusual files are suppressed.
    Thread-safe, also if several threads pass the same source.

    Raises :class:`ImageError` for unreadable or too large images and for URLs, and ``TypeError``
    for other kinds of sources.
    """
    from PIL import Image

    if isinstance(source, np.ndarray):
        return _from_array(source)
    read: Callable[[Any], Image.Image]
    if isinstance(source, Image.Image):
        name, read = getattr(source, "filename", "") or "Pillow image", _from_pillow
    elif isinstance(source, (str, os.PathLike)):
        name, read = os.fspath(source), _read
    elif is_encoded(source):
        name, read = encoded_name(source), lambda source: _decoded(encoded_bytes(source))
    else:
        raise TypeError(
            "image: expected a path, bytes, a file object, a Pillow image or a uint8 array, got "
            f"{type(source).__name__}"
        )
    try:
        with _warnings_suppressed():
            return read(source)
    except Exception as error:  # on damaged files decoders raise any exception, even struct.error
        shown = name.decode(errors="replace") if isinstance(name, bytes) else name
        raise ImageError(f"{shown}: {_reason(error)}") from error


def _read(path: str | os.PathLike[str]) -> Image:
    if advice := url_advice(path):
        raise ImageError(advice)
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("expected a file, got a folder")
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for a writer
        raise ImageError("expected a regular file, got a pipe, socket or device")
    if status.st_size == 0:
        raise ImageError("the file is empty (0 bytes)")
    # Pass a file object: given a path, Pillow maps raw formats into memory, and truncating the file
    # during decoding would then kill the process (SIGBUS).
    with open(path, "rb") as file:
        return _decoded(file)


def _decoded(file: BinaryIO) -> Image:
    from PIL import Image, UnidentifiedImageError

    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        opened = Image.open(file, formats=known)
    except UnidentifiedImageError:
        file.seek(0)
        got = other_data(file.read(16)) or "got other data"
        expected = f"expected an image in one of the formats {', '.join(FORMATS)}"
        raise ImageError(f"{expected}, {got}") from None
    with opened as image:
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise ImageError(_too_large(f"{image.width} x {image.height}"))
        image.load()
        return _upright(_rgb(image), image)


def _reason(error: Exception) -> str:
    from PIL import Image

    if isinstance(error, Image.DecompressionBombError):
        return _too_large("more than twice as many")
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, MemoryError):
        return "not enough memory to decode the image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if "MAX_TEXT" in str(error):
        return f"compressed text is too large, possibly a decompression bomb ({error})"
    return str(error) or type(error).__name__


def _too_large(got: str) -> str:
    from PIL import Image

    return (
        f"expected at most {Image.MAX_IMAGE_PIXELS:,} pixels, got {got}: possibly a decompression "
        "bomb; if the image is genuine, raise PIL.Image.MAX_IMAGE_PIXELS"
    )


def _upright(image: Image, original: Image) -> Image:
    """Return ``image`` turned by the EXIF (or XMP) orientation of ``original``.

    Damaged EXIF data is ignored.
    """
    from PIL.Image import Transpose

    try:
        orientation = original.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF raises any exception, but the pixels are good
        return image
    if not isinstance(orientation, int) or not 2 <= orientation <= 8:
        return image
    return image.transpose(Transpose[TRANSPOSE_OF_ORIENTATION[orientation - 2]])


def _from_array(array: NDArray[Any]) -> Image:
    from PIL import Image

    shape_ok = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not shape_ok or 0 in array.shape:
        raise TypeError(
            "image: expected a uint8 array [H, W], [H, W, 3] or [H, W, 4], "
            f"got dtype {array.dtype} and shape {array.shape}"
        )
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _from_pillow(image: Image) -> Image:
    with lock_of(image):  # reading it may load pixels from its file
        return _rgb(image)


def _rgb(image: Image) -> Image:
    from PIL import Image

    if 0 in image.size:
        raise ImageError(f"expected at least one pixel, got {image.width} x {image.height}")
    if image.mode.startswith("I"):  # 16-bit levels, stored in 16 or 32 bits
        levels = np.asarray(image)
        low, high = levels.min(), levels.max()
        if low < 0 or high > 65535:
            raise ImageError(
                f"expected pixels from 0 to 65535, got {low} to {high}; save the image with 16 bits"
            )
        return Image.fromarray((levels >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError(
            "expected integer pixels, got floating-point pixels, whose range is unknown; save the "
            "image with 8 or 16 bits"
        )
    if image.mode == "LAB":
        from PIL import ImageCms  # Image.convert does not convert LAB

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # only inPlace=True returns None
        return converted
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette may hold transparency
    elif image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())  # colours premultiplied by alpha
    return image.convert("RGB")  # a copy even of RGB, because the caller closes the file


class _MatchesInThisThread(type):
    """Metaclass whose classes match every warning category while this thread suppresses warnings.

    ``warnings`` compares categories by ``issubclass``.
    """

    def __subclasscheck__(cls, subclass: type) -> bool:
        return getattr(_thread_state, "suppressed", False)


class _SuppressedWarning(Warning, metaclass=_MatchesInThisThread):
    """Category of the filter that ``_warnings_suppressed`` installs."""


_thread_state = threading.local()


@contextlib.contextmanager
def _warnings_suppressed() -> Iterator[None]:
    """Ignore warnings in the calling thread only.

    ``warnings.catch_warnings`` replaces the filters of the whole process: two threads that use it
    at once may leave the wrong filters behind. This function instead installs one permanent filter
    whose category matches only in threads inside the block. The filter is moved to the front again
    if others were installed since.
    """
    if not warnings.filters or warnings.filters[0][2] is not _SuppressedWarning:
        warnings.simplefilter("ignore", _SuppressedWarning)
    _thread_state.suppressed = True
    try:
        yield
    finally:
        _thread_state.suppressed = False
