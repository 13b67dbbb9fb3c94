"""Trial recording of a module's forward before any call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from ...weights.chain.layers import UnsupportedError
from ..torch_conditions import why_changed, why_watched
from .recording import Recorder
from .records import Unrecorded

PARALLEL = torch.nn.DataParallel
USUAL_SIZE = (224, 224)


def trial(module: Any, source: str) -> tuple[Recorder, Any, tuple[int, int]] | None:
    """Return ``module``'s forward recorded in ``eval()``, a parameter, and the image size.

    Dense layers that read all pixels decide the size. Returns None if recording is impossible now,
    for example because layers have hooks. Raises :class:`UnsupportedError` for other networks.
    """
    convolutions = [m for m in module.modules() if isinstance(m, torch.nn.Conv2d)]
    if not convolutions:
        raise UnsupportedError(f"{source}: expected 3x3 convolutions, found none")
    like = convolutions[0].weight
    inner = [m for m in module.modules() if m is not module]
    if why_watched(like.device.type) or any(map(why_changed, inner)):
        return None
    try:
        with torch.no_grad(), _in_eval(module):
            return _record(module, type(module).forward, like)
    except Unrecorded as error:
        raise UnsupportedError(f"{source}: {error}") from None


def _record(
    module: Any, forward: Callable[..., Any], like: Any
) -> tuple[Recorder, Any, tuple[int, int]]:
    """Record images of the usual size; if a dense layer does not fit, of the size that it reads."""
    recorded = recordable(module, partial(forward, module))

    def attempt(recorder: Recorder, size: tuple[int, int]) -> tuple[Recorder, Any, tuple[int, int]]:
        recorder.record(recorded, (1, like.shape[1], *size), like)
        return recorder, like, size

    first, second = (Recorder(module, named=True) for _ in range(2))
    try:
        return attempt(first, USUAL_SIZE)
    except Unrecorded as error:
        cells = first.cells
        if not cells:
            raise
        rows = next(n for n in range(int(cells**0.5), 0, -1) if cells % n == 0)
        try:
            return attempt(second, (rows << first.pools, cells // rows << first.pools))
        except Unrecorded as other:
            raise (error if first.convolution or second.cells else other) from None


def recordable(module: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return the part of ``module``'s ``forward`` that computes: ``DataParallel``'s inner module.

    DataParallel copies inputs to its device first; an input on another device is not accelerated.
    """
    inner: Callable[..., Any] = module.module if isinstance(module, PARALLEL) else forward
    return inner


@contextmanager
def _in_eval(module: Any) -> Iterator[None]:
    """Set every module's flag for a while, without a call of its ``eval()``."""
    flags = [(inner, inner.training) for inner in module.modules()]
    for inner, _ in flags:
        inner.training = False
    try:
        yield
    finally:
        for inner, training in flags:
            inner.training = training
