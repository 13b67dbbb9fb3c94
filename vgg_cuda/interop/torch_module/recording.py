"""What a PyTorch module does with its input, written down as its own ``forward`` runs.

The forward is called with a :class:`Recorded` tensor, which has a shape and no values; every
operation on it comes to ``__torch_function__`` and becomes a :class:`Step`. Nothing is guessed from
classes or names: an overridden forward, a replaced layer, a branch on the input's size are what
they are in this very call. What :mod:`.operations` does not know raises :class:`Unrecorded`.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import overrides

OPERATIONS: dict[Any, Callable[..., Any]] = {}
"""How each of PyTorch's operations is recorded: f(recorder, *args, **kwargs)."""

ASKED: set[Any] = set()
"""What a forward may ask a tensor without values."""


class Unrecorded(Exception):  # noqa: N818 - not an error: the module's own forward runs
    """What a forward does that this package cannot run; the text names the module."""


class Misfit(Unrecorded):
    """A first dense layer that reads another number of pixels than there are.

    ``cells`` of them it reads, after ``pools`` halvings; ``convolution``: it is written as one.
    """

    def __init__(self, text: str, cells: int, pools: int, convolution: bool) -> None:
        super().__init__(text)
        self.cells, self.pools, self.convolution = cells, pools, convolution


@dataclass(frozen=True)
class Step:
    """One layer: its ``kind``, the tensors that it reads beside its input, an epsilon or a grid.

    ``name`` is its module's, where names were asked for.
    """

    kind: str
    tensors: tuple[Any, ...] = ()
    number: float = 0
    name: str = ""


class Recorded(torch.Tensor):  # type: ignore[misc, unused-ignore] # without torch it is Any
    """A tensor [N,C,H,W] or [N,K] that is yet to be computed, after ``position`` steps.

    ``vector``: one value per channel, [N,K] or [N,K,1,1].
    """

    recorder: Recorder
    position: int
    vector: bool

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in ASKED:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        named = kwargs or {}
        first = args[0] if args else None
        recorder = first.recorder if type(first) is Recorded else next(_all((args, named)), None)
        operation = OPERATIONS.get(func)
        try:
            if recorder is None or operation is None:
                raise Unrecorded(f"cannot run {_label(func)}")
            return operation(recorder, *args, **named)
        except Exception as error:
            if recorder is None:
                raise
            recorder.fail(error)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override, unused-ignore] # PyTorch's is a static one
        cls, func: Any, *_: Any, **__: Any
    ) -> Any:
        """What came around ``__torch_function__``: an extension in C++."""
        raise Unrecorded(f"cannot run {_label(func)}")


