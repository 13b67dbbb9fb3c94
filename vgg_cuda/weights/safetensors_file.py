"""The safetensors container: a length, a JSON header, the tensors one after the other.

The safetensors package checks that the header fits the file and that the tensors fill it exactly,
so a header cannot claim more memory than the file has.
Format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..system.files import replacing
from ..text import one_line
from .canonical import Array, WeightsError, from_bfloat16


def matches(head: bytes) -> bool:
    """Return whether a file that begins with ``head`` is safetensors: JSON after the length."""
    return head[8:9] == b"{"


def read(path: Path, accept: Callable[[list[str]], Any]) -> tuple[dict[str, Array], dict[str, str]]:
    """Return tensors and metadata; ``accept`` checks the names before any tensor is read.

    Raises :class:`WeightsError` for an incomplete safetensors file, and the errors of ``accept``.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            accept(names)
            tensors = {
                name: _bfloat16(path, name)
                if file.get_slice(name).get_dtype() == "BF16"
                else file.get_tensor(name)
                for name in names
            }
            return tensors, file.metadata() or {}
    except WeightsError:
        raise
    except (SafetensorError, OSError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise WeightsError(f"not a readable safetensors file: {one_line(error)}") from error


def _bfloat16(path: Path, name: str) -> NDArray[np.float32]:
    """Return a bfloat16 tensor of a checked file as float32, without the package ml_dtypes."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(length))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + length + begin)
        halves: Array = np.frombuffer(file.read(end - begin), "<u2")
    shape: list[int] = entry["shape"]
    return from_bfloat16(halves).reshape(shape)


def write(
    tensors: Mapping[str, NDArray[np.float32]], path: str | Path, metadata: dict[str, str]
) -> None:
    """Write the file under a temporary name until it is complete. Raises ``OSError``."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with replacing(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=metadata)
        except SafetensorError as error:  # its error for a full disk
            raise OSError(f"cannot write {path}: {one_line(error)}") from error
