"""The programs that are measured, one small adapter each, every one in a process of its own.

An adapter is a module with

    def start(job: Job) -> Peer

which imports its library, and raises :class:`Absent` with the reason where it cannot run here.
``Peer.prepare(work)`` builds a :class:`Program` for one piece of work: the same weights and input
as everybody has (``work.tensors(job)``, ``work.input(job.seed)``), float32, NHWC and KRSC. The
worker holds its result against float64 before it times anything. On the host all compute with
``backends.threads.cores()`` threads, whatever the environment says, and none may keep them
spinning between calls: others are timed then.

A name of :data:`PEERS`, or of an importable module with a dot in it (``--peers my_package.trt``),
is an adapter; to add one here, write the module and name it there.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from ..clock import Clock
from ..work import Job, Work

OURS = "vgg_cuda"
CEILINGS = "ceilings"
PEERS: dict[str, str] = {
    OURS: "ours",
    "torch": "pytorch",
    "compile": "compiled",
    "onnxruntime": "onnx_runtime",
    "jax": "jax_jit",
    CEILINGS: "ceilings",
}
NAMES = tuple(name for name in PEERS if name not in (OURS, CEILINGS))


class Absent(Exception):  # noqa: N818 (no error: the others are measured)
    """A program that is not there, or not for this device, dtype or work; says why."""


@dataclass
class Program:
    """What is timed.

    ``call(i)`` computes with the i-th of ``copies`` of the input, and on a GPU may enqueue alone;
    ``before(i)`` goes before it, untimed. ``result()`` is that of the first copy, in host memory, a
    NumPy array [N,P,Q,K] or [N,K]. ``clock`` times a call. ``how`` it is called, for a reader:
    "plain calls", "CUDA graph". ``upload()`` copies the input from the host to the device and waits
    for it. ``kernels``: what runs, where that is known. ``counters``: the emulator's; then nothing
    is timed. ``steps``: of a profile, the layers of each part of a call. ``keep``: what must live
    as long as this: a CUDA graph knows addresses alone.
    """

    call: Callable[[int], Any]
    result: Callable[[], Any]
    clock: Clock
    how: str = "plain calls"
    copies: int = 1
    before: Callable[[int], Any] | None = None
    upload: Callable[[], Any] | None = None
    kernels: list[str] | None = None
    counters: dict[str, int] | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    keep: Any = None


class Peer(Protocol):
    """A library that is loaded; ``versions``: what it is, by name."""

    versions: dict[str, str]

    def prepare(self, work: Work) -> Program:
        """Raises :class:`Absent` for work that it cannot do."""
        ...


def start(name: str, job: Job) -> Peer:
    """The adapter called ``name``, loaded."""
    path = name if "." in name else f"{__name__}.{PEERS[name]}"
    module = importlib.import_module(path)
    return cast(Peer, module.start(job))


def peak_bytes(peer: Peer) -> int | None:
    """The most that it held on a GPU, where it can tell; else None."""
    ask = getattr(peer, "peak_bytes", None)
    return None if ask is None else ask()
