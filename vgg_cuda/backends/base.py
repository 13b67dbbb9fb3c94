"""What a backend is: the operations a VGG needs, on one kind of array, on one device."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import DTypeLike, NDArray

from ..images.presets import Preset

Array = Any
"""An array of the backend's own kind: ``numpy.ndarray`` or ``cupy.ndarray``."""


class PackedConv3x3(Protocol):
    """Weights and bias of one 3x3 convolution, laid out once for the backend's kernel."""

    @property
    def in_channels(self) -> int: ...

    @property
    def out_channels(self) -> int: ...

    @property
    def device(self) -> str:
        """The backend's ``device``."""
        ...

    @property
    def dtype(self) -> str:
        """The name of the precision that it computes in."""
        ...


class PackedLinear(Protocol):
    """Weights and bias of one dense layer, laid out once for the backend's kernel."""

    @property
    def in_features(self) -> int: ...

    @property
    def out_features(self) -> int: ...

    @property
    def device(self) -> str:
        """The backend's ``device``."""
        ...

    @property
    def dtype(self) -> str:
        """The name of the precision that it computes in."""
        ...


class Backend(Protocol):
    """The operations of a VGG on one device.

    Arguments have been checked by ``ops.py``: arrays are of the backend's kind, C-contiguous, with
    shapes and dtypes that fit each other. The result is written to ``out``, a C-contiguous array
    that no input overlaps, or where that is None to a new array. Every operation enters itself in
    ``stats.recording()``. Every method may be called from several threads at once.
    """

    name: str
    """``"cpu"``, ``"cuda"`` or ``"emulator"``."""

    device: str
    """Where its arrays live: ``"cpu"``, ``"cuda:0"``, ``"emulator"``."""

    dtypes: tuple[str, ...]
    """Names of the dtypes of its arrays, the default one first."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """What ``conv3x3`` and ``linear`` compute in, the default one first.

        The dtypes, and perhaps "tf32": factors of float32, rounded to its eleven digits.
        """
        ...

    batch_limit: int | None
    """Most images one forward should hold at 224x224; None where memory is not the limit."""

    def session(self) -> AbstractContextManager[None]:
        """Entered around a forward, so that what its operations share is set up once."""
        ...

    def on_stream(self, stream: Any) -> AbstractContextManager[Any]:
        """Entered around an operation, which it puts on ``stream``; None: the current one.

        Raises ``ValueError`` where the device has no streams, ``TypeError`` for what is none.
        """
        ...

    def asarray(self, x: Any, dtype: DTypeLike) -> Array:
        """X as a C-contiguous array of this backend's kind, device and ``dtype``."""
        ...

    def as_images(self, x: Any, dtype: str) -> Array:
        """X as ``asarray``, but in a dtype of its own where a first convolution reads that.

        ``dtype`` is a precision.
        """
        ...

    def synchronize(self) -> None:
        """Returns when everything enqueued so far is done."""
        ...

    def to_numpy(self, x: Array) -> NDArray[Any]:
        """X in host memory, after the work that produces it has finished."""
        ...

    def pack_conv3x3(self, w: Array, bias: Array, dtype: str) -> PackedConv3x3:
        """w [K,3,3,C] (KRSC) and bias [K] made ready for ``conv3x3``.

        They are C-contiguous float32 in host memory, or floating point on the backend's GPU.
        """
        ...

    def pack_linear(self, w: Array, bias: Array, dtype: str) -> PackedLinear:
        """w [K,C] and bias [K], as in ``pack_conv3x3``, made ready for ``linear``."""
        ...

    def conv3x3(
        self, x: Array, packed: Any, *, relu: bool, pool: bool, preset: Preset | None = None,
        out: Array | None = None,
    ) -> Array:  # fmt: skip
        """x [N,H,W,C] -> [N,H,W,K], or [N,H//2,W//2,K] with ``pool``: stride 1, padding 1.

        ``packed`` is what this backend's ``pack_conv3x3`` returned; x is of its dtype, or with
        C = 3 of one that ``as_images`` leaves as it is. ``preset`` normalizes uint8 pixels. The
        result is of the packed dtype; of "tf32", as x, float32.
        """
        ...

    def fused_conv1_block(
        self, x: Array, first: Any, second: Any, *, preset: Preset | None = None,
        out: Array | None = None,
    ) -> Array:  # fmt: skip
        """x [N,H,W,3] -> [N,H//2,W//2,K2]: two convolutions with their ReLUs, then a pool.

        ``first`` and ``second`` are what ``pack_conv3x3`` returned; x and ``preset`` as for the
        first. In one launch where there is a kernel for it.
        """
        ...

    def maxpool2x2(self, x: Array, *, out: Array | None = None) -> Array:
        """x [N,H,W,C] -> [N,H//2,W//2,C]: window 2, stride 2, no padding, NaN propagates."""
        ...

    def avgpool(self, x: Array, grid: int, *, out: Array | None = None) -> Array:
        """x [N,H,W,C] -> [N,grid,grid,C]: adaptive average pooling, bins as PyTorch's."""
        ...

    def adaptive_maxpool(self, x: Array, grid: int, *, out: Array | None = None) -> Array:
        """x [N,H,W,C] -> [N,grid,grid,C]: maxima of ``avgpool``'s bins; NaN propagates."""
        ...

    def linear(self, x: Array, packed: Any, *, relu: bool, out: Array | None = None) -> Array:
        """x [N,C] -> [N,K]; ``packed`` is what this backend's ``pack_linear`` returned."""
        ...

    def relu(self, x: Array, *, out: Array | None = None) -> Array:
        """max(x, 0), of any shape; NaN propagates; ``out`` may be x."""
        ...

    def softmax(self, x: Array, *, out: Array | None = None) -> Array:
        """x [N,C] -> [N,C]: over the last axis; ``out`` may be x."""
        ...

    def convert(
        self, x: Array, dtype: str, source: str, target: str, *, out: Array | None = None
    ) -> Array:
        """x in another dtype, and where the layouts differ from ``source`` to ``target``."""
        ...
