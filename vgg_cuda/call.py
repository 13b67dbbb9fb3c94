"""One call of an operation: its arguments checked, its backend found, its result handed back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .arrays import address, describe, dtype_name, overlap, require_float, unwrap, unwrap_out
from .backends import Array, Backend, Stats, of_array, recording

Device = str | Backend | None


class Call:
    """What is common to all operations; raises what ``ops.py`` documents.

    ``x`` is the input as a NumPy or CuPy array, ``backend`` where it is computed, ``dtypes`` what
    x and the result may be. ``rank``: of x, None for any; ``uint8``: are pixels welcome, too?
    ``on_cpu``: the dtypes there, if others than the backend's.
    """

    def __init__(
        self, op: str, x: Any, *, rank: int | None, device: Device, arch: str | None, stream: Any,
        out: Any, return_stats: bool, uint8: bool = False, on_cpu: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.op = op
        self._given, self._out, self._stream, self._return_stats = x, out, stream, return_stats
        self.x, self._restore = unwrap(x, f"{op}: x")
        self.pixels = uint8 and self.x.dtype.name == "uint8"
        if not self.pixels:
            require_float(self.x, f"{op}: x")
        if rank is not None and self.x.ndim != rank:
            shape = "[N, H, W, C]" if rank == 4 else "[N, C]"
            raise ValueError(f"{op}: x: expected rank {rank}, {shape}, got {describe(x)}")
        self.backend = self._find_backend(device, arch)
        self.dtypes = on_cpu if on_cpu and self.backend.name == "cpu" else self.backend.dtypes
        if not self.pixels and self.x.dtype.name not in self.dtypes:
            raise TypeError(
                f"{op}: x: expected dtype {' or '.join(self.dtypes)} on {self.backend.device}, "
                f"got {self.x.dtype}"
            )

    def _find_backend(self, device: Device, arch: str | None) -> Backend:
        if device is not None and not isinstance(device, str):
            return device  # a model's, which has put x there
        try:
            return of_array(self.x, device, arch)
        except ValueError as error:
            raise ValueError(f"{self.op}: {error}") from None

    def result_dtype(self, dtype: Any) -> str:
        """The name of ``dtype``; by default x's, of pixels the backend's first."""
        if dtype is None:
            return self.backend.dtypes[0] if self.pixels else str(self.x.dtype.name)
        name = dtype_name(dtype)
        if name not in self.dtypes:
            raise TypeError(
                f"{self.op}: dtype: expected {' or '.join(self.dtypes)} on {self.backend.device}, "
                f"got {name}"
            )
        return name

    def at_least(self, size: int) -> None:
        """Raises ``ValueError`` where x [N,H,W,C] has H or W below ``size``, or no channels."""
        if min(self.x.shape[1:3]) < size or self.x.shape[3] < 1:
            raise ValueError(
                f"{self.op}: x: expected [N, H, W, C] with H, W >= {size} and C >= 1, "
                f"got {self.x.shape}"
            )

    def run(
        self, shape: tuple[int, ...], compute: Callable[[Array, Array | None], Array], *,
        dtype: str | None = None, apart: tuple[Array, ...] = (), in_place: bool = False,
    ) -> Any:  # fmt: skip
        """``compute(x, out)``, of ``shape`` and ``dtype`` (default: x's), as the caller's kind.

        ``apart``: w and bias, which ``out`` must not overlap, either; ``in_place``: may it be x?
        """
        out = None if self._out is None else self._check_out(shape, dtype or self.x.dtype.name)
        with recording() as found, self.backend.on_stream(self._stream):
            x = self.backend.asarray(self.x, self.x.dtype.name)
            if out is not None:
                self._check_overlap(out, x, apart, in_place)
            y = compute(x, out)
        result = self._restore(y) if self._out is None else self._out
        if not self._return_stats:
            return result
        return result, found[-1] if found else Stats(kernel="none", plan={}, counters={})

    def _check_out(self, shape: tuple[int, ...], dtype: str) -> Array:
        what = f"{self.op}: out"
        out = unwrap_out(self._out, self._given, what)
        here, there = of_array(self.x).device, of_array(out).device
        if here != there:
            raise ValueError(f"{what}: expected an array beside x on {here}, got one on {there}")
        if out.dtype.name != dtype or not out.dtype.isnative:
            raise TypeError(f"{what}: expected dtype {dtype}, got {out.dtype}")
        if out.shape != shape:
            raise ValueError(f"{what}: expected {list(shape)}, got {tuple(out.shape)}")
        if not out.flags.c_contiguous:
            raise ValueError(f"{what}: expected a C-contiguous array, got strides {out.strides}")
        return out

    def _check_overlap(
        self, out: Array, x: Array, apart: tuple[Array, ...], in_place: bool
    ) -> None:
        same = address(out) == address(x) and out.nbytes == x.nbytes
        for name, array in zip(("x", "w", "bias"), (x, *apart), strict=False):
            if overlap(out, array) and not (name == "x" and same and in_place):
                raise ValueError(f"{self.op}: out: expected memory of its own, it overlaps {name}")


def computed_in(call: Call, dtype: Any) -> str:
    """The dtype of a convolution's result: ``dtype``, by default x's, of pixels the backend's.

    Another than x's is for images alone, which a first convolution reads as they are. Raises
    ``TypeError``, and ``ValueError`` for pixels of other than three channels.
    """
    x, name = call.x, call.result_dtype(dtype)
    if call.pixels and x.shape[3] != 3:
        raise ValueError(f"{call.op}: x: expected [N, H, W, 3] of uint8, got {x.shape}")
    images = x.shape[3] == 3 and x.dtype.name in ("uint8", "float32")
    if name != x.dtype.name and not images:
        raise TypeError(
            f"{call.op}: dtype: expected x's, {x.dtype}, since x is not 3 channels of uint8 or "
            f"float32, got {name}"
        )
    return name
