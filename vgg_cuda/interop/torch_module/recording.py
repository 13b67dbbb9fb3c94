"""Recording of what a PyTorch module's ``forward`` does with its input.

The forward is called with a :class:`Recorded` tensor, which has a shape and no values. Every
operation on it reaches ``__torch_function__`` and becomes a :class:`Step`. Classes and names decide
nothing: an overridden forward, a replaced layer or a branch on the input's size are recorded as
this very call runs them. Operations that :mod:`.operations` does not have raise
:class:`Unrecorded`.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import overrides
from torch.utils._pytree import tree_flatten, tree_leaves

from ...weights.chain.layers import Layer
from .records import CONSTANTS, Output, Result, Step, Unrecorded

OPERATIONS: dict[Any, Callable[..., Any]] = {}
"""Functions that record PyTorch's operations: f(recorder, *args, **kwargs)."""

QUERIES: set[Any] = set()
"""Operations that need no values, such as ``x.shape``."""


OVERWRITTEN = -1


class Recorded(torch.Tensor):  # type: ignore[misc, unused-ignore] # without torch it is Any
    """A tensor [N,C,H,W] or [N,K] without values: the result of ``position`` steps.

    ``position`` is ``OVERWRITTEN`` after an in-place step on another tensor of the same
    ``memory``, unless it is certainly the ``same``. ``vector``: the tensor has one value per
    channel, [N,K] or [N,K,1,1]. ``is_input``: it is the caller's. ``number`` identifies the object.
    """

    is_input: bool
    recorder: Recorder
    position: int
    vector: bool
    memory: object
    same: object
    number: int

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if func in QUERIES:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **named)
        leaves = args[:1] if args and type(args[0]) is Recorded else tree_leaves((args, named))
        recorder = next((x.recorder for x in leaves if type(x) is Recorded), None)
        operation = OPERATIONS.get(func)
        if recorder is None:
            raise Unrecorded(f"cannot run {_label(func)}")
        try:
            if operation is None:
                raise Unrecorded(f"cannot run {_label(func)}")
            return operation(recorder, *args, **named)
        except Exception as error:
            recorder.fail(error)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override, unused-ignore] # PyTorch's is a static one
        cls, func: Any, *_: Any, **__: Any
    ) -> Any:
        """Refuse what bypasses ``__torch_function__``: extensions in C++."""
        raise Unrecorded(f"cannot run {_label(func)}")


