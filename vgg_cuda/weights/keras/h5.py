"""Safe reading of HDF5 files: plain arrays inside the file only.

Links to other files or other places, virtual and external datasets, filters and objects are
refused, never followed. An array is read only if the file holds all its bytes, and all arrays
together are at most as large as the file.
"""

from __future__ import annotations

import importlib
import io
import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...text import one_line
from ..canonical import Array, WeightsError

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_NAMES = 100_000


@contextmanager
def opened(content: Path | bytes, source: str) -> Iterator[H5File]:
    """Open the HDF5 file at a path or in memory.

    Raises :class:`WeightsError` without h5py, and for every error inside the ``with`` block.
    """
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError:
        raise WeightsError(
            f'{source}: a Keras file needs h5py: pip install "vgg-cuda[keras]"'
        ) from None
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    try:
        _check_heaps(content)
        with h5py.File(io.BytesIO(content) if isinstance(content, bytes) else content, "r") as file:
            yield H5File(h5py, file, size, source)
    except (WeightsError, Warning):
        raise
    except Exception as error:  # corrupt files make h5py raise nearly anything
        detail = one_line(error) or type(error).__name__
        raise WeightsError(f"{source}: not a readable HDF5 file: {detail}") from None


def _check_heaps(content: Path | bytes) -> None:
    """Refuse a heap of texts whose free space is empty: libhdf5 would loop forever.

    HDF5 File Format Specification, III.E: after 16 bytes come objects of a header (index in its
    first two bytes, size in its last eight) and data; the one of index 0 is the free space.
    """
    if isinstance(content, Path):
        with content.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
            _check_heaps_in(m)
    else:
        _check_heaps_in(content)


def _check_heaps_in(data: bytes | mmap.mmap) -> None:
    at, steps = -1, 0
    while (at := data.find(b"GCOL\1\0\0\0", at + 1)) >= 0:
        end = at + int.from_bytes(data[at + 8 : at + 16], "little")
        here = at + 16
        while here + 16 <= min(end, len(data)):
            index = int.from_bytes(data[here : here + 2], "little")
            size = int.from_bytes(data[here + 8 : here + 16], "little")
            steps += 1
            if (index == 0 and size == 0) or 8 * steps > len(data):  # heaps do not overlap
                raise ValueError("expected a heap of texts with an end")
            here += size if index == 0 else 16 + (size + 7) // 8 * 8


class H5File:
    """An open file; ``root`` is its outermost group. Names are paths with slashes."""

    def __init__(self, h5py: Any, root: Any, size: int, source: str) -> None:
        self._h5py, self.root, self._left, self._size = h5py, root, size, size
        self._source = source

    def group(self, parent: Any, name: str) -> Any | None:
        """Return the group ``name`` in ``parent``, None if there is none."""
        found = self._get(parent, name)
        return found if isinstance(found, self._h5py.Group) else None

    def names(self, group: Any) -> list[str]:
        """Return the names in a group, in alphabetical order."""
        if len(group) > MAX_NAMES:
            raise WeightsError(
                f"{self._source}: {group.name}: expected at most {MAX_NAMES} entries, got more"
            )
        return list(group)

    def is_dataset(self, parent: Any, name: str) -> bool:
        """Return whether ``name`` is an array."""
        return isinstance(self._get(parent, name), self._h5py.Dataset)

    def array(self, parent: Any, name: str) -> Array:
        """Return the dataset ``name`` as float32. Raises :class:`WeightsError` without one."""
        dataset = self._get(parent, name)
        where = one_line(f"{parent.name.strip('/')}/{name}", 120)
        if not isinstance(dataset, self._h5py.Dataset):
            raise WeightsError(f"{self._source}: missing: {where}")
        if dataset.external or dataset.is_virtual:
            raise WeightsError(f"{self._source}: {where}: refused: its data are in another file")
        half = dataset.dtype == np.dtype("V2")  # bfloat16 in h5py
        if not half and (dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8):
            raise WeightsError(
                f"{self._source}: {where}: expected floating-point numbers, got dtype "
                f"{one_line(dataset.dtype, 60)}"
            )
        if dataset.shape is None or dataset.id.get_create_plist().get_nfilters():
            raise WeightsError(f"{self._source}: {where}: expected an uncompressed array")
        claimed = dataset.size * dataset.dtype.itemsize
        if claimed > min(dataset.id.get_storage_size(), self._left):
            raise WeightsError(
                f"{self._source}: {where}: expected an array inside the file of {self._size} bytes,"
                f" got one of {claimed} bytes"
            )
        self._left -= claimed
        values = dataset[()]
        if half:  # bfloat16 is the upper half of a float32
            order = values.view("<u2").astype(np.uint32) << 16
            return np.asarray(order.view(np.float32))
        with np.errstate(over="ignore"):  # infinities are refused later
            return np.ascontiguousarray(values, np.float32)

    def text(self, owner: Any, name: str) -> str | None:
        """Return the attribute ``name`` of a group or dataset as text, None if there is none."""
        found = self._attribute(owner, name)
        if found is None:
            return None
        value = found.item() if isinstance(found, np.ndarray) and found.size == 1 else found
        if not isinstance(value, (str, bytes)):
            raise WeightsError(f"{self._source}: {one_line(name, 80)}: expected text")
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def texts(self, owner: Any, name: str) -> list[str] | None:
        """Return the attribute ``name``, a list of texts that Keras may split, or None."""
        parts = [self._attribute(owner, name)]
        if parts[0] is None:
            parts = []
            while (part := self._attribute(owner, f"{name}{len(parts)}")) is not None:
                parts.append(part)
        if not parts:
            return None
        values = [value for part in parts for value in np.asarray(part).ravel().tolist()]
        if not all(isinstance(value, (str, bytes)) for value in values):
            raise WeightsError(f"{self._source}: {one_line(name, 80)}: expected a list of texts")
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]

    def _get(self, parent: Any, name: str) -> Any | None:
        h5l = self._h5py.h5l
        for part in name.split("/"):
            key = part.encode()
            # Query the link itself: h5py's `in` follows links into other files.
            if not isinstance(parent, self._h5py.Group) or key in (b"", b".", b".."):
                return None
            if not parent.id.links.exists(key):
                return None
            if parent.id.links.get_info(key).type != h5l.TYPE_HARD:
                raise WeightsError(
                    f"{self._source}: {one_line(name, 120)}: refused: a link to another place"
                )
            parent = parent[part]
        return parent

    def _attribute(self, owner: Any, name: str) -> Any | None:
        if name not in owner.attrs:
            return None
        found = owner.attrs.get_id(name)
        string = self._h5py.check_string_dtype(found.dtype) is not None
        claimed = math.prod(found.shape or ()) * found.dtype.itemsize
        empty = claimed == 0  # HDF5 stores empty lists as numbers
        if not (string or empty or found.dtype.kind == "S") or claimed > self._size:
            raise WeightsError(f"{self._source}: {one_line(name, 80)}: expected text")
        return owner.attrs[name]
