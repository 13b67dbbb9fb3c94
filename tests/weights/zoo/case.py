"""One entry of the zoo: a model as its framework makes it, and what becomes of it here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np


class Example(NamedTuple):
    """A source of weights or a module, images x [N,H,W,C], and the framework's result for them."""

    source: Any
    x: np.ndarray
    expected: np.ndarray


@dataclass(frozen=True)
class Case:
    """A kind of model. ``name``, ``what`` and ``why`` are a row of a table in the manual.

    ``make`` builds the model, in a folder for its file. A refusal's message contains ``says``; an
    accepted model issues exactly the warnings ``warns``, by class and text.
    """

    framework: Literal["PyTorch", "from_torch", "Keras", "ONNX"]
    name: str
    what: str
    verdict: Literal["accepted", "folded", "refused"]
    make: Callable[[Path], Example]
    why: str = ""
    says: str = ""
    warns: tuple[tuple[type[Warning], str], ...] = ()

    @property
    def id(self) -> str:
        return f"{self.framework.lower()}-{self.name}".replace("_", "-")
