"""Predictions: the most probable classes of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .configs import IN_CHANNELS, Config


@dataclass(frozen=True)
class Prediction:
    """One class of one image: its label, index and probability."""

    label: str
    index: int
    probability: float


def check_classifies(config: Config, top_k: int, batch_size: int) -> None:
    """Raise ``ValueError`` for a network that cannot classify images, and for bad numbers."""
    if config.num_classes is None:
        raise ValueError("classify: this network has no dense head; use features()")
    if config.in_channels != IN_CHANNELS:
        raise ValueError(
            f"classify: expected a network with 3 input channels, got one with "
            f"{config.in_channels}; call it with arrays"
        )
    for what, value in (("top_k", top_k), ("batch_size", batch_size)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"classify: {what}: expected an integer >= 1, got {value!r}")


def top_classes(
    probabilities: NDArray[np.float32], labels: Sequence[str] | None, top_k: int
) -> list[list[Prediction]]:
    """Return the ``top_k`` best classes of every row of ``probabilities`` [N,classes]."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    names = labels or tuple(str(i) for i in range(probabilities.shape[1]))
    return [
        [Prediction(names[i], int(i), float(row[i])) for i in best]
        for row, best in zip(probabilities, order, strict=True)
    ]
