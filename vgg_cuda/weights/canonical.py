"""The one in-memory form of a VGG's weights, whatever file they came from.

Convolutions are KRSC float32 ``[K,3,3,C]``, dense layers ``[K,C]``, and fc6 reads its input in
NHWC order; batch norms are folded. Names are ``conv1_1.weight``, ``conv1_1.bias``, …, ``fc8.bias``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..configs import Config
from ..preprocess import PRESETS, Preset

Tensors = dict[str, NDArray[np.float32]]


class WeightsError(ValueError):
    """Weights that cannot be used; the text says what was expected and what came."""


@dataclass(frozen=True)
class Weights:
    """Checked weights of one network and what their source says about using them.

    ``activation`` is "softmax" where the source states one, else None; ``labels`` has a name per
    class, or is None; ``preset`` says how images become inputs; ``source`` names the origin.
    """

    config: Config
    tensors: Tensors
    preset: Preset = PRESETS["torchvision"]
    labels: tuple[str, ...] | None = None
    activation: str | None = None
    source: str = "arrays"

    def __post_init__(self) -> None:
        check_tensors(self.config, self.tensors, self.source)
        if self.labels is not None and len(self.labels) != self.config.num_classes:
            raise WeightsError(
                f"{self.source}: expected {self.config.num_classes} labels, got {len(self.labels)}"
            )
        if self.activation not in (None, "softmax"):
            raise WeightsError(
                f"{self.source}: activation: expected 'softmax' or none, got {self.activation!r}"
            )


def shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every canonical tensor of ``config``."""
    for conv in config.convs:
        yield f"{conv.name}.weight", (conv.out_channels, 3, 3, conv.in_channels)
        yield f"{conv.name}.bias", (conv.out_channels,)
    for dense in config.dense:
        yield f"{dense.name}.weight", (dense.out_features, dense.in_features)
        yield f"{dense.name}.bias", (dense.out_features,)


def check_tensors(config: Config, tensors: Mapping[str, NDArray[np.float32]], source: str) -> None:
    """Raises :class:`WeightsError` for tensors missing, left over, misshapen or not finite."""
    expected = dict(shapes(config))
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected]
    if missing or extra:
        raise WeightsError(
            f"{source}: the tensors do not make a {config.name}"
            + (f"; missing: {listed(missing)}" if missing else "")
            + (f"; not expected: {listed(extra)}" if extra else "")
        )
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise WeightsError(
                f"{source}: {name}: expected {list(shape)}, got {list(tensor.shape)}"
            )
        # min and max propagate NaN and cost one pass each, without a mask of the tensor's size
        if not (np.isfinite(tensor.min()) and np.isfinite(tensor.max())):
            raise WeightsError(f"{source}: {name}: expected finite values, found NaN or infinity")


def listed(names: list[str], most: int = 8) -> str:
    """The first few of ``names`` for a message, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
