"""The bytes of an ONNX file, read and written without holding its tensors twice.

An ONNX model is one protobuf message. Parsing it whole copies every tensor, and a small hostile
file can unfold into much memory. :func:`strip` walks the message where it lies and leaves the
tensors' bytes out, so that only a small rest is parsed; :func:`write` sends the tensors to the file
one by one. Encoding: https://protobuf.dev/programming-guides/encoding; field numbers: onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

MAX_FIELDS = 200_000  # that are walked; VGG-19 has about 1500
MAX_REST = 2**24  # bytes of a model without its tensors; VGG-19's are some ten thousand

_TENSOR = "tensor"
_ATTRIBUTE: dict[int, Any] = {5: _TENSOR}
_NODE: dict[int, Any] = {5: _ATTRIBUTE}
_GRAPH: dict[int, Any] = {1: _NODE, 5: _TENSOR}
_FUNCTION: dict[int, Any] = {7: _NODE}
_MODEL: dict[int, Any] = {7: _GRAPH, 25: _FUNCTION}

RAW, FLOATS, DOUBLES = 9, 4, 10
"""The fields of a tensor that hold its elements as they lie in memory."""

_LOCATOR = struct.Struct("<BQQ")


class WireError(ValueError):
    """Bytes that are no whole protobuf message of an ONNX model."""


@dataclass(frozen=True)
class Located:
    """Where a tensor's elements are: ``field`` of the tensor, then bytes of the file."""

    field: int
    offset: int
    length: int


def strip(view: memoryview) -> bytes:
    """The model in ``view`` with a locator (:func:`locate`) for the elements of every tensor.

    Elements that are not stored as they lie in memory (int32_data, int64_data) stay. Raises
    :class:`WireError` for what is no whole message, and for more than a VGG's graph can need.
    """
    return bytes(_Walk(view).message(0, view.nbytes, _MODEL))


def locate(raw: bytes) -> Located:
    """Reads the locator that :func:`strip` left in ``raw_data``. Raises :class:`WireError`."""
    if len(raw) != _LOCATOR.size:
        raise WireError("a tensor where none is expected")
    return Located(*_LOCATOR.unpack(raw))


class _Walk:
    """One walk through a message; counts what it passes."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.fields = 0

    def message(self, begin: int, end: int, schema: dict[int, Any]) -> bytearray:
        """The fields from ``begin`` to ``end``, those in ``schema`` without tensors' elements."""
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
        """A tensor's fields with a locator in place of its elements."""
        out = bytearray()
        found: Located | None = None
        at = begin
        while at < end:
            start = at
            number, kind, at, stop = self._field(at, end)
            if kind == 2 and number in (RAW, FLOATS, DOUBLES):
                if found is not None:
                    raise WireError(f"a tensor's elements come in two parts, at byte {start}")
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
        """Number and wire type of the field at ``at``, and where its content begins and ends."""
        self.fields += 1
        if self.fields > MAX_FIELDS:
            raise WireError(f"more than {MAX_FIELDS} fields: no VGG has so many")
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
                f"expected {stop - content} bytes from byte {content} on, got {end - content}: "
                "the file is damaged or cut off"
            )
        return number, kind, content, stop

    def _read(self, at: int, end: int) -> tuple[int, int]:
        """The varint at ``at``, and where it ends."""
        value = 0
        for i in range(10):
            if at + i >= end:
                raise WireError(f"the file is damaged or cut off at byte {at}")
            byte = self.view[at + i]
            value |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                return value, at + i + 1
        raise WireError(f"no ONNX field at byte {at}")


def _check_size(out: bytearray, more: int) -> None:
    if len(out) + more > MAX_REST:
        raise WireError(
            f"more than {MAX_REST} bytes beside the tensors' own: expected a VGG's graph with "
            "weights as raw_data"
        )


@dataclass(frozen=True)
class TensorBytes:
    """A tensor to write: its message without elements, and their bytes when they are needed."""

    header: bytes
    nbytes: int
    read: Callable[[], bytes | memoryview]


def write(file: IO[bytes], model: bytes, graph: bytes, tensors: Sequence[TensorBytes]) -> None:
    """Writes ``model`` (without a graph) with ``graph`` (without initialisers) and ``tensors``."""
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
