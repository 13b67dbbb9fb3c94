"""Streams of GPUs: what counts as one, which one a caller is on. Needs no extension."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from ..arrays import describe, gpu_of, import_cupy, is_cupy, is_torch

LEGACY, PER_THREAD = 1, 2  # CUDA's names of its default streams, and DLPack's


@contextlib.contextmanager
def callers_stream(x: Any, what: str, stream: Any = None) -> Iterator[None]:
    """Makes the stream that the caller of an operation on ``x`` is on CuPy's current one.

    For another library's array on a GPU that is ``stream``, for a PyTorch tensor by default
    PyTorch's current one there: sharing its memory, which that library orders behind its own work,
    computing and handing the result back are then one sequence. For everything else CuPy's own
    current stream stays.
    """
    index = gpu_of(x)
    if index is None or (stream is None and not is_torch(x)):
        yield
        return
    cupy = import_cupy(what)
    if stream is None:
        stream = sys.modules["torch"].cuda.current_stream(x.device)
    with on_stream(cupy, stream, index):
        yield


@contextlib.contextmanager
def on_stream(cupy: Any, stream: Any, index: int) -> Iterator[None]:
    """Makes ``stream`` CuPy's current one, and GPU ``index`` its current device.

    ``stream`` is one of CuPy or PyTorch, an object with ``__cuda_stream__``, or an address.
    """
    pointer = address_of(stream)
    with cupy.cuda.Device(index):
        if pointer == cupy.cuda.get_current_stream().ptr:
            yield
            return
        if pointer == 0 and cupy.cuda.get_current_stream().ptr == PER_THREAD:
            pointer = LEGACY  # CuPy whose default stream is the thread's own takes 0 for that
        with stream if is_cupy(stream) else _wrap(cupy.cuda, pointer, index):
            yield


def address_of(stream: Any) -> int:
    """The address of a stream: 0 and 1 are the legacy default one, 2 is the thread's own.

    Raises ``TypeError`` for what is none, ``ValueError`` for a negative number.
    """
    if isinstance(stream, int) and not isinstance(stream, bool):
        if stream < 0:  # DLPack's -1 is none, but a request not to wait for one
            raise ValueError(f"stream: expected an address, got {stream}")
        return stream
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:  # (version, address); a property in the protocol's first drafts
        return int((protocol() if callable(protocol) else protocol)[1])
    for attribute in ("ptr", "cuda_stream"):  # CuPy's, PyTorch's
        pointer = getattr(stream, attribute, None)
        if isinstance(pointer, int):
            return pointer
    raise TypeError(
        "stream: expected a stream of CuPy or PyTorch, an object with __cuda_stream__, or an "
        f"address, got {describe(stream)}"
    )


class _Stream:
    """The protocol that ``Stream.from_external`` of CuPy 14 takes."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._pointer


def _wrap(cuda: Any, pointer: int, index: int) -> Any:
    if pointer == 0:
        return cuda.Stream.null
    if hasattr(cuda.Stream, "from_external"):
        return cuda.Stream.from_external(_Stream(pointer))
    return cuda.ExternalStream(pointer, index)
