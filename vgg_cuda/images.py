"""Images: finding, decoding and batching them; what cannot be read is named, not fatal.

Decoding is Pillow's; everything ends as 8-bit RGB, upright as EXIF says. Alpha is dropped, as
torchvision's loader does; 16-bit greyscale keeps its upper 8 bits.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .preprocess import Preset

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".jp2", ".pbm", ".pgm", ".png", ".ppm"),
    *(".tga", ".tif", ".tiff", ".webp"),
)


class ImageError(ValueError):
    """A source that is no readable image; the text names it and says why."""


@dataclass
class Failure:
    """An image that was skipped: its position among the sources, and why."""

    index: int
    error: ImageError


@dataclass
class Batch:
    """Prepared images ``x`` [N,H,W,3], their positions among the sources, and what was skipped."""

    x: NDArray[np.float32]
    indices: list[int] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The image files that ``paths`` name, folders searched recursively, in sorted order each.

    A file that is named is taken whatever its extension; in folders the extension decides.
    Raises ``FileNotFoundError`` for a path that is not there or a folder with no image in it.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if _looks_like_image(p))
            if not inside:
                raise FileNotFoundError(
                    f"no images in the folder {str(path)!r}: expected files ending in "
                    f"{', '.join(EXTENSIONS)}"
                )
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(f"no such file or folder: {str(path)!r}")
    return found


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and path.is_file() and not path.name.startswith(".")


def open_image(source: Any) -> Image:
    """``source``, a path, Pillow image or uint8 array [H,W], [H,W,3] or [H,W,4], as 8-bit RGB.

    Raises :class:`ImageError` for a file that is no readable image or is too large, and
    ``TypeError`` for another kind of source.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _rgb(source)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"image: expected a path, a Pillow image or a uint8 array, got {type(source).__name__}"
        )
    try:
        with Image.open(source) as image:
            _check_size(image.size)
            return _rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # decoders raise anything on damaged files, struct.error included
        reason = str(error) or type(error).__name__
        if not os.path.exists(source):
            reason = "no such file"
        elif os.path.isfile(source) and os.path.getsize(source) == 0:
            reason = "the file is empty (0 bytes)"
        elif isinstance(error, UnidentifiedImageError):
            reason = "no image that Pillow can identify"
        raise ImageError(f"{source}: {reason}") from error


def _check_size(size: tuple[int, int]) -> None:
    from PIL import Image

    most = Image.MAX_IMAGE_PIXELS
    if most is not None and size[0] * size[1] > most:
        raise ImageError(
            f"{size[0]} x {size[1]} pixels; at most {most:,} are decoded, to be safe from "
            "decompression bombs (raise PIL.Image.MAX_IMAGE_PIXELS if it is genuine)"
        )


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

    if image.mode.startswith("I"):  # 16 bits, held in 16 or 32
        levels = np.asarray(image).astype(np.int64)
        return Image.fromarray((levels.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError("floating-point pixels have no agreed range; save it with 8 or 16 bits")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette may hold transparency
    return image if image.mode == "RGB" else image.convert("RGB")


def batches(sources: Sequence[Any], preset: Preset, batch_size: int) -> Iterator[Batch]:
    """Prepared ``sources`` in order, in batches of one size; decoded in threads ahead of use.

    A batch ends early where the next image has another size (presets that do not resize).
    """
    batch = Batch(np.empty((0, 0, 0, 3), np.float32))
    pending: list[NDArray[np.float32]] = []

    def flush() -> Batch:
        nonlocal batch, pending
        full, batch = batch, Batch(batch.x)
        if pending:
            full.x = np.stack(pending)
        pending = []
        return full

    for index, result in enumerate(_prepared(sources, preset)):
        if isinstance(result, ImageError):
            batch.failed.append(Failure(index, result))
            continue
        if pending and (len(pending) == batch_size or result.shape != pending[0].shape):
            yield flush()
        pending.append(result)
        batch.indices.append(index)
    if pending or batch.failed:
        yield flush()


def _prepared(sources: Sequence[Any], preset: Preset) -> Iterator[NDArray[np.float32] | ImageError]:
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        ahead: deque[Future[NDArray[np.float32] | ImageError]] = deque()
        try:
            for source in sources:
                ahead.append(pool.submit(_prepare, source, preset))
                if len(ahead) > 4 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _prepare(source: Any, preset: Preset) -> NDArray[np.float32] | ImageError:
    try:
        return preset(open_image(source))
    except ImageError as error:
        return error
