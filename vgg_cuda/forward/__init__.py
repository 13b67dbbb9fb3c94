"""Forwards of a network: ``graph.py`` defines them, the other modules run them.

The CPU runs one operation after the other (``eager.py``). For GPUs and the emulator a forward is
planned as a whole (``plan.py``), and all memory is allocated before the first launch
(``planned.py``).
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Protocol

from ..backends import Array
from ..backends.switches import Tune
from .graph import Network, pack
from .inputs import MAX_PIXELS

__all__ = ["Network", "Runner", "make_runner", "max_images", "pack"]


class Runner(Protocol):
    """Function that runs a network's forwards for batches of any size."""

    def __call__(self, x: Array, layout: str, wanted: Set[str]) -> dict[str, Array]:
        """Return the tensors at the ``wanted`` taps, for x of ``inputs.check_images``.

        They are NumPy or CuPy arrays, like x.
        """
        ...


def make_runner(network: Network, tune: Tune) -> Runner:
    """Return the runner for the network's backend; ``tune`` is as for :meth:`vgg_cuda.VGG.load`."""
    if network.backend.name == "cpu":
        from .eager import EagerRunner

        return EagerRunner(network)
    from ..tuning import planner_for  # these modules need the extension
    from .planned import PlannedRunner

    backend: Any = network.backend
    return PlannedRunner(network, planner_for(backend, tune))


def max_images(limit: int | None, shape: tuple[int, ...], layout: str) -> int:
    """Return the maximum number of images of x's ``shape`` in one forward, at least 1.

    ``limit`` is the maximum for 224x224; None if only memory limits it.
    """
    height, width = shape[1:3] if layout == "NHWC" else shape[2:]
    size = limit * 224 * 224 if limit is not None else MAX_PIXELS
    return max(size // (height * width), 1)
