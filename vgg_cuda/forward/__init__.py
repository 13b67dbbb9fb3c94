"""Forwards of a network: ``graph.py`` says what one is, the rest how it is carried out.

On the CPU operation by operation (``eager.py``); where kernels are launched, planned as a whole
(``plan.py``), in memory that is had before the first launch (``planned.py``).
"""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

from ..backends import Array
from .graph import Network, pack
from .inputs import MAX_PIXELS

__all__ = ["Network", "Runner", "make_runner", "most_images", "pack"]


class Runner(Protocol):
    """What carries a network's forwards out, whatever the size of the batch."""

    def __call__(self, x: Array, layout: str, wanted: Set[str]) -> dict[str, Array]:
        """The tensors at the ``wanted`` taps, for x as ``inputs.check_images`` gives it.

        They are NumPy's or CuPy's, as x is.
        """
        ...


def make_runner(network: Network) -> Runner:
    """The runner for the network's backend."""
    if network.backend.name == "cpu":
        from .eager import EagerRunner

        return EagerRunner(network)
    from .planned import PlannedRunner  # needs the extension

    return PlannedRunner(network)


def most_images(limit: int | None, shape: tuple[int, ...], layout: str) -> int:
    """How many images of x's ``shape`` one forward may hold, at least 1.

    ``limit`` is for 224x224; None: as many as memory does for.
    """
    height, width = shape[1:3] if layout == "NHWC" else shape[2:]
    size = limit * 224 * 224 if limit is not None else MAX_PIXELS
    return max(size // (height * width), 1)