class Recorder:
    """One call of a forward: its steps so far, and the state of the recorded image.

    ``pools`` counts the halvings. ``pooled``: the grid has a fixed size; ``adaptive``: by the
    forward's own pool. ``one_size``: the steps hold for images of this size only. ``channels`` is
    the number of flattened channels. ``cells`` is the number of pixels that the first dense layer
    reads if it does not fit; ``convolution``: that layer is a convolution. ``outputs`` are the
    tensors that the forward returned.
    """

    def __init__(self, module: Any, *, named: bool = False) -> None:
        self.module = module
        self.named = named
        self.steps: list[Step] = []
        self.failure: Unrecorded | None = None
        self.pools = self.channels = self.cells = 0
        self.pooled = self.adaptive = self.one_size = self.convolution = False
        self.outputs: list[Output] = []
        self._made: list[weakref.ref[Any]] = []
        self._versions: list[list[Any]] = []  # of each step's tensors
        self._like: Any = None
        self._counters: dict[int, Any] | None = None

    def record(self, forward: Callable[[Any], Any], shape: Any, like: Any) -> Result:
        """Return what ``forward`` returns for an input of ``shape``; drop steps behind it.

        The input has ``like``'s dtype and device. Raises :class:`Unrecorded`, also if the forward
        keeps a tensor.
        """
        self._like = like
        try:
            result = forward(self.tensor(tuple(shape)))
        except Unrecorded as error:
            raise self.failure or error from None
        except Exception as error:  # the original forward raises it again
            raise self.failure or Unrecorded(f"forward: {error}") from error
        if self.failure is not None:  # the forward caught it
            raise self.failure
        given, spec = tree_flatten(result)
        found = Result([self._leaf(each) for each in given], spec)
        self.outputs = found.outputs
        for step, versions in zip(self.steps, self._versions, strict=True):
            if versions != [_version(tensor) for tensor in step.tensors]:
                name = step.name or "a layer"
                raise Unrecorded(f"forward: a tensor of {name} is written after it was used")
        del result, given, self.steps[max((o.position for o in self.outputs), default=0) :]
        if any(made() is not None for made in self._made):  # it would never get values
            raise Unrecorded("forward: keeps a tensor beyond the call")
        return found

    def _leaf(self, leaf: Any) -> Any:
        """Return the record of one leaf of a forward's result."""
        if type(leaf) in CONSTANTS:
            return leaf
        if type(leaf) is not Recorded or leaf.recorder is not self:
            raise Unrecorded(
                "forward: expected tensors computed from the input, in lists, tuples and dicts, as "
                f"its result, got {type(leaf)}"
            )
        if leaf.position == OVERWRITTEN:
            raise Unrecorded("forward: returns a tensor that is overwritten in place")
        if leaf.position == 0 and not leaf.is_input:
            raise Unrecorded("forward: returns a copy of its input")
        return Output(leaf.position, shape_of(leaf), leaf.number)

    def tensor(self, shape: tuple[int, ...], *, vector: bool = False) -> Recorded:
        """Return the result of the steps so far."""
        made = torch.Tensor._make_wrapper_subclass(
            Recorded, shape, dtype=self._like.dtype, device=self._like.device
        )
        made.recorder, made.position, made.vector = self, len(self.steps), vector
        made.is_input, made.number, made.memory = not self._made, len(self._made), object()
        made.same = made.memory
        self._made.append(weakref.ref(made))
        return made

    def step(
        self, x: Any, make: Callable[..., Layer], shape: tuple[int, ...], *tensors: Any,
        options: tuple[Any, ...] = (), vector: bool = False,
    ) -> Recorded:  # fmt: skip
        """Return the result of a new step; x must be the last step's result: no branches."""
        self.expect_last(x)
        name = self.where()[0] if self.named else ""
        self.steps.append(Step(make, tensors, options, name))
        self._versions.append([_version(tensor) for tensor in tensors])
        return self.tensor(shape, vector=vector)

    def alias(self, x: Any, *, copied: bool = False, same: bool = False) -> Any:
        """Return another tensor with x's values: ``copied``, in the ``same`` memory, or either."""
        made = self.tensor(shape_of(x), vector=x.vector)
        made.position = x.position
        if not copied:
            made.memory, made.is_input = x.memory, x.is_input
            made.same = x.same if same else made.same
        return made

    def overwrite(self, x: Any, made: Recorded) -> Any:
        """Return x, which an in-place step has turned into ``made``."""
        for each in self._made:
            other = each()
            if other is not None and other.memory is x.memory:
                other.position = made.position if other.same is x.same else OVERWRITTEN
        return x

    def counter(self, running_mean: Any) -> Any:
        """Return the ``num_batches_tracked`` beside ``running_mean``, None without one."""
        if self._counters is None:
            buffers = [inner._buffers for inner in self.module.modules()]
            self._counters = {
                id(each["running_mean"]): each.get("num_batches_tracked")
                for each in buffers
                if "running_mean" in each
            }
        return self._counters.get(id(running_mean))

    def expect_last(self, x: Any) -> None:
        """Raise unless ``x`` is the last step's result."""
        if type(x) is not Recorded or x.recorder is not self or x.position != len(self.steps):
            raise Unrecorded("expected one layer after another, got branches")

    def misfit(self, text: str, cells: int, convolution: bool = False) -> Unrecorded:
        """Return an error of a dense layer that reads ``cells`` pixels and got another number."""
        self.cells, self.convolution = self.cells or cells, convolution
        return Unrecorded(text)

    def fail(self, error: Exception) -> NoReturn:
        """Raise the first failure, also if the forward has caught it before."""
        name, module = self.where()
        if isinstance(error, TypeError):  # an argument that the operation here does not have
            error = Unrecorded(f"expected other arguments: {error}")
        text = str(error).replace("{module}", module)
        self.failure = self.failure or Unrecorded(f"{name}: {text}")
        raise self.failure from None

    def where(self) -> tuple[str, str]:
        """Return the dotted name of the module whose forward is running, and its repr."""
        frame: Any = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            first = code.co_varnames[0] if code.co_argcount else "self"
            module = frame.f_locals.get(first)
            if isinstance(module, torch.nn.Module):
                break
            frame = frame.f_back
        else:
            module = self.module  # its forward has unnamed arguments, or has returned
        if module is self.module:
            return "forward", f"what {type(module).__name__}.forward does"
        name = next((n for n, m in self.module.named_modules() if m is module), "forward")
        return name, repr(module).partition("\n")[0]


def shape_of(x: Any) -> tuple[int, ...]:
    """Return the shape of a recorded tensor."""
    with torch._C.DisableTorchFunctionSubclass():
        return tuple(x.shape)


def _version(tensor: Any) -> Any:
    """Return a value that changes if ``tensor`` is written and PyTorch counts the write."""
    if tensor is None:
        return None
    return None if tensor.is_inference() else tensor._version, tensor.data_ptr()


def _label(func: Any) -> str:
    return overrides.resolve_name(func) or str(getattr(func, "__qualname__", func))
