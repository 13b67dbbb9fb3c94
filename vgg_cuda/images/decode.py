"""One source -> one upright 8-bit RGB Pillow image, or an :class:`ImageError` that says why not.

Decoding is Pillow's, through a closed list of raster formats: what runs another program
(EPS starts Ghostscript) or is a container of images is not read. Alpha is dropped and colours
under a transparent palette entry are kept, as in torchvision's loader; 16-bit greyscale keeps its
upper 8 bits; of several frames the first counts.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's name -> the extensions that count in a folder. TGA has no signature, hence comes last.
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
ORIENTATION = 0x0112  # the EXIF tag; 2 to 8 are Pillow's transpositions in this order:
UPRIGHT = (
    *("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM"),
    *("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"),
)


class ImageError(ValueError):
    """A source that is no readable image; the text names it and says why."""


def open_image(source: Any) -> Image:
    """``source``, a path, Pillow image or uint8 array [H,W], [H,W,3] or [H,W,4], as 8-bit RGB.

    Files are turned upright as EXIF says, Pillow images and arrays are taken as they are. Raises
    :class:`ImageError` for what is no readable image or is too large, and ``TypeError`` for
    another kind of source. Pillow's warnings about odd files are dropped; thread-safe.
    """
    from PIL import Image

    if isinstance(source, np.ndarray):
        return _from_array(source)
    read: Callable[[Any], Image.Image]
    if isinstance(source, Image.Image):
        name, read = getattr(source, "filename", "") or "Pillow image", _rgb
    elif isinstance(source, (str, os.PathLike)):
        name, read = os.fspath(source), _read
    else:
        raise TypeError(
            f"image: expected a path, a Pillow image or a uint8 array, got {type(source).__name__}"
        )
    try:
        with _warnings_dropped():
            return read(source)
    except Exception as error:  # decoders raise anything on damaged files, struct.error included
        shown = name.decode(errors="replace") if isinstance(name, bytes) else name
        raise ImageError(f"{shown}: {_reason(error)}") from error


def check_size(size: tuple[int, int]) -> None:
    """Raises :class:`ImageError` for more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``."""
    from PIL import Image

    most = Image.MAX_IMAGE_PIXELS
    if most is not None and size[0] * size[1] > most:
        raise ImageError(f"{size[0]} x {size[1]} pixels; {_bomb()}")


def _read(path: str | os.PathLike[str]) -> Image:
    from PIL import Image

    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise ImageError("a folder, not a file")
    if not stat.S_ISREG(found.st_mode):  # opening a FIFO would wait for a writer
        raise ImageError("no regular file (a pipe, socket or device)")
    if found.st_size == 0:
        raise ImageError("the file is empty (0 bytes)")
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    # a file object, not the path: by path Pillow maps raw formats into memory, and a file that
    # is cut short meanwhile would kill the process (SIGBUS)
    with open(path, "rb") as file, Image.open(file, formats=known) as image:
        check_size(image.size)
        image.load()
        return _upright(_rgb(image), image)


def _reason(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"no image that Pillow can identify as {', '.join(FORMATS)}"
    if isinstance(error, Image.DecompressionBombError):  # raised above twice the limit
        return _bomb()
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if "MAX_TEXT" in str(error):
        return f"a decompression bomb in its text ({error})"
    return str(error) or type(error).__name__


def _bomb() -> str:
    from PIL import Image

    return (
        f"at most {Image.MAX_IMAGE_PIXELS:,} pixels are decoded, to be safe from "
        "decompression bombs (raise PIL.Image.MAX_IMAGE_PIXELS if it is genuine)"
    )


def _upright(image: Image, original: Image) -> Image:
    """``image`` turned as the EXIF (or XMP) of ``original`` says; damaged EXIF says nothing."""
    from PIL.Image import Transpose

    try:
        orientation = original.getexif().get(ORIENTATION, 1)
    except Exception:  # as above: damaged EXIF raises anything, and the pixels are good
        return image
    if not isinstance(orientation, int) or not 2 <= orientation <= 8:
        return image
    return image.transpose(Transpose[UPRIGHT[orientation - 2]])


def _from_array(array: NDArray[Any]) -> Image:
    from PIL import Image

    shape_ok = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not shape_ok or 0 in array.shape:
        raise TypeError(
            "image: expected a uint8 array [H, W], [H, W, 3] or [H, W, 4], "
            f"got dtype {array.dtype} and shape {array.shape}"
        )
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _rgb(image: Image) -> Image:
    from PIL import Image

    if 0 in image.size:
        raise ImageError(f"no pixels ({image.width} x {image.height})")
    if image.mode.startswith("I"):  # 16 bits, held in 16 or 32
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise ImageError("integers outside 0..65535 have no agreed range; save it with 16 bits")
        return Image.fromarray((levels >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError("floating-point pixels have no agreed range; save it with 8 or 16 bits")
    if image.mode == "LAB":
        from PIL import ImageCms  # the one conversion that Image.convert lacks

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # None is for inPlace=True
        return converted
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette may hold transparency
    elif image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())  # alpha was multiplied in
    return image.convert("RGB")  # a copy, even of RGB: the file behind it is closed


class _InThisThread(type):
    """Makes ``issubclass(w, cls)`` true for every w while this thread drops warnings."""

    def __subclasscheck__(cls, subclass: type) -> bool:
        return getattr(_here, "dropping", False)


class _Dropped(Warning, metaclass=_InThisThread):
    """The category of a filter that matches every warning, in some threads at some times."""


_here = threading.local()


@contextlib.contextmanager
def _warnings_dropped() -> Iterator[None]:
    """Ignores warnings in the calling thread alone.

    ``warnings.catch_warnings`` swaps the filters of the whole process, so that two threads in it
    leave a wrong list behind. Here one filter is added for good, whose category matches only in
    threads inside this block. It is put in front again when others were added since.
    """
    if not warnings.filters or warnings.filters[0][2] is not _Dropped:
        warnings.simplefilter("ignore", _Dropped)
    _here.dropping = True
    try:
        yield
    finally:
        _here.dropping = False
