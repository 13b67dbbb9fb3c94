"""Running a model over many image files: what the command line does, without the command line."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import unfinished
from ..images.batches import Batch, batches, find_images
from ..images.presets import Preset
from ..vgg import VGG

Record = dict[str, Any]
"""``{"path", "predictions": [{"label", "index", "probability"}]}`` or ``{"path", "error"}``."""


class SizeError(ValueError):
    """Images of different sizes, whose features cannot stand in one array."""


Progress = Callable[[Iterator[Batch], int], Iterator[Batch]]
"""Passes batches on and shows how far it is; the number is how many images there are in all."""


def image_paths(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The images that files, folders (searched recursively) and glob patterns name.

    Raises ``FileNotFoundError`` naming every path that is not there, pattern that matches nothing
    and folder without an image.
    """
    found: list[Path] = []
    bad: list[str] = []
    for path in paths:
        try:
            found += find_images([path])
        except FileNotFoundError as error:
            bad.append(str(error))
    if bad:
        raise FileNotFoundError("; ".join(bad))
    return found


def classify_files(
    model: VGG, paths: Sequence[Path], preset: Preset, top_k: int, batch_size: int,
    progress: Progress,
) -> Iterator[Record]:  # fmt: skip
    """A record per path, in order: its predictions, or the error that made it be skipped."""
    for batch in progress(_batches(model, paths, preset, batch_size), len(paths)):
        records = {i: _error(paths[i], error) for i, error in _errors(batch)}
        if batch.indices:
            probabilities = model.probabilities(batch.x)
            tops = model.top(probabilities, top_k)
            finite = [bool(np.isfinite(row).all()) for row in probabilities]
            for index, top, good in zip(batch.indices, tops, finite, strict=True):
                predictions = [asdict(prediction) for prediction in top]
                records[index] = {"path": _name(paths[index]), "predictions": predictions}
                if not good:
                    overflow = ValueError(f"{paths[index]}: the network's output is not finite")
                    records[index] = _error(paths[index], overflow)
        for index in sorted(records):
            yield records[index]


def extract_files(
    model: VGG, paths: Sequence[Path], preset: Preset, sink: FeatureSink, batch_size: int,
    progress: Progress,
) -> Iterator[Record]:  # fmt: skip
    """Puts the layers of ``sink`` into it, image by image; yields a record for every skipped one.

    Raises :class:`SizeError` where images have different sizes.
    """
    for batch in progress(_batches(model, paths, preset, batch_size), len(paths)):
        yield from (_error(paths[i], error) for i, error in _errors(batch))
        if batch.indices:
            sink.add([_name(paths[i]) for i in batch.indices], model.features(batch.x, sink.layers))


def _batches(model: VGG, paths: Sequence[Path], preset: Preset, batch_size: int) -> Iterator[Batch]:
    return batches(paths, preset, batch_size, model.config)


def _errors(batch: Batch) -> Iterator[tuple[int, Exception]]:
    return ((failure.index, failure.error) for failure in batch.failed)


def _error(path: Path, error: Exception) -> Record:
    return {"path": _name(path), "error": _utf8(str(error))}


def _name(path: Path) -> str:
    return _utf8(str(path))


def _utf8(text: str) -> str:
    """``text`` with what UTF-8 cannot hold, as in some old file names, escaped."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


class FeatureSink:
    """Collects features on disk, so that memory holds one batch, and writes them as one file.

    A ``.npz`` file has an array [images, ...] per layer and ``paths``; a ``.safetensors`` file has
    the same arrays, and the paths as JSON under "paths" in its metadata.
    """

    FORMATS = (".npz", ".safetensors")

    def __init__(self, layers: Sequence[str], folder: Path) -> None:
        self.layers = list(layers)
        self.paths: list[str] = []
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._folder = tempfile.TemporaryDirectory(dir=folder, prefix=".features.")
        unfinished.add(Path(self._folder.name))

    def _file(self, layer: str) -> Path:
        return Path(self._folder.name, layer)

    @classmethod
    def check_format(cls, path: Path) -> None:
        """Raises ``ValueError`` for a file name that ends in none of :data:`FORMATS`."""
        if path.suffix.lower() not in cls.FORMATS:
            raise ValueError(
                f"output {str(path)!r}: expected a name ending in {' or '.join(cls.FORMATS)}, "
                f"got {path.suffix or 'no ending'!r}"
            )

    def add(self, paths: Sequence[str], features: dict[str, NDArray[Any]]) -> None:
        """Appends the features [images, ...] of ``paths``."""
        for layer, values in features.items():
            expected = self._shapes.setdefault(layer, values.shape[1:])
            if values.shape[1:] != expected:
                raise SizeError(
                    f"{paths[0]}: {layer} is {list(values.shape[1:])}, of the images before it "
                    f"{list(expected)}: images of different sizes need a preset that crops"
                )
            with self._file(layer).open("ab") as file:
                file.write(np.ascontiguousarray(values, np.float32).tobytes())
        self.paths += paths

    def write(self, path: Path, suffix: str) -> None:
        """Writes everything that was added to ``path``, in the format that ``suffix`` names."""
        arrays: dict[str, Any] = {}
        for layer in self.layers:
            shape = (len(self.paths), *self._shapes.get(layer, ()))
            arrays[layer] = np.zeros(shape, np.float32)
            if self.paths:
                arrays[layer] = np.memmap(self._file(layer), np.float32, "r", shape=shape)
        if suffix.lower() == ".npz":
            with path.open("wb") as file:
                np.savez(file, paths=np.array(self.paths, dtype=np.str_), **arrays)
            return
        from safetensors.numpy import save_file

        metadata = {"paths": json.dumps(self.paths, ensure_ascii=False)}
        save_file({k: np.asarray(v) for k, v in arrays.items()}, path, metadata=metadata)

    def close(self) -> None:
        """Removes the temporary files."""
        self._folder.cleanup()
        unfinished.discard(Path(self._folder.name))
