"""The bytes of an ONNX file, read and written without a second copy of its tensors.

An ONNX model is one protobuf message. Parsing it whole copies every tensor, and a small hostile
file can expand to gigabytes. :func:`strip` walks the message in place and leaves the tensors' bytes
out, so that only a small rest is parsed; :func:`write` writes the tensors one by one. Encoding:
https://protobuf.dev/programming-guides/encoding; field numbers: onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

MAX_FIELDS = 200_000  # of the walked messages; VGG-19 has about 1500
MAX_REST = 2**24  # bytes of a model without its tensors; VGG-19 has about ten thousand

_TENSOR = "tensor"
_ATTRIBUTE: dict[int, Any] = {5: _TENSOR}
_NODE: dict[int, Any] = {5: _ATTRIBUTE}
_GRAPH: dict[int, Any] = {1: _NODE, 5: _TENSOR}
_FUNCTION: dict[int, Any] = {7: _NODE}
_MODEL: dict[int, Any] = {7: _GRAPH, 25: _FUNCTION}

RAW, FLOATS, DOUBLES = 9, 4, 10
"""The fields of a tensor that store its elements as in memory."""

_LOCATOR = struct.Struct("<BQQ")


class WireError(ValueError):
    """Bytes that are not a complete protobuf message of an ONNX model."""


@dataclass(frozen=True)
class Located:
    """The place of a tensor's elements: ``field`` of the tensor, then bytes of the file."""

    field: int
    offset: int
    length: int


def strip(view: memoryview) -> bytes:
    """Return the model in ``view`` with a locator (:func:`locate`) for each tensor's elements.

    Elements that are not stored as in memory (int32_data, int64_data) stay. Raises
    :class:`WireError` for an incomplete message, and for one too large for a VGG's graph.
    """
    return bytes(_Walk(view).message(0, view.nbytes, _MODEL))


def locate(raw: bytes) -> Located:
    """Return the locator that :func:`strip` left in ``raw_data``. Raises :class:`WireError`."""
    if len(raw) != _LOCATOR.size:
        raise WireError("a tensor in a place where ONNX has none")
    return Located(*_LOCATOR.unpack(raw))


class _Walk:
    """One walk through a message, with a count of the fields passed."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.fields = 0

    def message(self, begin: int, end: int, schema: dict[int, Any]) -> bytearray:
        """Return the fields from ``begin`` to ``end``, with the tensors in ``schema`` stripped."""
        out = bytearray()
        at = begin
        while at < end:
            start = at
            number, kind, at, stop = self._field(at, end)
            inner = schema.get(number) if kind == 2 else None
            if inner is None:
                self._keep(out, start, stop)
            else:
                walk = self.tensor if inner == _TENSOR else self.message
                content = walk(at, stop, inner)
                out += _varint(number << 3 | 2) + _varint(len(content)) + content
                _check_size(out, 0)
            at = stop
        return out

    def tensor(self, begin: int, end: int, _: Any) -> bytearray:
        """Return a tensor's fields with a locator in place of its elements."""
        out = bytearray()
        found: Located | None = None
        at = begin
        while at < end:
            start = at
            number, kind, at, stop = self._field(at, end)
            if kind == 2 and number in (RAW, FLOATS, DOUBLES):
                if found is not None:
                    raise WireError(f"a tensor with two lists of elements, at byte {start}")
                found = Located(number, at, stop - at)
            else:
                self._keep(out, start, stop)
            at = stop
        if found is not None:
            locator = _LOCATOR.pack(found.field, found.offset, found.length)
            out += _varint(RAW << 3 | 2) + _varint(len(locator)) + locator
        return out

    def _keep(self, out: bytearray, begin: int, end: int) -> None:
        _check_size(out, end - begin)
        out += self.view[begin:end]

    def _field(self, at: int, end: int) -> tuple[int, int, int, int]:
        """Return number and wire type of the field at ``at``, and its content's begin and end."""
        self.fields += 1
        if self.fields > MAX_FIELDS:
            raise WireError(f"expected at most {MAX_FIELDS} fields, got more")
        key, content = self._read(at, end)
        number, kind = key >> 3, key & 7
        if number == 0 or kind not in (0, 1, 2, 5):
            raise WireError(f"no ONNX field at byte {at}")
        if kind == 0:
            _, stop = self._read(content, end)
        elif kind == 2:
            length, content = self._read(content, end)
            stop = content + length
        else:
            stop = content + (8 if kind == 1 else 4)
        if stop > end:
            raise WireError(
                f"expected {stop - content} bytes at byte {content}, got {end - content}: "
                "the file is damaged or truncated"
            )
        return number, kind, content, stop

    def _read(self, at: int, end: int) -> tuple[int, int]:
        """Return the varint at ``at``, and the position after it."""
        value = 0
        for i in range(10):
            if at + i >= end:
                raise WireError(f"the file is damaged or truncated at byte {at}")
            byte = self.view[at + i]
            value |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                return value, at + i + 1
        raise WireError(f"no ONNX field at byte {at}")


def _check_size(out: bytearray, more: int) -> None:
    if len(out) + more > MAX_REST:
        raise WireError(
            f"expected at most {MAX_REST} bytes without the tensors, got more; store the weights "
            "as raw_data"
        )


@dataclass(frozen=True)
class TensorBytes:
    """A tensor to write: its message without elements, and a function that returns their bytes."""

    header: bytes
    nbytes: int
    read: Callable[[], bytes | memoryview]


def write(file: IO[bytes], model: bytes, graph: bytes, tensors: Sequence[TensorBytes]) -> None:
    """Write ``model`` (without a graph), ``graph`` (without initialisers) and ``tensors``."""
    before = []
    length = len(graph)
    for tensor in tensors:
        raw = _varint(RAW << 3 | 2) + _varint(tensor.nbytes)
        size = len(tensor.header) + len(raw) + tensor.nbytes
        before.append(_varint(5 << 3 | 2) + _varint(size) + tensor.header + raw)
        length += len(before[-1]) + tensor.nbytes
    file.write(model + _varint(7 << 3 | 2) + _varint(length) + graph)
    for head, tensor in zip(before, tensors, strict=True):
        file.write(head)
        file.write(tensor.read())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
