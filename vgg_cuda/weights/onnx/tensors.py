"""The tensors of an ONNX model as arrays, from the model's own bytes or from files beside it.

A tensor states its shape and type apart from its elements, so the number of bytes is checked
first. Arrays are views of the mapped files if these store elements as NumPy does.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from ...text import listed, one_line
from ..canonical import Array, WeightsError
from .wire import DOUBLES, FLOATS, RAW, locate

FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16, DOUBLE, BFLOAT16 = 1, 2, 3, 6, 7, 9, 10, 11, 16
FLOATING = (FLOAT, FLOAT16, DOUBLE, BFLOAT16)

_STORED = {  # little-endian in every ONNX file; bfloat16 as its bits
    FLOAT: "<f4", FLOAT16: "<f2", DOUBLE: "<f8", BFLOAT16: "<u2",
    UINT8: "u1", INT8: "i1", INT32: "<i4", INT64: "<i8", BOOL: "?",
}  # fmt: skip
_LISTS = {
    FLOAT: "float_data", DOUBLE: "double_data", INT64: "int64_data", FLOAT16: "int32_data",
    BFLOAT16: "int32_data", INT32: "int32_data", INT8: "int32_data", UINT8: "int32_data",
    BOOL: "int32_data",
}  # fmt: skip
_EXTERNAL = 1
_NUMBER = re.compile("[0-9]{1,18}")


class Storage:
    """The mapped model and the files beside it that its tensors name."""

    def __init__(self, model: mmap.mmap, folder: Path, source: str) -> None:
        self._view = memoryview(model)
        self._folder = folder
        self._source = source
        self._beside: dict[str, memoryview] = {}

    def array(self, tensor: Any, name: str) -> Array:
        """Return the elements of a ``TensorProto``; bfloat16 becomes float32.

        Raises :class:`WeightsError` for types without a use in a VGG, and if the shape does not
        match the number of bytes.
        """
        kind, dims = tensor.data_type, list(tensor.dims)
        if kind not in _STORED:
            raise self.error(
                name,
                f"expected float32, float16, bfloat16 or float64, got {_type_name(tensor)}; "
                "export the model before it is quantised",
            )
        if len(dims) > 8 or any(d < 0 for d in dims) or tensor.HasField("segment"):
            raise self.error(name, f"expected a whole tensor, got shape {listed_dims(dims)}")
        dtype, count = np.dtype(_STORED[kind]), math.prod(dims)
        if tensor.data_location == _EXTERNAL:
            elements = self._external(tensor, name, dtype, count)
        elif tensor.HasField("raw_data"):
            elements = self._located(tensor, name, dtype, count)
        else:
            elements = self._listed(tensor, name, dtype, count)
        if kind == BFLOAT16:  # the upper half of a float32
            elements = (elements.astype(np.uint32) << 16).view(np.float32)
        return elements.reshape(dims)

    def shares(self, array: Array) -> bool:
        """Return whether ``array`` is a view of one of the mapped files."""
        views = (self._view, *self._beside.values())
        mapped = (np.frombuffer(view, np.uint8) for view in views if view.nbytes)
        return any(np.may_share_memory(array, file) for file in mapped)

    def error(self, name: str, text: str) -> WeightsError:
        """Return an error about the tensor ``name``."""
        return WeightsError(f"{self._source}: {listed([name]) or 'a tensor'}: {text}")

    def _located(self, tensor: Any, name: str, dtype: np.dtype[Any], count: int) -> Array:
        where = locate(tensor.raw_data)
        if {RAW: True, FLOATS: dtype == "<f4", DOUBLES: dtype == "<f8"}[where.field] is not True:
            raise self.error(name, "expected elements of the stated type, got another field")
        self._check(tensor, name, dtype, count, where.length)
        return np.frombuffer(self._view, dtype, count, where.offset)

    def _listed(self, tensor: Any, name: str, dtype: np.dtype[Any], count: int) -> Array:
        values = getattr(tensor, _LISTS[tensor.data_type])
        if len(values) != count:
            raise self.error(
                name, f"expected {count} elements for {listed_dims(tensor.dims)}, got {len(values)}"
            )
        if tensor.data_type in (FLOAT16, BFLOAT16):
            bits = np.array(values, np.int64)
            if count and not 0 <= bits.min() <= bits.max() < 2**16:
                raise self.error(name, "expected the bits of 16-bit numbers")
            return bits.astype(np.uint16).view(dtype)
        return np.array(values).astype(dtype)

    def _external(self, tensor: Any, name: str, dtype: np.dtype[Any], count: int) -> Array:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        numbers = {key: entries.get(key, "0") for key in ("offset", "length")}
        for key, text in numbers.items():
            if not _NUMBER.fullmatch(text):
                raise self.error(name, f"{key}: expected a number of bytes, got {one_line(text)}")
        offset, location = int(numbers["offset"]), entries.get("location", "")
        view = self._open(location, name)
        if "length" in entries:
            self._check(tensor, name, dtype, count, int(numbers["length"]))
        if offset + count * dtype.itemsize > view.nbytes:
            raise self.error(
                name,
                f"expected {count * dtype.itemsize} bytes at byte {offset} of "
                f"{one_line(location)}, which has {view.nbytes}",
            )
        return np.frombuffer(view, dtype, count, offset)

    def _check(self, tensor: Any, name: str, dtype: np.dtype[Any], count: int, length: int) -> None:
        if count * dtype.itemsize != length:
            raise self.error(
                name,
                f"expected {count * dtype.itemsize} bytes for {listed_dims(tensor.dims)}, "
                f"got {length}",
            )

    def _open(self, location: str, name: str) -> memoryview:
        """Return the bytes of a file in the model's folder; refuse any other location."""
        if location in self._beside:
            return self._beside[location]
        shown = one_line(location) or "nothing"
        parts = PureWindowsPath(location)  # understands both slashes, and drives
        rooted = parts.drive or parts.root or PurePosixPath(location).is_absolute()
        if not location or rooted or ".." in parts.parts or "\0" in location:
            raise self.error(name, f"expected its data in a file beside the model, got {shown}")
        folder = os.path.realpath(self._folder)
        path = os.path.realpath(os.path.join(folder, location))
        if os.path.commonpath([folder, path]) != folder:
            raise self.error(
                name, f"expected its data in a file beside the model; {shown} is a link elsewhere"
            )
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would block
                raise self.error(name, f"expected its data in a regular file, got {shown}")
            view = _mapped(path)
        except OSError as error:
            raise self.error(
                name, f"its data is in {shown}, which cannot be read: {error.strerror or error}"
            ) from error
        self._beside[location] = view
        return view


def _mapped(path: str) -> memoryview:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    try:
        if os.fstat(descriptor).st_size == 0:  # an empty file cannot be mapped
            return memoryview(b"")
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)


def listed_dims(dims: Any, most: int = 8) -> str:
    """Return dimensions for a message, the first ``most`` of them."""
    shown = ", ".join(str(d) for d in list(dims)[:most])
    return f"[{shown}{', …' if len(dims) > most else ''}]"


def _type_name(tensor: Any) -> str:
    try:
        return str(type(tensor).DataType.Name(tensor.data_type)).lower()
    except ValueError:
        return f"type {tensor.data_type}"
