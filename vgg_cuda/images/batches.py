"""Image files and arrays in, batches of network inputs out; unreadable images are skipped."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs import Config
from ..system.cpus import get_num_threads
from .decode import FORMATS, ImageError, open_image
from .presets import Preset
from .sources import url_advice

__all__ = [
    "EXTENSIONS", "Batch", "Failure", "ImageError", "as_list", "batches", "find_images",
    "open_image",
]  # fmt: skip

EXTENSIONS = tuple(sorted(extension for group in FORMATS.values() for extension in group))


@dataclass
class Failure:
    """A skipped image: its position among the sources, and the error."""

    index: int
    error: ImageError


@dataclass
class Batch:
    """Network inputs ``x`` [N,H,W,3], their positions among the sources, and skipped images."""

    x: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0, 0, 3), np.float32))
    indices: list[int] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)


def as_list(images: Any) -> list[Any]:
    """Return the images of a sequence, or one image, such as a path or bytes, in a list."""
    single = isinstance(images, (str, bytes, bytearray, memoryview, Path)) or not isinstance(
        images, (Sequence, np.ndarray)
    )
    if isinstance(images, np.ndarray):
        single = images.ndim < 4
    return [images] if single else list(images)


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the image files that ``paths`` name: files, folders and glob patterns.

    A named file is returned whatever its extension. Folders are searched recursively for files
    with an extension of an image, in sorted order. A path that does not exist but contains ``*``,
    ``?`` or ``[`` is a pattern; ``**`` matches any number of folders.

    Raises ``FileNotFoundError``, naming every path that does not exist, every pattern that matches
    nothing and every folder without an image.
    """
    found: list[Path] = []
    problems: list[str] = []
    for given in paths:
        if not os.fspath(given):
            problems.append("path: expected a file, folder or pattern, got an empty string")
            continue
        for path in _expanded(Path(given)):
            if path.is_dir():
                inside = sorted(p for p in path.rglob("*") if _looks_like_image(p))
                found += inside
                if not inside:
                    expected = f"expected files ending in {', '.join(EXTENSIONS)}"
                    problems.append(f"no images in the folder {str(path)!r}: {expected}")
            elif path.exists():
                found.append(path)
            else:
                problems.append(_missing(given))
    if problems:
        raise FileNotFoundError("; ".join(problems))
    return found


def _missing(path: str | os.PathLike[str]) -> str:
    if advice := url_advice(path):
        return f"{os.fspath(path)}: {advice}"
    return f"no such file or folder: {os.fspath(path)!r}"


def _expanded(path: Path) -> list[Path]:
    """Return the matches of ``path`` if it is a glob pattern that matches, else ``path`` itself."""
    pattern = str(path)
    if path.exists() or not glob.has_magic(pattern):
        return [path]
    return [Path(match) for match in sorted(glob.glob(pattern, recursive=True))] or [path]


def _looks_like_image(path: Path) -> bool:
    """Return whether ``path`` is named like an image and is no folder; it may be unreadable."""
    hidden = path.name.startswith(".")
    return path.suffix.lower() in EXTENSIONS and not hidden and not path.is_dir()


def batches(
    sources: Sequence[Any], preset: Preset, batch_size: int, config: Config | None = None
) -> Iterator[Batch]:
    """Yield ``sources`` as network inputs, in order, decoded in threads ahead of their use.

    A source is anything that ``open_image`` accepts, or a float array [H,W,3] (see
    ``Preset.__call__``). An image whose size ``config`` does not accept is skipped like an
    unreadable one. All images of a batch have the same size: with presets that do not resize, a
    batch may have fewer than ``batch_size`` images.
    """
    batch, pending = Batch(), list[NDArray[np.float32]]()
    for index, result in enumerate(_prepared(sources, preset, config)):
        if isinstance(result, ImageError):
            batch.failed.append(Failure(index, result))
            continue
        if pending and (len(pending) == batch_size or result.shape != pending[0].shape):
            batch.x, pending = np.stack(pending), []  # no second copy while the batch is in use
            yield batch
            batch = Batch()
        pending.append(result)
        batch.indices.append(index)
    if pending:
        batch.x = np.stack(pending)
    if pending or batch.failed:
        yield batch


def _prepared(
    sources: Sequence[Any], preset: Preset, config: Config | None
) -> Iterator[NDArray[np.float32] | ImageError]:
    workers = min(8, get_num_threads())
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        ahead: deque[Future[NDArray[np.float32] | ImageError]] = deque()
        try:
            for source in sources:
                ahead.append(pool.submit(_prepare, source, preset, config))
                if len(ahead) > 4 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _prepare(
    source: Any, preset: Preset, config: Config | None
) -> NDArray[np.float32] | ImageError:
    is_float_array = isinstance(source, np.ndarray) and source.dtype.kind == "f"
    try:
        image = source if is_float_array else open_image(source)
    except ImageError as error:
        return error
    try:
        x = preset(image)
        if config is not None and (wrong := config.wrong_size(*x.shape[:2])):
            raise ImageError(f"after preset {preset.name!r}: {wrong}")
        return x
    except ImageError as error:
        return ImageError(f"{source}: {error}") if isinstance(source, (str, os.PathLike)) else error
