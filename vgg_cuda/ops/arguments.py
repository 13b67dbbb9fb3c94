"""One call of an operation: its arguments checked, its backend found, its result handed back."""

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
"""A device's name, a ``torch.device`` or, from a model, a backend; None: where x is."""


class Call:
    """What is common to all operations; raises what ``ops.py`` documents.

    ``with`` enters the caller's stream, then finds ``x``, the input as a NumPy or CuPy array,
    ``backend``, where it is computed, and ``dtypes``, what x and the result may be. ``rank``: of x,
    None for any; ``uint8``: are pixels welcome, too? ``on_cpu``: the dtypes there, if others than
    the backend's.
    """

    x: Array
    backend: Backend
    dtypes: tuple[str, ...]
    pixels: bool

    def __init__(
        self, op: str, x: Any, *, rank: int | None, device: Device, arch: str | None, stream: Any,
        out: Any, return_stats: bool, uint8: bool = False, on_cpu: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.op = op
        self._given, self._out, self._stream, self._return_stats = x, out, stream, return_stats
        self._rank, self._device, self._arch = rank, device, arch
        self._uint8, self._on_cpu = uint8, on_cpu

    def __enter__(self) -> Call:
        with ExitStack() as stack:
            self._prepare(stack)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def _prepare(self, stack: ExitStack) -> None:
        op, x = self.op, self._given
        try:
            stack.enter_context(callers_stream(x, f"{op}: x", self._stream))
        except (TypeError, ValueError) as error:
            raise self._named(error) from None
        self.x, self._restore = unwrap(x, f"{op}: x")
        try:
            device = self._device
            here = device if is_backend(device) else of_array(self.x, device, self._arch)
            self.backend = here  # a model's has x already
            stack.enter_context(here.on_stream(self._stream))
        except (TypeError, ValueError) as error:
            raise self._named(error) from None
        self.dtypes = self._on_cpu if self._on_cpu and here.name == "cpu" else here.dtypes
        self.pixels = self._uint8 and self.x.dtype.name == "uint8"
        if not self.pixels and self.x.dtype.name not in self.dtypes:
            self._refuse_dtype()
        if self._rank is not None and self.x.ndim != self._rank:
            shape = "[N, H, W, C]" if self._rank == 4 else "[N, C]"
            raise ValueError(f"{op}: x: expected rank {self._rank}, {shape}, got {describe(x)}")

    def _named(self, error: Exception) -> Exception:
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

    def grid(self, value: Any) -> int:
        """Bins along an axis; ``TypeError`` for what is no integer, ``ValueError`` below 1."""
        wanted = f"{self.op}: grid: expected an integer >= 1, got {value!r}"
        try:
            size = index(value)
        except TypeError:
            raise TypeError(wanted) from None
        if isinstance(value, bool):
            raise TypeError(wanted)
        if size < 1:
            raise ValueError(wanted)
        return size

    def run(
        self, shape: tuple[int, ...], compute: Callable[[Array, Array | None], Array], *,
        dtype: str | None = None, apart: Mapping[str, Array] | None = None, in_place: bool = False,
    ) -> Any:  # fmt: skip
        """``compute(x, out)``, of ``shape`` and ``dtype`` (default: x's), as the caller's kind.

        ``apart``: the caller's w and bias, which ``out`` must not overlap, either; ``in_place``:
        may it be x?
        """
        out = given = None
        if self._out is not None:
            out = given = self._check_out(shape, dtype or self.x.dtype.name)
            self._check_overlap(given, apart or {}, in_place)
            if address(given) % given.itemsize:
                out = None  # no kernel writes there: the result is copied
        with recording() as found:
            y = compute(self.backend.asarray(self.x, self.x.dtype.name), out)
        if given is not None and out is None:
            given[...] = y
        try:
            result = self._restore(y) if self._out is None else self._out
        except TypeError as error:  # x's library holds no such dtype
            raise self._named(error) from None
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
        if is_cupy(out) and address(out) % out.itemsize:
            raise ValueError(
                f"{what}: expected an address that is a multiple of {out.itemsize}, {dtype}'s size"
            )
        return out

    def _check_overlap(self, out: Array, apart: Mapping[str, Array], in_place: bool) -> None:
        x = self.x
        same = address(out) == address(x) and out.shape == x.shape and out.dtype == x.dtype
        allowed = in_place and same and x.flags.c_contiguous
        for name, array in {"x": x, **apart}.items():
            if overlap(out, array) and not (name == "x" and allowed):
                raise ValueError(f"{self.op}: out: expected memory of its own, it overlaps {name}")


def computed_in(call: Call, dtype: Any, w: Any) -> str:
    """What a matrix product computes in: ``dtype``, by default x's, of pixels the backend's first.

    Or by default what ``w`` is packed for, where x may be multiplied in that.

    A precision of x's dtype; images, which a first convolution reads as they are, may have any.
    Raises ``TypeError``, and ``ValueError`` for pixels of other than three channels.
    """
    x, known = call.x, call.backend.precisions
    if call.pixels and x.shape[3] != 3:
        raise ValueError(f"{call.op}: x: expected [N, H, W, 3] of uint8, got {x.shape}")
    if dtype is None:
        own = known[0] if call.pixels else str(x.dtype.name)
        packed = str(w.dtype) if hasattr(w, "in_channels") or hasattr(w, "in_features") else own
        multiplies = call.pixels or (packed in known and numpy_dtype(packed).name == own)
        return packed if multiplies else own
    name = dtype_name(dtype)
    if name not in known:
        expected = f"{' or '.join(known)} on {call.backend.device}"
        raise TypeError(f"{call.op}: dtype: expected {expected}, got {name}")
    fitting = [each for each in known if numpy_dtype(each).name == x.dtype.name]
    convolves = x.ndim == 4
    images = convolves and x.shape[3] == 3 and x.dtype.name in ("uint8", "float32")
    if name not in fitting and not images:
        expected = f"{' or '.join(fitting)} for x of {x.dtype}"
        expected += " that is not 3 channels of uint8 or float32" * convolves
        advice = "; tf32 takes x of float32" * (name == "tf32")
        raise TypeError(f"{call.op}: dtype: expected {expected}, got {name}{advice}")
    return name


def pixels_preset(call: Call, preset: str | Preset | None) -> Preset | None:
    """What normalizes x; raises ``TypeError`` for a preset beside other than pixels."""
    chosen = None if preset is None else as_preset(preset)
    if chosen is not None and not call.pixels:
        raise TypeError(f"{call.op}: preset: expected x of uint8 beside one, got {call.x.dtype}")
    return chosen


def filters(
    call: Call, w: Any, bias: Any, in_channels: int, dtype: str, number: str = ""
) -> tuple[int, Callable[[], PackedConv3x3], dict[str, Array]]:
    """Output channels of w and bias, packed or not, what packs them, and the caller's memory."""
    op, backend = call.op, call.backend
    if not is_packed(w, "conv3x3", f"{op}: w{number}"):
        raw = check_conv3x3(w, bias, in_channels, backend.device, op, number)
        return raw.w.shape[0], partial(backend.pack_conv3x3, raw.w, raw.bias, dtype), raw.given
    if w.in_channels != in_channels:
        if number == "2":
            what = f"{op}: w2: expected {in_channels} input channels, as w1 has filters"
            raise ValueError(f"{what}, got {w.in_channels}")
        shape = f"[N, H, W, {w.in_channels}] (NHWC)"
        raise ValueError(f"{op}: x: expected {shape}, got {call.x.shape}")
    check_packed(op, w, bias, backend, dtype, number)
    return w.out_channels, lambda: w, memory_of(w, number)
