"""Report of a module's calls by kind, and a warning for each reason of PyTorch's calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ...configs import Config, Conv
from ...system.notices import FallbackWarning, warn
from ..torch_conditions import PLAIN_TENSORS

MAX_ROWS = 64
TORCH = str(Path(torch.__file__).parent)

CURES = {
    "is in training mode": "call eval()",
    "parameters of": "call it under torch.no_grad() or torch.inference_mode()",
    "the input requires grad": "pass x.detach(), or call it under torch.no_grad()",
    "hooks": "remove the hooks, or return the activations from forward",
    "autocast": "call it outside of autocast, and choose the precision with from_torch(dtype=...)",
    "is compiled": "pass the original module to from_torch",
    "plain tensor as input": "pass a torch.Tensor",
    "batch [N, C, H, W]": "pass a batch of images, x[None] for one image",
    "expected one argument": "pass the images alone",
    "expected an input in": "cast the input or the module",
    "on the CPU, only in float32": 'pass dtype="float32" to from_torch',
    "no kernels compute in": "use float32, or float16 or bfloat16 on a GPU",
    "is not available": "vgg-cuda info says what the GPU needs",
    "torch.jit traces": "trace the original module",
    "torch.func": "call it outside of the transform",
    "forward-mode derivatives": "call it outside of forward-mode derivatives",
    "CUDA graph": "capture the original module",
    "a mode that follows operations": "call it outside of the mode",
    "cannot run": "return the activations from forward and do the rest outside",
    "branches": "give from_torch the part that is a chain of layers",
}
"""Advice for reasons that contain a text, the first that fits."""

OTHERWISE = "docs/pytorch.md lists what kernels run"


class Row(NamedTuple):
    """Calls of one kind: their number, input, place, and layers or reason.

    ``where`` is "kernels" or "original". ``layers`` lists what kernels computed; ``why`` is the
    reason for the original forward, followed by advice.
    """

    calls: int
    input: str
    where: str
    layers: str
    why: str


class Report(tuple[Row, ...]):
    """Rows of a module's calls, the first kind first; printed as text."""

    __slots__ = ()

    def __str__(self) -> str:
        """Return a line for every row."""
        lines = [
            f"{row.calls:>6} x {row.input}: {row.where}: {row.layers or row.why}" for row in self
        ]
        return "\n".join(lines or ["no calls yet"])

    __repr__ = __str__


class Calls(NamedTuple):
    """Numbers of calls on this package's kernels and by the module's own forward."""

    kernels: int
    original: int


class Log:
    """Counts of calls by kind; not thread-safe by itself."""

    def __init__(self) -> None:
        self.calls = Calls(0, 0)
        self.why: str | None = None
        self._rows: dict[tuple[str, str, str], int] = {}
        self._warned: set[str] = set()

    def count(self, given: Sequence[Any], layers: str, why: str | None) -> bool:
        """Count a call; return whether its reason ``why`` has not been warned of."""
        kernels, original = self.calls
        self.calls = Calls(kernels + (why is None), original + (why is not None))
        self.why = why
        kind = describe(given), layers, why or ""
        if kind in self._rows or len(self._rows) < MAX_ROWS:
            self._rows[kind] = self._rows.get(kind, 0) + 1
        pattern = re.sub(r"\d+", "0", why or "")
        new = why is not None and pattern not in self._warned
        self._warned.add(pattern)
        return new

    def report(self) -> Report:
        """Return all rows."""
        return Report(
            Row(n, given, "original" if why else "kernels", layers, why and advised(why))
            for (given, layers, why), n in self._rows.items()
        )


def warn_of(source: str, why: str) -> None:
    """Warn at the caller's line that PyTorch runs a call of the module ``source``."""
    text = f"{source}: PyTorch runs this call, since {advised(why)}"
    warn(text, FallbackWarning, (TORCH,))


def advised(why: str) -> str:
    """Return ``why`` with advice, unless the text has some."""
    advice = next((cure for text, cure in CURES.items() if text in why), OTHERWISE)
    said = "call eval()" in why or "call under" in why
    return why if said else f"{why}; {advice}"


def describe(given: Sequence[Any]) -> str:
    """Return the shape, dtype and device of the inputs; of others than plain tensors, the type."""
    plain = PLAIN_TENSORS if torch._C._get_tracing_state() is None else ()
    return ", ".join(
        f"{list(x.shape)} {str(x.dtype).removeprefix('torch.')} on {x.device}"
        if type(x) in plain
        else type(x).__name__
        for x in given
    )


def layers_text(config: Config, pools: int, returned: Sequence[str]) -> str:
    """Return the layers that kernels compute behind ``pools`` max-pools, and the results' names."""
    counts = {
        "convolution": sum(isinstance(layer, Conv) for layer in config.features),
        "max-pool": pools + config.pools,
        f"global {config.reduces} pool": config.reduces != "none",
        "dense layer": len(config.dense),
    }
    ran = ", ".join(f"{n} {what}{'s' if n > 1 else ''}" for what, n in counts.items() if n)
    return f"{ran}; returns {', '.join(returned)}"