class Recorder:
    """One call of a forward: the steps so far, and what they made of the input's shape."""

    def __init__(self, module: Any, *, named: bool = False) -> None:
        self.module = module
        self.named = named
        self.steps: list[Step] = []
        self.failure: Unrecorded | None = None
        self.pools = 0
        self.pooled = False  # to a grid of a fixed size
        self.adaptive = False  # and by the forward's own will
        self.one_size = False  # only images of this size make these steps
        self.channels = 0  # that were flattened
        self._made: list[weakref.ref[Any]] = []
        self._read: list[list[Any]] = []  # of each step's tensors, the states that it read
        self._like: Any = None
        self._counters: dict[int, Any] | None = None

    def record(self, forward: Callable[[Any], Any], shape: Any, like: Any) -> tuple[int, ...]:
        """The result's shape of ``forward`` on an input of ``shape``, ``like``'s dtype and device.

        Raises :class:`Unrecorded`, also where the forward keeps a tensor for itself.
        """
        self._like = like
        try:
            result = forward(self.tensor(tuple(shape)))
        except Unrecorded as error:
            raise self.failure or error from None
        except Exception as error:  # the original will raise its own
            raise self.failure or Unrecorded(f"forward: {error}") from error
        if self.failure is not None:  # and the forward went on without
            raise self.failure
        if type(result) is not Recorded or result.recorder is not self:
            raise Unrecorded(f"forward: expected one tensor as its result, got {type(result)}")
        self.expect_last(result)
        for step, read in zip(self.steps, self._read, strict=True):
            if read != [_written(tensor) for tensor in step.tensors]:
                name = step.name or step.kind
                raise Unrecorded(f"forward: a tensor of {name} is written after it was used")
        found = shape_of(result)
        del result
        if any(made() is not None for made in self._made):  # its values would never come
            raise Unrecorded("forward: keeps a tensor beyond the call")
        return found

    def tensor(self, shape: tuple[int, ...], *, vector: bool = False) -> Recorded:
        """What comes after the steps so far."""
        made = torch.Tensor._make_wrapper_subclass(
            Recorded, shape, dtype=self._like.dtype, device=self._like.device
        )
        made.recorder, made.position, made.vector = self, len(self.steps), vector
        self._made.append(weakref.ref(made))
        return made

    def step(
        self,
        x: Any,
        kind: str,
        shape: tuple[int, ...],
        *tensors: Any,
        number: float = 0,
        vector: bool = False,
    ) -> Recorded:
        """What a step of ``x`` makes; x must be what the last one made: no branches."""
        self.expect_last(x)
        name = self.where()[0] if self.named else ""
        self.steps.append(Step(kind, tensors, number, name))
        self._read.append([_written(tensor) for tensor in tensors])
        return self.tensor(shape, vector=vector)

    def counters(self) -> dict[int, Any]:
        """The ``num_batches_tracked`` of batch norms, by the identity of their ``running_mean``."""
        if self._counters is None:
            buffers = [inner._buffers for inner in self.module.modules()]
            self._counters = {
                id(each["running_mean"]): each["num_batches_tracked"]
                for each in buffers
                if "running_mean" in each and "num_batches_tracked" in each
            }
        return self._counters

    def expect_last(self, x: Any) -> None:
        """Raises where ``x`` is not what the last step made."""
        if type(x) is not Recorded or x.recorder is not self or x.position != len(self.steps):
            raise Unrecorded("expected one layer after another, got branches")

    def fail(self, error: Exception) -> NoReturn:
        """Remembers the first failure, whatever the forward makes of it, and raises it."""
        name, module = self.where()
        if isinstance(error, TypeError):  # arguments that an operation here does not take
            error = Unrecorded(f"arguments that are not known: {error}")
        text = str(error).replace("{module}", module)
        if isinstance(error, Misfit):
            failure: Unrecorded = Misfit(
                f"{name}: {text}", error.cells, error.pools, error.convolution
            )
        else:
            failure = Unrecorded(f"{name}: {text}")
        self.failure = self.failure or failure
        raise self.failure from None

    def where(self) -> tuple[str, str]:
        """The dotted name of the module whose forward is running, and what it is."""
        frame: Any = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            first = code.co_varnames[0] if code.co_argcount else "self"
            module = frame.f_locals.get(first)
            if isinstance(module, torch.nn.Module):
                break
            frame = frame.f_back
        else:
            module = self.module  # its forward's arguments have no names, or are gone
        if module is self.module:
            return "forward", f"what {type(module).__name__}.forward does"
        name = next((n for n, m in self.module.named_modules() if m is module), "forward")
        return name, repr(module).partition("\n")[0]


def check_parameters(weight: Any, bias: Any) -> None:
    """Raises for what is no plain parameter, such as one that is computed anew in every call."""
    for tensor in (weight, bias):
        if tensor is not None and type(tensor) is not torch.nn.Parameter:
            found = type(tensor).__name__
            raise Unrecorded(f"expected plain parameters, got a {found} in {{module}}")


def _written(tensor: Any) -> Any:
    """What is another after ``tensor`` was written, where PyTorch tells."""
    if tensor is None:
        return None
    return None if tensor.is_inference() else tensor._version, tensor.data_ptr()


def shape_of(x: Any) -> tuple[int, ...]:
    """The shape of a recorded tensor."""
    with torch._C.DisableTorchFunctionSubclass():
        return tuple(x.shape)


def _all(value: Any) -> Iterator[Recorder]:
    """The recorders of all recorded tensors in arguments."""
    if type(value) is Recorded:
        yield value.recorder
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _all(item)
    elif isinstance(value, dict):
        yield from _all(list(value.values()))


def _label(func: Any) -> str:
    return overrides.resolve_name(func) or str(getattr(func, "__qualname__", func))
