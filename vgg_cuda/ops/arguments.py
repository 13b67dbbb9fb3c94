"""Arguments and results of one call of an operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from operator import index
from typing import Any, NoReturn

from ..arrays import address, describe, dtype_name, is_cupy, is_float, numpy_dtype, overlap, unwrap
from ..backends import Array, Backend, PackedConv3x3, Stats, is_backend, of_array, recording
from ..backends.streams import callers_stream
from ..images.presets import Preset, as_preset
from .out import unwrap_out
from .packing import check_conv3x3, check_packed, is_packed, memory_of

Device = Any
"""A device's name, a ``torch.device``, a backend, or None for the device of x."""


class Call:
    """One call of operation ``op``, entered as a context that makes ``stream`` current.

    Raises the errors that ``vgg_cuda.ops`` documents. ``rank`` is the required rank of x, None for
    any; ``uint8`` allows uint8 x; ``cpu_dtypes`` replaces the dtypes of the CPU backend.

    Inside the context ``x`` is the input as a NumPy or CuPy array, ``backend`` the backend,
    ``dtypes`` the dtypes allowed for x and the result, and ``pixels`` whether x is uint8.
    """

    x: Array
    backend: Backend
    dtypes: tuple[str, ...]
    pixels: bool

    def __init__(
        self, op: str, x: Any, out: Any, stream: Any, device: Device, arch: str | None,
        return_stats: bool, *, rank: int | None, uint8: bool = False,
        cpu_dtypes: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.op = op
        self._x, self._out, self._stream, self._return_stats = x, out, stream, return_stats
        self._rank, self._device, self._arch = rank, device, arch
        self._uint8, self._cpu_dtypes = uint8, cpu_dtypes

    def __enter__(self) -> Call:
        with ExitStack() as stack:
            self._prepare(stack)
            self._contexts = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._contexts.__exit__(*error)

    def _prepare(self, stack: ExitStack) -> None:
        op, x, device = self.op, self._x, self._device
        try:
            stack.enter_context(callers_stream(x, f"{op}: x", self._stream))
            self.x, self._restore = unwrap(x, f"{op}: x")
            # a backend comes from a model, which has moved x to its device
            on = device if is_backend(device) else of_array(self.x, device, self._arch)
            stack.enter_context(on.on_stream(self._stream))
        except (TypeError, ValueError) as error:
            raise self._named(error) from error.__cause__
        self.backend = on
        self.dtypes = self._cpu_dtypes if self._cpu_dtypes and on.name == "cpu" else on.dtypes
        self.pixels = self._uint8 and self.x.dtype.name == "uint8"
        if not self.pixels and self.x.dtype.name not in self.dtypes:
            self._refuse_dtype()
        if self._rank is not None and self.x.ndim != self._rank:
            shape = "[N, H, W, C]" if self._rank == 4 else "[N, C]"
            raise ValueError(f"{op}: x: expected rank {self._rank}, {shape}, got {describe(x)}")

    def _named(self, error: Exception) -> Exception:
        """Return ``error`` with the operation's name in front of its text."""
        text = str(error)
        return type(error)(text if text.startswith(f"{self.op}: ") else f"{self.op}: {text}")

    def _refuse_dtype(self) -> NoReturn:
        known, dtype = " or ".join(self.dtypes), self.x.dtype
        where, what = self.backend.device, f"{self.op}: x: expected"
        if not is_float(self.x):
            pixels = ", or uint8" * self._uint8
            raise TypeError(
                f"{what} a floating-point array, {known} on {where}{pixels}, got dtype {dtype}"
            )
        advice = "pass x.astype(numpy.float32)"
        if where == "cpu" and dtype.name in ("float16", "bfloat16"):
            advice += f'; device="emulator" and GPUs compute in {dtype.name}'
        raise TypeError(f"{what} dtype {known} on {where}, got {dtype}; {advice}")

    def result_dtype(self, dtype: Any) -> str:
        """Return the name of ``dtype``, by default that of x, for uint8 the backend's first."""
        if dtype is None:
            return self.backend.dtypes[0] if self.pixels else str(self.x.dtype.name)
        name = dtype_name(dtype)
        if name not in self.dtypes:
            raise TypeError(
                f"{self.op}: dtype: expected {' or '.join(self.dtypes)} on {self.backend.device}, "
                f"got {name}"
            )
        return name

    def check_size(self, min_size: int) -> None:
        """Raise ``ValueError`` if x [N,H,W,C] has H or W below ``min_size``, or no channels."""
        if min(self.x.shape[1:3]) < min_size or self.x.shape[3] < 1:
            raise ValueError(
                f"{self.op}: x: expected [N, H, W, C] with H, W >= {min_size} and C >= 1, "
                f"got {self.x.shape}"
            )

    def run_adaptive(self, pool: Callable[..., Array], grid: Any) -> Any:
        """Run a pool of x [N,H,W,C] to ``grid`` x ``grid`` bins."""
        self.check_size(1)
        text = f"{self.op}: grid: expected an integer >= 1, got {grid!r}"
        try:
            size = index(grid)
        except TypeError:
            raise TypeError(text) from None
        if isinstance(grid, bool):
            raise TypeError(text)
        if size < 1:
            raise ValueError(text)
        return self.run((self.x.shape[0], size, size, self.x.shape[3]), partial(pool, grid=size))

    def run(
        self, shape: tuple[int, ...], compute: Callable[..., Array], *, dtype: str | None = None,
        must_not_alias: Mapping[str, Array] | None = None, in_place: bool = False,
    ) -> Any:  # fmt: skip
        """Return ``compute(x, out=out)`` as an array of the caller's kind.

        The result has ``shape`` and ``dtype``, by default the dtype of x.
        ``must_not_alias`` are the arrays beside x that ``out`` must not overlap, by name.
        ``in_place`` allows x itself as ``out``.
        """
        out = target = None
        if self._out is not None:
            out = target = self._check_out(shape, dtype or self.x.dtype.name)
            self._check_overlap(target, must_not_alias or {}, in_place)
            if address(target) % target.itemsize:
                out = None  # kernels cannot write to unaligned elements: the result is copied
        with recording() as entries:
            y = compute(self.backend.asarray(self.x, self.x.dtype.name), out=out)
        if target is not None and out is None:
            target[...] = y
        try:
            result = self._restore(y) if self._out is None else self._out
        except TypeError as error:  # the library of x lacks the dtype
            raise self._named(error) from None
        if not self._return_stats:
            return result
        return result, entries[-1] if entries else Stats(kernel="none", plan={}, counters={})

    def _check_out(self, shape: tuple[int, ...], dtype: str) -> Array:
        what = f"{self.op}: out"
        out = unwrap_out(self._out, self._x, what)
        expected, got = of_array(self.x).device, of_array(out).device
        if got != expected:
            raise ValueError(f"{what}: expected an array on {expected}, like x, got one on {got}")
        if out.dtype.name != dtype or not out.dtype.isnative:
            raise TypeError(f"{what}: expected dtype {dtype}, got {out.dtype}")
        if out.shape != shape:
            raise ValueError(f"{what}: expected {list(shape)}, got {tuple(out.shape)}")
        if not out.flags.c_contiguous:
            raise ValueError(f"{what}: expected a C-contiguous array, got strides {out.strides}")
        if is_cupy(out) and address(out) % out.itemsize:
            raise ValueError(
                f"{what}: expected an address that is a multiple of {out.itemsize}, the size of "
                f"{dtype}, got {address(out)}"
            )
        return out

    def _check_overlap(
        self, out: Array, must_not_alias: Mapping[str, Array], in_place: bool
    ) -> None:
        x = self.x
        same = address(out) == address(x) and out.shape == x.shape and out.dtype == x.dtype
        allowed = in_place and same and x.flags.c_contiguous
        for name, array in {"x": x, **must_not_alias}.items():
            if overlap(out, array) and not (name == "x" and allowed):
                raise ValueError(f"{self.op}: out: must not overlap {name}; pass another array")


def compute_precision(call: Call, dtype: Any, w: Any) -> str:
    """Return the precision of a matrix product: ``dtype``, or the default for x and w.

    The default is the precision that ``w`` is packed for if x has its dtype or is uint8, else the
    dtype of x, for uint8 the backend's first. Images, x [N,H,W,3] of uint8 or float32, allow every
    precision. Raises ``TypeError`` for other precisions, ``ValueError`` for uint8 without three
    channels.
    """
    x, known = call.x, call.backend.precisions
    if call.pixels and x.shape[3] != 3:
        raise ValueError(f"{call.op}: x: expected uint8 [N, H, W, 3], got {x.shape}")
    if dtype is None:
        own = known[0] if call.pixels else str(x.dtype.name)
        packed = str(w.dtype) if hasattr(w, "in_channels") or hasattr(w, "in_features") else own
        fits = call.pixels or (packed in known and numpy_dtype(packed).name == own)
        return packed if fits else own
    name = dtype_name(dtype)
    if name not in known:
        expected = f"{' or '.join(known)} on {call.backend.device}"
        raise TypeError(f"{call.op}: dtype: expected {expected}, got {name}")
    fitting = [each for each in known if numpy_dtype(each).name == x.dtype.name]
    images = x.ndim == 4 and x.shape[3] == 3 and x.dtype.name in ("uint8", "float32")
    if name not in fitting and not images:
        expected = f"{' or '.join(fitting)} for {x.dtype} x"
        advice = "; tf32 needs float32 x" if name == "tf32" else ""
        if x.ndim == 4 and not advice:
            advice = "; uint8 or float32 images with 3 channels allow any dtype"
        raise TypeError(f"{call.op}: dtype: expected {expected}, got {name}{advice}")
    return name


def pixels_preset(call: Call, preset: str | Preset | None) -> Preset | None:
    """Return ``preset`` as a :class:`Preset`; raise ``TypeError`` if x is not uint8."""
    chosen = None if preset is None else as_preset(preset)
    if chosen is not None and not call.pixels:
        raise TypeError(f"{call.op}: preset: expected uint8 x, got {call.x.dtype}")
    return chosen


def conv_filters(
    call: Call, w: Any, bias: Any, in_channels: int, dtype: str, number: str = ""
) -> tuple[int, Callable[[], PackedConv3x3], dict[str, Array]]:
    """Check w and bias; return output channels, a function that packs them, and their arrays.

    ``number`` distinguishes several filters of one operation: "1" for w1. The arrays are the
    caller's, by name.
    """
    op, backend = call.op, call.backend
    if not is_packed(w, "conv3x3", f"{op}: w{number}"):
        raw = check_conv3x3(w, bias, in_channels, backend.device, op, number)
        return raw.w.shape[0], partial(backend.pack_conv3x3, raw.w, raw.bias, dtype), raw.sources
    if w.in_channels != in_channels:
        if number == "2":
            what = f"{op}: w2: expected {in_channels} input channels, one per filter of w1"
            raise ValueError(f"{what}, got {w.in_channels}")
        shape = f"[N, H, W, {w.in_channels}] (NHWC)"
        raise ValueError(f"{op}: x: expected {shape}, got {call.x.shape}")
    check_packed(op, w, bias, backend, dtype, number)
    return w.out_channels, lambda: w, memory_of(w, number)
