"""Cache of PyTorch weights packed for this package's kernels; changed weights are packed again.

An entry belongs to the tensors that it was packed from. It is valid while each of them has the same
storage, address, shape, strides, dtype, device and version. Every in-place operation raises the
version: an optimizer's, ``load_state_dict``'s, one under ``no_grad``. Moving or casting a module
gives its parameters new storages. The version misses some changes:

- A batch norm in ``train()`` updates its running statistics without a new version. On the CPU their
  values are compared in every call. On a GPU the comparison would have to wait, so a convolution
  with a folded batch norm is packed in every call.
- An optimizer with ``fused=True`` raises no version. ``torch_state.py`` records its steps.
- Writes through ``tensor.data``, NumPy or another view unknown to PyTorch, by collectives such as
  ``torch.distributed.broadcast``, by replayed CUDA graphs, and by a compiled step of a fused
  optimizer. Call :func:`refresh` after these.
- Inference tensors, made under ``torch.inference_mode()``, have no version: they are packed in
  every call. Make parameters outside of it.

An attribute of the tensor identifies it, and entries are dropped with that attribute; weak
references to the tensor would make ``torch.utils.swap_tensors`` fail. Storages are held weakly, so
that new memory at an old address is never mistaken for the old. The cache drops the least recently
used of more than ``MAX_ENTRIES`` entries. On a GPU every stream has its own entries, since memory
is reused in the stream's order.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

try:
    import torch
except ImportError as error:
    raise ImportError(
        'PyTorch is not installed: pip install ".[torch]" in a clone of vgg_cuda'
    ) from error

from ..arrays import dtype_name
from ..backends import Backend
from ..backends.streams import callers_stream
from ..ops.packing import pack_conv3x3, pack_linear
from .fork import fork_lock
from .torch_state import state_of

__all__ = ["MAX_ENTRIES", "Norm", "PackedCache", "packed_conv3x3", "packed_linear", "refresh"]

MAX_ENTRIES = 1024

_ATTRIBUTE = "_vgg_cuda_identity"

T = TypeVar("T")


class Norm(NamedTuple):
    """A batch norm in ``eval()``; all tensors are [K], ``weight`` and ``bias`` may be None."""

    mean: torch.Tensor
    variance: torch.Tensor
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    eps: float


class _Identity:
    """Identity token of one tensor; pickles as an empty OrderedDict."""

    __slots__ = ("__weakref__",)

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, ()


class _Entry(NamedTuple):
    identities: list[weakref.ref[_Identity] | None]
    state: list[Hashable]
    values: list[torch.Tensor]
    packed: Any


class PackedCache:
    """Results of ``pack()`` for tensors, until one of them changes or is deleted. Thread-safe."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self.max_entries = max_entries
        # Least recently used first. The garbage collector may drop entries at any point of any
        # method, even in the thread that holds the lock.
        self._entries: dict[Hashable, _Entry] = {}
        self._lock = fork_lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(
        self, tensors: Sequence[torch.Tensor | None], how: Hashable, pack: Callable[[], T],
        compared: Sequence[torch.Tensor] = (),
    ) -> T:  # fmt: skip
        """Return ``pack()``, or its earlier result for the same ``how`` and unchanged tensors.

        ``compared`` are the tensors, in host memory, whose values are compared, too.
        """
        if any(t is not None and t.is_inference() for t in tensors):
            return pack()
        identities = [None if t is None else _identity(t) for t in tensors]
        key = (how, tuple(map(id, identities)))
        state = [None if t is None else state_of(t) for t in tensors]
        with self._lock:
            entry = self._entries.pop(key, None)
            if (
                entry is not None
                and entry.state == state
                and _same(entry.identities, identities)
                and all(map(torch.equal, entry.values, compared))
            ):
                self._entries[key] = entry  # now the most recently used
                found: T = entry.packed
                return found
        values = [t.detach().clone() for t in compared]
        packed = pack()
        forget = self._forgetter(key)
        refs = [None if each is None else weakref.ref(each, forget) for each in identities]
        with self._lock:  # `state` and `values` are from before: a concurrent write is noticed
            self._entries[key] = _Entry(refs, state, values, packed)
            while len(self._entries) > self.max_entries:
                self._entries.pop(next(iter(self._entries)), None)
        return packed

    def clear(self) -> None:
        """Drop all entries."""
        with self._lock:
            self._entries.clear()

    def _forgetter(self, key: Hashable) -> Callable[[object], None]:
        cache = weakref.ref(self)

        def forget(_: object) -> None:
            if (here := cache()) is not None:
                here._entries.pop(key, None)

        return forget


