"""CUDA streams: their addresses, and the current stream of a caller. Needs no extension."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from ..arrays import describe, gpu_of, import_cupy, is_cupy, is_torch

LEGACY, PER_THREAD = 1, 2  # default streams as CUDA and DLPack number them


@contextlib.contextmanager
def callers_stream(x: Any, what: str, stream: Any = None) -> Iterator[None]:
    """Make the stream of the caller of an operation on ``x`` CuPy's current stream.

    For another library's array on a GPU this is ``stream``, and for a PyTorch tensor by default
    PyTorch's current stream of that GPU. Sharing the memory, computing, and returning the result
    then happen in order. For other arrays CuPy's current stream stays current. ``what`` names x.
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
    """Make ``stream`` CuPy's current stream, and GPU ``index`` its current device.

    ``stream`` is a stream of CuPy or PyTorch, an object with ``__cuda_stream__``, or an address.
    """
    pointer = address_of(stream)
    with cupy.cuda.Device(index):
        if pointer == cupy.cuda.get_current_stream().ptr:
            yield
            return
        if pointer == 0 and cupy.cuda.get_current_stream().ptr == PER_THREAD:
            pointer = LEGACY  # if CuPy uses per-thread default streams, 0 stands for those
        with stream if is_cupy(stream) else _wrap(cupy.cuda, pointer, index):
            yield


def address_of(stream: Any) -> int:
    """Return the address of a stream: 0 and 1 are the legacy default, 2 the per-thread default.

    Raises ``TypeError`` for other objects, ``ValueError`` for a negative number.
    """
    if isinstance(stream, int) and not isinstance(stream, bool):
        if stream < 0:  # DLPack's -1 requests no synchronization; it is not a stream
            raise ValueError(f"stream: expected an address, got {stream}")
        return stream
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:  # (version, address); a property in drafts of the protocol
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
    """Implementation of the protocol that ``Stream.from_external`` of CuPy 14 accepts."""

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
