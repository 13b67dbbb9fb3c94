"""The in-memory form of a VGG's weights, for every file format.

Convolutions are KRSC float32 ``[K,3,3,C]``, dense layers ``[K,C]``, and fc6 reads its input in
NHWC order; batch norms are folded. Names are ``conv1_1.weight``, ``conv1_1.bias``, …, ``fc8.bias``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import InitVar, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..configs import POOL_GRID, Config
from ..images.presets import PRESETS, Preset
from ..text import listed

Array = NDArray[Any]
Tensors = dict[str, NDArray[np.float32]]


class WeightsError(ValueError):
    """Weights that cannot be used; the message says what was expected and what was found."""


class HeadDroppedWarning(UserWarning):
    """Warning that a file's dense head cannot be used; the features are complete."""


class AssumedWarning(UserWarning):
    """Warning that a file of weights only does not say what its layers compute."""


@dataclass(frozen=True)
class Weights:
    """Checked weights of one network, with the preset, labels and activation of their source.

    ``activation`` is "softmax" if the source states it, else None; ``labels`` has a name per class,
    or is None; ``preset`` says how images become inputs; ``source`` names the origin. ``names``
    maps tensors to their names in the file, for messages. Raises :class:`WeightsError`.
    """

    config: Config
    tensors: Tensors
    preset: Preset = PRESETS["torchvision"]
    labels: tuple[str, ...] | None = None
    activation: str | None = None
    source: str = "arrays"
    names: InitVar[Mapping[str, str] | None] = None

    def __post_init__(self, names: Mapping[str, str] | None) -> None:
        check_tensors(self.config, self.tensors, self.source, names or {})
        if self.labels is not None and len(self.labels) != self.config.num_classes:
            raise WeightsError(
                f"{self.source}: expected {self.config.num_classes} labels, got {len(self.labels)}"
            )
        if self.activation not in (None, "softmax"):
            raise WeightsError(
                f"{self.source}: activation: expected 'softmax' or none, got {self.activation!r}"
            )


def shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every canonical tensor of ``config``."""
    for conv in config.convs:
        yield f"{conv.name}.weight", (conv.out_channels, 3, 3, conv.in_channels)
        yield f"{conv.name}.bias", (conv.out_channels,)
    for dense in config.dense:
        yield f"{dense.name}.weight", (dense.out_features, dense.in_features)
        yield f"{dense.name}.bias", (dense.out_features,)


def check_tensors(
    config: Config,
    tensors: Mapping[str, NDArray[np.float32]],
    source: str,
    names: Mapping[str, str],
) -> None:
    """Raise :class:`WeightsError` for missing, unexpected, misshapen or non-finite tensors."""
    check_shapes(dict(shapes(config)), tensors, source, config.name)
    for name, tensor in tensors.items():
        # min and max propagate NaN and cost one pass each, without a mask of the tensor's size
        if not (np.isfinite(tensor.min()) and np.isfinite(tensor.max())):
            raise WeightsError(
                f"{source}: {names.get(name, name)}: expected finite values, found NaN or infinity"
            )


def check_shapes(
    expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Array], source: str, what: str
) -> None:
    """Raise :class:`WeightsError` unless ``tensors`` have the names and shapes ``expected``."""
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected]
    if missing or extra:
        raise WeightsError(
            f"{source}: expected the tensors of a {what}"
            + (f"; missing: {listed(missing)}" if missing else "")
            + (f"; unexpected: {listed(extra)}" if extra else "")
        )
    for name, shape in expected.items():
        found = tensors[name].shape
        if found != shape or 0 in shape:
            wanted = "at least one element" if 0 in shape else str(list(shape))
            raise WeightsError(f"{source}: {name}: expected {wanted}, got {list(found)}")


def headless(config: Config) -> Config:
    """Return ``config`` without its dense layers."""
    return Config(
        config.name, config.widths, (), batch_norm=config.batch_norm, in_channels=config.in_channels
    )


def infer_grid(inputs: int, channels: int, name: str, source: str) -> int:
    """Return the side of the square grid of ``channels`` that gives ``inputs`` features.

    Raises :class:`WeightsError` if there is none.
    """
    grid = round((inputs / channels) ** 0.5) if channels else 0
    if grid < 1 or grid * grid * channels != inputs:
        raise WeightsError(
            f"{source}: {name}: expected [K, g*g*{channels}] for a square grid of g x g cells "
            f"(7 x 7 in the published networks), got [K, {inputs}]"
        )
    return grid


def infer_head(
    dense: Mapping[str, tuple[int, ...]], channels: int, source: str
) -> tuple[tuple[int, ...], int]:
    """Return the output features of dense weights, and the side of the grid that the first reads.

    ``dense`` holds the shapes by name, in order. Raises :class:`WeightsError`.
    """
    for name, shape in dense.items():
        if len(shape) != 2:
            raise WeightsError(f"{source}: {name}: expected [K, C], got {list(shape)}")
    if not dense:
        return (), POOL_GRID
    first = next(iter(dense))
    grid = infer_grid(dense[first][1], channels, first, source)
    return tuple(shape[0] for shape in dense.values()), grid


def is_all_nan(tensors: Iterable[Array]) -> bool:
    """Return whether there are tensors and every value is NaN."""
    found = list(tensors)
    # The first elements decide in the usual case, without a pass over the head.
    return bool(found) and all(
        t.dtype.kind not in "iu" and np.isnan(t.flat[0]) and np.isnan(t).all() for t in found
    )
