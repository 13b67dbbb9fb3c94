"""Streams of GPUs: what counts as one, which one a caller is on. Needs no extension."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from ..arrays import describe, import_cupy, is_cupy, is_torch


@contextlib.contextmanager
def callers_stream(x: Any, what: str, stream: Any = None) -> Iterator[None]:
    """Makes the stream that the caller of an operation on ``x`` is on CuPy's current one.

    For a PyTorch tensor on a GPU that is PyTorch's current stream there, or ``stream`` where it is
    given: sharing its memory, computing and handing the result back are then one sequence. For
    everything else CuPy's own current stream stays.
    """
    if not (is_torch(x) and getattr(x, "is_cuda", False)):
        yield
        return
    cupy, device = import_cupy(what), x.device
    if stream is None:
        stream = sys.modules["torch"].cuda.current_stream(device)
    with on_stream(cupy, stream, int(device.index)):
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
        with stream if is_cupy(stream) else _wrap(cupy.cuda, pointer, index):
            yield


def address_of(stream: Any) -> int:
    """The address of a stream; raises ``TypeError`` for what is none."""
    if isinstance(stream, int) and not isinstance(stream, bool):
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
