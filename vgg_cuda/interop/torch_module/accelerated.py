"""Subclasses of modules' classes whose forward runs on this package's kernels if possible."""

from __future__ import annotations

import functools
from typing import Any

import torch

from ...arrays import dtype_name, kind
from ...backends import check_known_arch
from ...weights.chain.layers import UnsupportedError
from .report import Calls, Report
from .runtime import Runtime
from .trial import PARALLEL

DTYPES = ("float32", "tf32", "float16", "bfloat16")
RUNTIME = "_vgg_cuda_runtime"
OWN = ("calls", "why", "report", "refresh", RUNTIME)


class Accelerated:
    """The attributes that ``from_torch`` adds to a module's class."""

    @property
    def calls(self) -> Calls:
        """Numbers of calls on this package's kernels and by the original forward."""
        return _runtime(self).log.calls

    @property
    def why(self) -> str | None:
        """The reason for the original forward in the last call; None if kernels ran."""
        return _runtime(self).log.why

    def report(self) -> Report:
        """Return what ran where: calls by kind of input, with kernels' layers or PyTorch's reason.

        ``print(module.report())`` shows a line for each kind.
        """
        return _runtime(self).log.report()

    def refresh(self) -> None:
        """Forget the packed weights: the next call reads the parameters again.

        This is necessary after writes that PyTorch does not count, such as
        ``parameter.data.copy_(...)`` or ``torch.distributed.broadcast(parameter, 0)``.
        """
        _runtime(self).packed.clear()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy or pickle the original module and the requested dtype and arch."""
        runtime = _runtime(self)
        return _again, (original(self), runtime.dtype, runtime.arch)


def accelerate(module: Any, dtype: Any, arch: str | None) -> Any:
    """Return ``module`` accelerated; see ``vgg_cuda.from_torch``."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"from_torch: expected a torch.nn.Module, got {kind(module)}")
    name = None if dtype is None else dtype_name(dtype)
    if name not in (None, *DTYPES):
        raise ValueError(f"from_torch: dtype: expected {' or '.join(DTYPES)}, got {name!r}")
    try:
        check_known_arch(arch)
    except (TypeError, ValueError) as error:
        raise type(error)(f"from_torch: {error}") from None
    if isinstance(module, Accelerated):
        module = original(module)
    _check_class(module)
    accelerated = _again(module, name, arch)
    _runtime(accelerated).prepare(module)
    return accelerated


def original(accelerated: Any) -> Any:
    """Return a module of the original class that shares ``accelerated``'s attributes."""
    state = {name: value for name, value in accelerated.__dict__.items() if name != RUNTIME}
    return _sharing(type(accelerated).__mro__[2], state)


def _again(module: Any, dtype: str | None, arch: str | None) -> Any:
    state = module.__dict__ | {RUNTIME: Runtime(dtype, arch)}
    return _sharing(_subclass(module.__class__), state)


def _sharing(cls: type, state: dict[str, Any]) -> Any:
    """Return an object of ``cls`` with the given attributes; dicts of layers are shared."""
    module: Any = object.__new__(cls)
    module.__dict__.update(state)
    return module


def _runtime(module: Any) -> Runtime:
    """Return the module's runtime, a new one for a slice of an accelerated ``nn.Sequential``."""
    runtime: Runtime = module.__dict__.setdefault(RUNTIME, Runtime())
    return runtime


@functools.cache
def _subclass(base: Any) -> Any:
    """Return a subclass of ``base`` with another forward."""

    @functools.wraps(base.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return base.forward(self, *args, **kwargs)
        return _runtime(self).call(self, functools.partial(base.forward, self), args, kwargs)

    # torch.compile compiles a code object eight times at most, then no more: one for every class.
    own: Any = forward
    own.__code__ = own.__code__.replace()
    namespace = {"forward": forward, "__module__": base.__module__, "__doc__": base.__doc__}
    return type(base)(f"Accelerated{base.__name__}", (Accelerated, base), namespace)


def _check_class(module: Any) -> None:
    """Raise for modules whose class does not define their forward, and for name clashes."""
    source = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError(f"{source}: compiled by torch.jit; pass the original module")
    if hasattr(module, "_orig_mod"):
        raise UnsupportedError(f"{source}: compiled by torch.compile; pass the original module")
    if "forward" in module.__dict__:
        raise UnsupportedError(
            f"{source}: its forward was replaced on the object; define it in a class"
        )
    if isinstance(module, PARALLEL) and len(module.device_ids) > 1:
        raise UnsupportedError(
            f"{source}: expected one device, got {len(module.device_ids)}; pass module.module, and "
            "run one process for each GPU"
        )
    for name in OWN:
        if hasattr(module, name):
            raise UnsupportedError(
                f"{source}: has an attribute {name!r}, which from_torch adds; rename it"
            )
