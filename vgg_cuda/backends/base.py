"""Protocol of the backends: a VGG's operations on one kind of array and one device."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import DTypeLike, NDArray

from ..images.presets import Preset

Array = Any
"""An array of the backend's kind: ``numpy.ndarray`` or ``cupy.ndarray``."""


class Packed(Protocol):
    """Weights and bias of one layer in the layout of a backend's kernel."""

    @property
    def device(self) -> str:
        """The backend's ``device``."""
        ...

    @property
    def dtype(self) -> str:
        """The precision of the computation."""
        ...


class PackedConv3x3(Packed, Protocol):
    """Packed weights and bias of a 3x3 convolution."""

    @property
    def in_channels(self) -> int: ...

    @property
    def out_channels(self) -> int: ...


class PackedLinear(Packed, Protocol):
    """Packed weights and bias of a dense layer."""

    @property
    def in_features(self) -> int: ...

    @property
    def out_features(self) -> int: ...


class PackedAffine(Packed, Protocol):
    """Scale and shift per channel on a device."""

    @property
    def channels(self) -> int: ...


class Backend(Protocol):
    """The operations of a VGG on one device.

    ``vgg_cuda.ops`` checks the arguments: arrays are of the backend's kind and C-contiguous, and
    their shapes and dtypes match. Results are written to ``out``, a C-contiguous array that does
    not overlap the inputs, or to a new array if ``out`` is None. Every operation adds itself to
    ``stats.recording()``. All methods are safe to call from several threads.
    """

    name: str
    """``"cpu"``, ``"cuda"`` or ``"emulator"``."""

    device: str
    """Device of its arrays: ``"cpu"``, ``"cuda:0"``, ``"emulator"``."""

    dtypes: tuple[str, ...]
    """Names of the dtypes of its arrays, the default first."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of ``conv3x3`` and ``linear``, the default first: dtypes, perhaps "tf32"."""
        ...

    batch_limit: int | None
    """Maximum batch of one forward at 224x224; None if only memory limits it."""

    def report_families(self) -> None:
        """Warn once per process about kernel families that are off or have not been tested."""
        ...

    def session(self) -> AbstractContextManager[None]:
        """Return a context for a whole forward, which sets up what its operations share."""
        ...

    def on_stream(self, stream: Any) -> AbstractContextManager[Any]:
        """Return a context that makes ``stream`` current; None keeps the current stream.

        Raises ``ValueError`` if the device has no streams, ``TypeError`` for other objects.
        """
        ...

    def asarray(self, x: Any, dtype: DTypeLike) -> Array:
        """Return x as a C-contiguous array of this backend's kind, device and ``dtype``."""
        ...

    def as_images(self, x: Any, dtype: str) -> Array:
        """Return images x as ``asarray`` does, in a dtype that a first convolution accepts.

        ``dtype`` is the precision of that convolution.
        """
        ...

    def synchronize(self) -> None:
        """Wait for all work enqueued so far."""
        ...

    def to_numpy(self, x: Array) -> NDArray[Any]:
        """Return x in host memory, after waiting for the work that produces it."""
        ...

    def pack_conv3x3(self, w: Array, bias: Array, dtype: str) -> PackedConv3x3:
        """Pack w [K,3,3,C] (KRSC) and bias [K] for ``conv3x3``.

        Both are C-contiguous float32 in host memory, or floating point on the backend's GPU.
        """
        ...

    def pack_linear(self, w: Array, bias: Array, dtype: str) -> PackedLinear:
        """Pack w [K,C] and bias [K] for ``linear``; arrays as in ``pack_conv3x3``."""
        ...

    def pack_affine(self, scale: Array, shift: Array, dtype: str) -> PackedAffine:
        """Pack scale and shift [C] for ``affine``; arrays as in ``pack_conv3x3``.

        Both stay float32 for every ``dtype``.
        """
        ...

    def conv3x3(
        self, x: Array, packed: Any, *, relu: bool, pool: bool, preset: Preset | None = None,
        out: Array | None = None,
    ) -> Array:  # fmt: skip
        """Convolve x [N,H,W,C] to [N,H,W,K], or [N,H//2,W//2,K] with ``pool``.

        Stride and padding are 1. ``packed`` is a result of this backend's ``pack_conv3x3``. x has
        its dtype, or for C = 3 a dtype that ``as_images`` returns. ``preset`` normalizes uint8
        pixels. The result has the packed dtype, float32 for "tf32".
        """
        ...

    def fused_conv1_block(
        self, x: Array, first: Any, second: Any, *, preset: Preset | None = None,
        out: Array | None = None,
    ) -> Array:  # fmt: skip
        """Apply two convolutions with ReLU and a 2x2 max-pool: x [N,H,W,3] to [N,H//2,W//2,K2].

        ``first`` and ``second`` are results of ``pack_conv3x3``; x and ``preset`` are as for
        ``conv3x3`` with ``first``. One kernel runs if there is a fused one, else two.
        """
        ...

    def maxpool2x2(self, x: Array, *, out: Array | None = None) -> Array:
        """Pool x [N,H,W,C] to [N,H//2,W//2,C]: window 2, stride 2; NaN propagates."""
        ...

    def avgpool(self, x: Array, grid: int, *, out: Array | None = None) -> Array:
        """Average x [N,H,W,C] to [N,grid,grid,C], with PyTorch's adaptive bins."""
        ...

    def adaptive_maxpool(self, x: Array, grid: int, *, out: Array | None = None) -> Array:
        """Pool x [N,H,W,C] to maxima [N,grid,grid,C] of ``avgpool``'s bins; NaN propagates."""
        ...

    def linear(self, x: Array, packed: Any, *, relu: bool, out: Array | None = None) -> Array:
        """Apply a dense layer to x [N,C]; ``packed`` is a result of ``pack_linear``."""
        ...

    def relu(self, x: Array, *, out: Array | None = None) -> Array:
        """Return max(x, 0) for any shape; NaN propagates; ``out`` may be x."""
        ...

    def affine(self, x: Array, packed: Any, *, out: Array | None = None) -> Array:
        """Return x * scale + shift for x [N,H,W,C]; ``packed`` is a result of ``pack_affine``.

        The computation is in float32; NaN and infinities are as in NumPy; ``out`` may be x.
        """
        ...

    def softmax(self, x: Array, *, out: Array | None = None) -> Array:
        """Return the softmax over the last axis of x [N,C]; ``out`` may be x."""
        ...

    def convert(
        self, x: Array, dtype: str, source: str, target: str, *, out: Array | None = None
    ) -> Array:
        """Copy x to another dtype, and from the layout ``source`` to ``target``."""
        ...
