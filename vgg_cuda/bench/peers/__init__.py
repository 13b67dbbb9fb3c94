"""Adapters of the measured programs. Each program runs in its own process.

An adapter is a module with

    def start(job: Job) -> Peer

which imports its library, and raises :class:`Absent` with the reason if it cannot run here.
``Peer.prepare(work)`` builds a :class:`Program` for one piece of work. All programs use the same
weights (``work.tensors(job)``) and input (``work.input(job.seed)``), float32, NHWC and KRSC. The
worker checks the result against float64 before it times anything. On the host, all programs use
``cpus.get_num_threads()`` threads, and their threads must not spin between calls, because other
programs are timed then.

``--peers`` takes names of :data:`PEERS` and importable modules with a dot (``my_package.trt``). To
add an adapter here, write the module and list it in :data:`PEERS`.
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


class Absent(Exception):  # noqa: N818 (not an error: other programs are measured)
    """The program is not installed, or does not support the device, dtype or work."""


@dataclass
class Program:
    """A program that is ready to be timed.

    ``call(i)`` computes with the i-th of ``copies`` of the input; on a GPU it may only enqueue the
    work. ``before(i)`` runs untimed before each call. ``result()`` returns the result for the first
    copy as a NumPy array [N,P,Q,K] or [N,K] in host memory. ``clock`` times a call, and ``how``
    describes it: "plain calls", "CUDA graph". ``upload()`` copies the input to the device and waits
    for the copy. ``kernels`` are the launched kernels, if known. ``counters`` are the emulator's; a
    program that has them is not timed. ``steps`` are the layers of each part of a profiled call.
    ``keep`` holds references to memory that a CUDA graph uses.
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
    """A loaded library; ``versions`` maps names to versions."""

    versions: dict[str, str]

    def prepare(self, work: Work) -> Program:
        """Build a program. Raises :class:`Absent` for unsupported work."""
        ...


def start(name: str, job: Job) -> Peer:
    """Load the adapter ``name``. Raises :class:`Absent` if it cannot run here."""
    if job.device == "emulator" and name in NAMES:
        raise Absent("the emulator runs this package's kernels alone")
    path = name if "." in name else f"{__name__}.{PEERS[name]}"
    module = importlib.import_module(path)
    return cast(Peer, module.start(job))


def peak_bytes(peer: Peer) -> int | None:
    """Return the peak memory that the library held on a GPU; None if it is unknown."""
    ask = getattr(peer, "peak_bytes", None)
    return None if ask is None else ask()
