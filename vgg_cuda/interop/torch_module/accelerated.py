"""Modules whose forward runs on this package's kernels where it can, as subclasses of their own."""

from __future__ import annotations

import functools
from typing import Any

import torch

from ...arrays import dtype_name, kind
from ...weights.chain import UnsupportedError
from .runtime import Calls, Runtime

DTYPES = ("float32", "tf32", "float16", "bfloat16")
RUNTIME = "_vgg_cuda_runtime"
OWN = ("calls", "why", "refresh", RUNTIME)


class Accelerated:
    """What ``from_torch`` adds to a module's class."""

    @property
    def calls(self) -> Calls:
        """How many calls ran on this package's kernels, and how many on the original forward."""
        return _runtime(self).calls

    @property
    def why(self) -> str | None:
        """Why the last call ran on the original forward; None where it did not."""
        return _runtime(self).why

    def refresh(self) -> None:
        """Forgets the packed weights: the next call reads the parameters again.

        Needed after writes that PyTorch does not count: ``parameter.data.copy_(...)``,
        ``torch.distributed.broadcast(parameter, 0)``.
        """
        _runtime(self).packed.clear()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As the original and how it was accelerated: for copies and pickles."""
        return _again, (original(self), _runtime(self).dtype)


def accelerate(module: Any, dtype: Any) -> Any:
    """``vgg_cuda.from_torch``."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"from_torch: expected a torch.nn.Module, got {kind(module)}")
    name = None if dtype is None else dtype_name(dtype)
    if name not in (None, *DTYPES):
        raise ValueError(f"from_torch: unknown dtype {name!r}: expected {' or '.join(DTYPES)}")
    if isinstance(module, Accelerated):
        module = original(module)
    _check_class(module)
    accelerated = _again(module, name)
    _runtime(accelerated).prepare(module)
    return accelerated


def original(accelerated: Any) -> Any:
    """A module of the original class that shares all that ``accelerated`` has."""
    state = {name: value for name, value in accelerated.__dict__.items() if name != RUNTIME}
    return _sharing(type(accelerated).__mro__[2], state)


def _again(module: Any, dtype: str | None) -> Any:
    return _sharing(_subclass(module.__class__), module.__dict__ | {RUNTIME: Runtime(dtype)})


def _sharing(cls: type, state: dict[str, Any]) -> Any:
    """An object of ``cls`` with another's attributes; dicts of layers and hooks are the same."""
    module: Any = object.__new__(cls)
    module.__dict__.update(state)
    return module


def _runtime(module: Any) -> Runtime:
    """Also of modules that were made by the class: slices of an accelerated ``nn.Sequential``."""
    runtime: Runtime = module.__dict__.setdefault(RUNTIME, Runtime())
    return runtime


@functools.cache
def _subclass(base: Any) -> Any:
    """``base`` with another forward; its instances have no ``__init__`` of their own."""

    @functools.wraps(base.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return base.forward(self, *args, **kwargs)
        return _runtime(self).call(self, functools.partial(base.forward, self), args, kwargs)

    namespace = {"forward": forward, "__module__": base.__module__, "__doc__": base.__doc__}
    return type(base)(f"Accelerated{base.__name__}", (Accelerated, base), namespace)


def _check_class(module: Any) -> None:
    """Raises for modules whose class decides nothing about their forward, and for name clashes."""
    source = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError(f"{source}: compiled by torch.jit; pass the module it was made from")
    if hasattr(module, "_orig_mod"):
        raise UnsupportedError(f"{source}: compiled by torch.compile; pass the module before")
    if "forward" in module.__dict__:
        raise UnsupportedError(
            f"{source}: its forward was replaced on the object; define it in a class"
        )
    for name in OWN:
        if hasattr(module, name):
            raise UnsupportedError(
                f"{source}: has an attribute {name!r}, which from_torch adds; rename it"
            )
