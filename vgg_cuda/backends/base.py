"""What a backend is: the operations a VGG needs, on one kind of array, on one device."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = Any
"""An array of the backend's own kind: ``numpy.ndarray`` on the CPU, ``cupy.ndarray`` on a GPU."""


class PackedConv3x3(Protocol):
    """Weights and bias of one 3x3 convolution, laid out once for the backend's kernel."""

    @property
    def in_channels(self) -> int: ...

    @property
    def out_channels(self) -> int: ...


class PackedLinear(Protocol):
    """Weights and bias of one dense layer, laid out once for the backend's kernel."""

    @property
    def in_features(self) -> int: ...

    @property
    def out_features(self) -> int: ...


class Backend(Protocol):
    """The operations of a VGG on one device.

    Arguments have been checked by ``ops.py``: arrays are of the backend's kind, C-contiguous, with
    shapes that fit each other; results are new arrays of x's dtype on x's device. Every method may
    be called from several threads at once.
    """

    name: str
    """``"cpu"`` or ``"cuda"``."""

    device: str
    """Where its arrays live: ``"cpu"``, ``"cuda:0"``."""

    dtypes: tuple[str, ...]
    """dtype names it computes in, the default one first."""

    batch_limit: int | None
    """Most images one forward should hold at 224x224; None where memory is not the limit."""

    def session(self) -> AbstractContextManager[None]:
        """Entered around a forward, so that what its operations share is set up once."""
        ...

    def asarray(self, x: Any, dtype: DTypeLike) -> Array:
        """X as a C-contiguous array of this backend's kind, device and ``dtype``."""
        ...

    def synchronize(self) -> None:
        """Returns when everything enqueued so far is done."""
        ...

    def to_numpy(self, x: Array) -> NDArray[Any]:
        """X in host memory, after the work that produces it has finished."""
        ...

    def pack_conv3x3(
        self, w: NDArray[np.float32], bias: NDArray[np.float32], dtype: DTypeLike
    ) -> PackedConv3x3:
        """w [K,3,3,C] (KRSC) and bias [K], host float32, made ready for ``conv3x3``."""
        ...

    def pack_linear(
        self, w: NDArray[np.float32], bias: NDArray[np.float32], dtype: DTypeLike
    ) -> PackedLinear:
        """w [K,C] and bias [K], host float32, made ready for ``linear``."""
        ...

    def conv3x3(self, x: Array, packed: Any, *, relu: bool, pool: bool) -> Array:
        """x [N,H,W,C] -> [N,H,W,K], or [N,H//2,W//2,K] with ``pool``: stride 1, padding 1.

        ``packed`` is what this backend's ``pack_conv3x3`` returned.
        """
        ...

    def maxpool2x2(self, x: Array) -> Array:
        """x [N,H,W,C] -> [N,H//2,W//2,C]: window 2, stride 2, no padding, NaN propagates."""
        ...

    def avgpool(self, x: Array, grid: int) -> Array:
        """x [N,H,W,C] -> [N,grid,grid,C]: adaptive average pooling, bins as PyTorch's."""
        ...

    def linear(self, x: Array, packed: Any, *, relu: bool) -> Array:
        """x [N,C] -> [N,K]; ``packed`` is what this backend's ``pack_linear`` returned."""
        ...

    def relu(self, x: Array) -> Array:
        """max(x, 0), of any shape; NaN propagates."""
        ...

    def softmax(self, x: Array) -> Array:
        """x [N,C] -> [N,C]: over the last axis."""
        ...
