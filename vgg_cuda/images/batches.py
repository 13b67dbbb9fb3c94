"""Images: finding, decoding and batching them; what cannot be read is named, not fatal."""

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
from .decode import FORMATS, ImageError, open_image
from .presets import Preset

__all__ = ["EXTENSIONS", "Batch", "Failure", "ImageError", "batches", "find_images", "open_image"]

EXTENSIONS = tuple(sorted(extension for group in FORMATS.values() for extension in group))


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

    A file that is named is taken whatever its extension; in folders the extension decides. A path
    that is not there but holds ``*``, ``?`` or ``[`` is a pattern, "**" for any folders. Raises
    ``FileNotFoundError`` for a path that is not there, a pattern without a match, or a folder
    with no image in it.
    """
    found: list[Path] = []
    for given in paths:
        if not os.fspath(given):
            raise FileNotFoundError("expected a path, got an empty one")
        path = Path(given)
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
        elif matches := _matches(str(path)):
            found += find_images(matches)
        else:
            raise FileNotFoundError(f"no such file or folder: {str(path)!r}")
    return found


def _matches(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []


def _looks_like_image(path: Path) -> bool:
    """True for what has the name of an image and is no folder, even if it cannot be opened."""
    hidden = path.name.startswith(".")
    return path.suffix.lower() in EXTENSIONS and not hidden and not path.is_dir()


def batches(
    sources: Sequence[Any], preset: Preset, batch_size: int, config: Config | None = None
) -> Iterator[Batch]:
    """Prepared ``sources`` in order, in batches of one size; decoded in threads ahead of use.

    A source is what ``open_image`` takes, or a float array [H,W,3] (see ``Preset.__call__``).
    An image that comes out in a size that ``config`` cannot take is skipped as a broken one is.
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

    for index, result in enumerate(_prepared(sources, preset, config)):
        if isinstance(result, ImageError):
            batch.failed.append(Failure(index, result))
            continue
        if pending and (len(pending) == batch_size or result.shape != pending[0].shape):
            yield flush()
        pending.append(result)
        batch.indices.append(index)
    if pending or batch.failed:
        yield flush()


def _prepared(
    sources: Sequence[Any], preset: Preset, config: Config | None
) -> Iterator[NDArray[np.float32] | ImageError]:
    workers = min(8, os.cpu_count() or 1)
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
    floats = isinstance(source, np.ndarray) and source.dtype.kind == "f"
    try:
        image = source if floats else open_image(source)
    except ImageError as error:
        return error
    try:
        x = preset(image)
        if config is not None and (wrong := config.wrong_size(*x.shape[:2])):
            raise ImageError(f"as preset {preset.name!r} leaves it: {wrong}")
        return x
    except ImageError as error:
        return ImageError(f"{source}: {error}") if isinstance(source, (str, os.PathLike)) else error
