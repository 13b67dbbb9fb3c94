"""Reader of Keras' files without Keras: ``.keras``, ``.weights.h5`` and the older ``.h5``.

A ``.keras`` file is a zip of config.json, metadata.json and model.weights.h5; it is read in memory
and never unpacked. Configs describe the network and are never executed. In files without a config,
names and shapes of the weights determine the network.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...text import one_line
from ..canonical import Weights, WeightsError
from .chain import translate
from .graph import input_shape_of, layers_of
from .h5 import MAGIC, H5File, opened
from .shapes import legacy_weights, saved_weights
from .state import Arrays
from .stores import CONTAINERS, Legacy, SavingLib

CONFIG, VARIABLES = "config.json", "model.weights.h5"
MAX_JSON = 16 << 20


def matches(path: Path, head: bytes) -> bool:
    """Return whether the file, which begins with ``head``, is HDF5 or a zip of a Keras model."""
    if head.startswith(MAGIC):
        return True
    if not head.startswith(b"PK\3\4"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # the reader of other zips reports the error
        return False
    return CONFIG in names and not any(name.endswith("data.pkl") for name in names)


def read(path: Path, source: str) -> Weights:
    """Return the weights in the file. Raises :class:`WeightsError` without a complete VGG."""
    with path.open("rb") as file:
        zipped = not file.read(8).startswith(MAGIC)
    if zipped:
        config, variables = _unzipped(path, source)
        with opened(variables, source) as h5:
            return _translated(config, SavingLib(h5, source), source)
    with opened(path, source) as h5:
        return _from_h5(h5, source)


def _from_h5(h5: H5File, source: str) -> Weights:
    config = h5.text(h5.root, "model_config")
    group = h5.group(h5.root, "model_weights")
    if config is not None and group is not None:
        return _translated(config, Legacy(h5, group, source), source)
    group = h5.root if group is None else group
    if h5.texts(group, "layer_names") is not None:
        return legacy_weights(h5, group, source)
    if any(h5.group(h5.root, container) is not None for container in CONTAINERS):
        return saved_weights(h5, source)
    raise WeightsError(
        f"{source}: expected an HDF5 file of Keras, with a group 'layers' or an attribute "
        "'layer_names', found neither"
    )


def _translated(config: str | bytes, arrays: Arrays, source: str) -> Weights:
    try:
        if len(config) > MAX_JSON:
            raise WeightsError(
                f"{source}: expected a config of at most {MAX_JSON} bytes, got {len(config)}"
            )
        model = json.loads(config)
        if not isinstance(model, Mapping):
            raise WeightsError(f"{source}: expected a JSON object as the model's config")
        layers = layers_of(model, source)
        return translate(layers, input_shape_of(model), arrays, source)
    except WeightsError:
        raise
    except RecursionError:
        raise WeightsError(f"{source}: expected a config with fewer nested levels") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        detail = one_line(f"{type(error).__name__}: {error}")
        raise WeightsError(f"{source}: expected a valid config of the model: {detail}") from None


def _unzipped(path: Path, source: str) -> tuple[bytes, bytes]:
    """Return the config and the HDF5 file in a ``.keras`` file."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            for entry in entries:
                _check_entry(entry, source)
            names = [entry.filename for entry in entries]
            for name in (CONFIG, VARIABLES):
                if names.count(name) != 1:
                    raise WeightsError(
                        f"{source}: expected one {name} in the zip file, found {names.count(name)}"
                    )
            if archive.getinfo(CONFIG).file_size > MAX_JSON:
                raise WeightsError(f"{source}: {CONFIG}: expected at most {MAX_JSON} bytes")
            return archive.read(CONFIG), archive.read(VARIABLES)
    except WeightsError:
        raise
    except Exception as error:  # zipfile also raises struct's and other errors
        raise WeightsError(f"{source}: not a readable .keras file: {one_line(error)}") from None


def _check_entry(entry: zipfile.ZipInfo, source: str) -> None:
    """Refuse names that lead out of a folder, encryption, and compression (a bomb)."""
    name: Any = entry.filename
    shown = one_line(name, 80)
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        raise WeightsError(f"{source}: {shown}: refused: the name leads out of the archive")
    if entry.flag_bits & 1:
        raise WeightsError(f"{source}: {shown}: expected a plain entry, got an encrypted one")
    # Keras does not compress; a compressed entry may be a bomb
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise WeightsError(
            f"{source}: {shown}: expected entries stored without compression, as Keras writes "
            f"them; this one claims {entry.file_size} bytes"
        )
