"""A PyTorch module's forward, recorded once before any call: is it a VGG's, and if not, why not?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...weights.chain import UnsupportedError
from ..torch_watched import why_watched
from .conditions import why_changed
from .recording import Misfit, Recorder, Unrecorded

USUAL_SIZE = (224, 224)


def trial(module: Any, source: str) -> tuple[Recorder, Any, tuple[int, int]] | None:
    """The recorded forward of ``module`` in ``eval()``, a parameter, and the size of its images.

    Dense layers that read all pixels decide the size. None where a call could not be recorded now:
    layers have hooks, say. Raises :class:`UnsupportedError` for what is no VGG.
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
    size, first = USUAL_SIZE, None
    while True:
        recorder = Recorder(module, named=True)
        try:
            recorder.record(lambda x: forward(module, x), (1, like.shape[1], *size), like)
        except Misfit as error:
            if first is not None:
                raise first from None
            first = error
            rows = next(n for n in range(int(error.cells**0.5), 0, -1) if error.cells % n == 0)
            size = rows << error.pools, error.cells // rows << error.pools
        except Unrecorded as error:
            raise (first if first is not None and first.convolution else error) from None
        else:
            return recorder, like, size


@contextmanager
def _in_eval(module: Any) -> Iterator[None]:
    """``eval()`` for a while, whatever a module makes of ``eval()``."""
    flags = [(inner, inner.training) for inner in module.modules()]
    for inner, _ in flags:
        inner.training = False
    try:
        yield
    finally:
        for inner, training in flags:
            inner.training = training
