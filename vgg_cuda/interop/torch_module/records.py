"""Records of a module's forward: its steps, and the tensors that it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch.utils._pytree import TreeSpec

from ...weights.chain.layers import Layer


class Unrecorded(Exception):  # noqa: N818 - not an error: the module's own forward runs
    """A forward that this package cannot run; the text names the module."""


@dataclass(frozen=True)
class Step:
    """One layer: ``make(name, *tensors, *options)`` returns its record.

    ``name`` is that of its module if the recorder was asked for names.
    """

    make: Callable[..., Layer]
    tensors: tuple[Any, ...] = ()
    options: tuple[Any, ...] = ()
    name: str = ""


class Output(NamedTuple):
    """A tensor that a forward returns: the result of ``position`` steps, 0 for the input itself.

    Equal ``number``: the same object, returned twice.
    """

    position: int
    shape: tuple[int, ...]
    number: int


class Result(NamedTuple):
    """A forward's result: outputs and constants, in lists, tuples and dicts."""

    leaves: list[Any]
    spec: TreeSpec

    @property
    def outputs(self) -> list[Output]:
        """The tensors among the leaves."""
        return [leaf for leaf in self.leaves if type(leaf) is Output]


CONSTANTS = (type(None), bool, int, float, str)