def _identity(tensor: torch.Tensor) -> _Identity:
    """Return the token of ``tensor``; ``swap_tensors`` swaps it along with the values."""
    found = tensor.__dict__.get(_ATTRIBUTE)
    if type(found) is not _Identity:  # also if a pickle has turned it into an OrderedDict
        found = tensor.__dict__[_ATTRIBUTE] = _Identity()
    return found


def _same(
    refs: Sequence[weakref.ref[_Identity] | None], identities: Sequence[_Identity | None]
) -> bool:
    return all(
        (None if ref is None else ref()) is identity
        for ref, identity in zip(refs, identities, strict=True)
    )


_cache = PackedCache()


def refresh() -> None:
    """Forget all packed weights: the next calls read the tensors again.

    This is necessary after writes that PyTorch does not count, such as
    ``parameter.data.copy_(...)`` or ``torch.distributed.broadcast(parameter, 0)``.
    """
    _cache.clear()


def packed_conv3x3(
    backend: Backend, w: torch.Tensor, bias: torch.Tensor | None, norm: Norm | None = None
) -> Any:
    """Return w [K,C,3,3] and bias [K] packed for ``ops.conv3x3`` in w's dtype.

    ``norm`` is folded in float64. All tensors are on the backend's device; packing uses its current
    stream.
    """
    tensors = (w, bias, *(norm[:4] if norm else ()))

    def pack() -> Any:
        with torch.no_grad(), callers_stream(w, "conv3x3: w"):
            filters, shift = (w, bias) if norm is None else _fold(w, bias, norm)
            krsc = filters.detach().permute(0, 2, 3, 1).contiguous()
            shift = None if shift is None else shift.detach()
            return pack_conv3x3(backend, krsc, shift, dtype=dtype_name(w.dtype))

    how = _how("conv3x3", backend, w, norm.eps if norm else None)
    if norm is None:
        return _cache.get(tensors, how, pack)
    return pack() if w.is_cuda else _cache.get(tensors, how, pack, compared=norm[:2])


def packed_linear(backend: Backend, w: torch.Tensor, bias: torch.Tensor | None) -> Any:
    """Return w [K,C] and bias [K] packed for ``ops.linear``, like :func:`packed_conv3x3`."""

    def pack() -> Any:
        with callers_stream(w, "linear: w"):
            shift = None if bias is None else bias.detach()
            return pack_linear(backend, w.detach(), shift, dtype=dtype_name(w.dtype))

    return _cache.get((w, bias), _how("linear", backend, w), pack)


def _how(op: str, backend: Backend, w: torch.Tensor, eps: float | None = None) -> Hashable:
    stream = torch.cuda.current_stream(w.device).cuda_stream if w.is_cuda else 0
    return op, backend.device, stream, eps


def _fold(
    w: torch.Tensor, bias: torch.Tensor | None, norm: Norm
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 filters and bias of one convolution that equals w's and then the batch norm.

    BN(y) = weight * (y - mean) / sqrt(variance + eps) + bias. Like ``weights.fold``, but on the
    tensors' device.
    """
    scale = (norm.variance.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.mean.double() if bias is None else bias.double() - norm.mean.double()
    shift = shift * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return (w.double() * scale.view(-1, 1, 1, 1)).float(), shift.float()
