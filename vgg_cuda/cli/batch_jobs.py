"""Classification and feature extraction of many image files, independent of the terminal."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images.batches import Batch, batches
from ..images.presets import Preset
from ..system.files import unfinished
from ..vgg import VGG

Record = dict[str, Any]
"""``{"path", "predictions": [{"label", "index", "probability"}]}`` or ``{"path", "error"}``."""

Progress = Callable[[Iterator[Batch], int], Iterator[Batch]]
"""Yields batches and shows the progress; the integer is the total number of images."""


class SizeError(ValueError):
    """Images of different sizes, whose features do not form one array."""


def check_format(output: Path, formats: Sequence[str]) -> None:
    """Raise ``ValueError`` if the name ``output`` ends in none of ``formats``."""
    if output.suffix.lower() not in formats:
        raise ValueError(
            f"--output: expected a name ending in {' or '.join(formats)}, got {str(output)!r}"
        )


def classify_files(
    model: VGG, paths: Sequence[Path], preset: Preset, top_k: int, batch_size: int,
    progress: Progress,
) -> Iterator[Record]:  # fmt: skip
    """Yield a record per path, in order: its predictions, or why it was skipped."""
    for batch in progress(batches(paths, preset, batch_size, model.config), len(paths)):
        records = {f.index: _skipped(paths[f.index], f.error) for f in batch.failed}
        if batch.indices:
            probabilities = model.probabilities(batch.x)
            tops = model.top(probabilities, top_k)
            for index, row, top in zip(batch.indices, probabilities, tops, strict=True):
                if np.isfinite(row).all():
                    predictions = [asdict(prediction) for prediction in top]
                    records[index] = {"path": _utf8(paths[index]), "predictions": predictions}
                else:
                    error = f"{paths[index]}: the network's output is not finite"
                    records[index] = _skipped(paths[index], error)
        for index in sorted(records):
            yield records[index]


def extract_files(
    model: VGG, paths: Sequence[Path], preset: Preset, sink: FeatureSink, batch_size: int,
    progress: Progress,
) -> Iterator[Record]:  # fmt: skip
    """Add the features of all images to ``sink``; yield a record for every skipped image.

    Raises :class:`SizeError` if images have different sizes.
    """
    for batch in progress(batches(paths, preset, batch_size, model.config), len(paths)):
        yield from (_skipped(paths[f.index], f.error) for f in batch.failed)
        if batch.indices:
            sink.add([_utf8(paths[i]) for i in batch.indices], model.features(batch.x, sink.layers))


def _skipped(path: Path, error: Exception | str) -> Record:
    return {"path": _utf8(path), "error": _utf8(error)}


def _utf8(text: object) -> str:
    """Return ``text`` with everything that UTF-8 cannot encode, as in old file names, escaped."""
    return os.fsencode(str(text)).decode("utf-8", "backslashreplace")


class FeatureSink:
    """Features collected on disk, so that memory holds one batch only, and written to one file.

    A ``.npz`` file has an array [images, ...] per layer, and ``paths``. A ``.safetensors`` file has
    the same arrays, and the paths as a JSON list in its metadata, under "paths".
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

    def add(self, paths: Sequence[str], features: dict[str, NDArray[Any]]) -> None:
        """Append the features [images, ...] of ``paths``."""
        for layer, values in features.items():
            expected = self._shapes.setdefault(layer, values.shape[1:])
            if values.shape[1:] != expected:
                raise SizeError(
                    f"{paths[0]}: {layer}: expected {list(expected)} as of the images before, got "
                    f"{list(values.shape[1:])}: use a preset that crops all images to one size"
                )
            with self._file(layer).open("ab") as file:
                file.write(np.ascontiguousarray(values, np.float32).tobytes())
        self.paths += paths

    def write(self, path: Path, suffix: str) -> None:
        """Write all added features to ``path``, in the format of ``suffix``."""
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
        """Remove the temporary files."""
        self._folder.cleanup()
        unfinished.discard(Path(self._folder.name))
