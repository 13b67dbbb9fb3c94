"""PyTorch weights, packed once for this package's kernels and packed again when they change.

An entry is found by the very tensors that it was made from, and is good while each of them still
has the same storage, address, shape, strides, dtype, device and version. Every in-place operation
raises the version, whether an optimizer's, ``load_state_dict``'s or one under ``no_grad``; moving
or casting a module gives its parameters other storages. Three things the version does not tell:

- A batch norm in ``train()`` writes its running mean and variance and counts it nowhere. On the CPU
  their values are compared at every call; on a GPU that would wait for it, so that a convolution
  with a batch norm folded in is packed for every call.
- An optimizer with ``fused=True`` raises no version. Its steps are noted, see ``torch_state.py``.
- Writes through ``tensor.data`` (or NumPy, or another view that PyTorch does not know of), those of
  collectives such as ``torch.distributed.broadcast``, of replayed CUDA graphs, of a fused
  optimizer's step that is compiled itself. After these call :func:`refresh`.
- Inference tensors, made under ``torch.inference_mode()``, have none: they are packed anew for
  every call. Make parameters outside of it.

A tensor is told from others by an attribute of its own, and its entries go when that goes with it:
``torch.utils.swap_tensors`` refuses tensors with weak references. Storages are held weakly, so that
new memory at an old address is never taken for the old. There are at most ``MAX_ENTRIES``, the
least recently used go first. On a GPU every stream has entries of its own: what is packed on a
stream is used, and its memory used again, in that stream's order.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

try:
    import torch
except ImportError as error:
    raise ImportError('PyTorch is not installed: pip install "vgg-cuda[torch]"') from error

from ..arrays import dtype_name
from ..backends import Backend
from ..backends.streams import callers_stream
from ..ops.packing import pack_conv3x3, pack_linear
from .torch_state import state_of

__all__ = ["MAX_ENTRIES", "Norm", "PackedCache", "packed_conv3x3", "packed_linear", "refresh"]

MAX_ENTRIES = 1024

_ATTRIBUTE = "_vgg_cuda_identity"

T = TypeVar("T")


class Norm(NamedTuple):
    """A batch norm in ``eval()``; all [K], ``weight`` and ``bias`` perhaps None."""

    mean: torch.Tensor
    variance: torch.Tensor
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    eps: float


class _Identity:
    """Of one tensor. Pickled with it, where it is, it is nothing that a reader would not know."""

    __slots__ = ("__weakref__",)

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, ()


class _Entry(NamedTuple):
    identities: list[weakref.ref[_Identity] | None]
    state: list[Hashable]
    values: list[torch.Tensor]
    packed: Any


class PackedCache:
    """What ``pack()`` made of some tensors, until one of them changes or is gone. Thread-safe."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self.max_entries = max_entries
        # Least recently used first. The garbage collector may drop entries at any point of any
        # method, in the very thread that holds the lock: nothing relies on the dict staying as is.
        self._entries: dict[Hashable, _Entry] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(
        self, tensors: Sequence[torch.Tensor | None], how: Hashable, pack: Callable[[], T],
        compared: Sequence[torch.Tensor] = (),
    ) -> T:  # fmt: skip
        """``pack()``, or what it returned for the same tensors and ``how``, unchanged since.

        ``compared``: those of them, in host memory, whose values are compared, too.
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
        with self._lock:  # `state` and `values` are from before: a write meanwhile is noticed
            self._entries[key] = _Entry(refs, state, values, packed)
            while len(self._entries) > self.max_entries:
                self._entries.pop(next(iter(self._entries)), None)
        return packed

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._entries.clear()

    def _forgetter(self, key: Hashable) -> Callable[[object], None]:
        cache = weakref.ref(self)

        def forget(_: object) -> None:
            if (here := cache()) is not None:
                here._entries.pop(key, None)

        return forget

    def renew_lock(self) -> None:
        """For a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()


def _identity(tensor: torch.Tensor) -> _Identity:
    """What goes with ``tensor``, and with its values where ``swap_tensors`` swaps them."""
    found = tensor.__dict__.get(_ATTRIBUTE)
    if type(found) is not _Identity:  # what a pickle made of another's is none
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
os.register_at_fork(after_in_child=_cache.renew_lock)


def refresh() -> None:
    """Forgets all packed weights: the next calls read the tensors again.

    Needed after writes that PyTorch does not count, such as ``parameter.data.copy_(...)`` or
    ``torch.distributed.broadcast(parameter, 0)``.
    """
    _cache.clear()


def packed_conv3x3(
    backend: Backend, w: torch.Tensor, bias: torch.Tensor | None, norm: Norm | None = None
) -> Any:
    """W [K,C,3,3] and bias [K], as ``ops.conv3x3`` takes them, computed in w's dtype.

    ``norm``: folded in, in float64. All on the backend's device, whose current stream is used.
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
    """W [K,C] and bias [K], as ``ops.linear`` takes them; as :func:`packed_conv3x3`."""

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
    """Filters and bias, float32, of the convolution that equals w's and then the batch norm.

    BN(y) = weight * (y - mean) / sqrt(variance + eps) + bias; as ``weights.fold``, where the
    tensors are.
    """
    scale = (norm.variance.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.mean.double() if bias is None else bias.double() - norm.mean.double()
    shift = shift * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return (w.double() * scale.view(-1, 1, 1, 1)).float(), shift.float()
