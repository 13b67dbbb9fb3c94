"""The in-memory form of a VGG's weights, for every file format.

Convolutions are KRSC float32 ``[K,3,3,C]``, dense layers ``[K,C]``, and fc6 reads its input in
NHWC order; batch norms are folded. Names are ``conv1_1.weight``, ``conv1_1.bias``, …, ``fc8.bias``.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import InitVar, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..activations import ACTIVATIONS
from ..configs import IN_CHANNELS, POOL_GRID, Config
from ..images.normalization import Normalization
from ..images.presets import PRESETS, Preset
from ..text import listed

Array = NDArray[Any]
Tensors = dict[str, NDArray[np.float32]]


class WeightsError(ValueError):
    """Weights that cannot be used; the message says what was expected and what was found."""


@contextmanager
def prefixed(source: str) -> Iterator[None]:
    """Begin the message of every :class:`WeightsError` in the block with ``source``."""
    try:
        yield
    except WeightsError as error:
        if not str(error).startswith(f"{source}: "):  # not from an inner block
            error.args = (f"{source}: {error}",)
        raise


class HeadDroppedWarning(UserWarning):
    """Warning that a file's dense head cannot be used; the features are complete."""


class AssumedWarning(UserWarning):
    """Warning that weights do not state how images are preprocessed, or what layers compute."""


class DroppedWarning(UserWarning):
    """Warning that a file holds more than the network; the message names what is not used."""


def warn_caller(text: str, category: type[Warning]) -> None:
    """Issue a warning at the place outside of this package that called it."""
    frame, level = sys._getframe(1).f_back, 3
    package = __name__.partition(".")[0]
    while frame and str(frame.f_globals.get("__name__")).partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


@dataclass(frozen=True)
class Weights:
    """Checked weights of one network, with the preset, labels and activation of their source.

    ``activation`` follows the last layer ("softmax", "sigmoid", "log_softmax" or None); ``labels``
    has a name per class, or is None; ``preset`` says how images become inputs, and
    ``preset_stated`` whether the source or the user states it (otherwise it is an assumption);
    ``source`` names the origin. ``normalization`` holds the network's own input layers: calls apply
    it to their input. ``names`` maps tensors to their names in the file, for messages. Raises
    :class:`WeightsError`.
    """

    config: Config
    tensors: Tensors
    preset: Preset = PRESETS["torchvision"]
    labels: tuple[str, ...] | None = None
    activation: str | None = None
    source: str = "arrays"
    preset_stated: bool = False
    normalization: Normalization | None = None
    names: InitVar[Mapping[str, str] | None] = None

    def __post_init__(self, names: Mapping[str, str] | None) -> None:
        classes, labels, activation = self.config.num_classes, self.labels, self.activation
        with prefixed(self.source):
            check_shapes(dict(shapes(self.config)), self.tensors, self.config.name)
            for name, tensor in self.tensors.items():
                check_finite((names or {}).get(name, name), tensor)
            if (own := self.normalization) and len(own.scale) != self.config.in_channels:
                raise WeightsError(
                    f"normalization: expected {self.config.in_channels} channels, got "
                    f"{len(own.scale)}"
                )
            if labels is not None and len(labels) != classes:
                raise WeightsError(f"expected {classes} labels, got {len(labels)}")
            if activation is not None and activation not in ACTIVATIONS:
                expected = f"one of {', '.join(ACTIVATIONS)} or none"
                raise WeightsError(f"activation: expected {expected}, got {activation!r}")

    @property
    def pixel_preset(self) -> Preset:
        """The preset from pixels to the first convolution, input layers included."""
        if self.normalization is None or self.config.in_channels != IN_CHANNELS:
            return self.preset
        return self.normalization.after(self.preset)

    @property
    def natural_size(self) -> tuple[int, int]:
        """Default height and width of images: the network's only size, the preset's, or 224."""
        size = self.preset.size
        if self.config.input_size is None and size and not self.config.wrong_size(*size):
            return size
        return self.config.natural_size


def shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every canonical tensor of ``config``."""
    for conv in config.convs:
        yield f"{conv.name}.weight", (conv.out_channels, 3, 3, conv.in_channels)
        yield f"{conv.name}.bias", (conv.out_channels,)
    for affine in config.affines:
        yield f"{affine.name}.weight", (affine.channels,)
        yield f"{affine.name}.bias", (affine.channels,)
    for dense in config.dense:
        yield f"{dense.name}.weight", (dense.out_features, dense.in_features)
        yield f"{dense.name}.bias", (dense.out_features,)


def check_shapes(
    expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Array], what: str
) -> None:
    """Raise :class:`WeightsError` unless ``tensors`` have the names and shapes ``expected``."""
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected]
    if missing or extra:
        raise WeightsError(
            f"expected the tensors of a {what}"
            + (f"; missing: {listed(missing)}" if missing else "")
            + (f"; unexpected: {listed(extra)}" if extra else "")
        )
    for name, shape in expected.items():
        found = tensors[name].shape
        if found != shape or 0 in shape:
            wanted = "at least one element" if 0 in shape else str(list(shape))
            raise WeightsError(f"{name}: expected {wanted}, got {list(found)}")


def check_finite(name: str, tensor: Array) -> None:
    """Raise :class:`WeightsError` if ``tensor`` contains NaN or infinity."""
    # min and max propagate NaN and cost one pass each, without a mask of the tensor's size
    if not (np.isfinite(tensor.min()) and np.isfinite(tensor.max())):
        raise WeightsError(f"{name}: expected finite values, found NaN or infinity")


def infer_grid(inputs: int, channels: int, name: str) -> int:
    """Return the side of the square grid of ``channels`` that gives ``inputs`` features.

    Raises :class:`WeightsError` if there is none.
    """
    grid = round((inputs / channels) ** 0.5) if channels else 0
    if grid < 1 or grid * grid * channels != inputs:
        raise WeightsError(
            f"{name}: expected [K, g*g*{channels}] for a square grid of g x g cells (7 x 7 in the "
            f"published networks), got [K, {inputs}]"
        )
    return grid


def infer_head(
    weights: Mapping[str, Array], widths: Sequence[int | str]
) -> tuple[tuple[int, ...], int]:
    """Return the output features of dense layers [K,C], and the side of the grid that they read."""
    for name, w in weights.items():
        if w.ndim != 2:
            raise WeightsError(f"{name}: expected [K, C], got {list(w.shape)}")
    if not weights:
        return (), POOL_GRID
    channels = next(width for width in reversed(widths) if isinstance(width, int))
    name, first = next(iter(weights.items()))
    return tuple(len(w) for w in weights.values()), infer_grid(first.shape[1], channels, name)


def chw_to_hwc(w: Array, channels: int) -> Array:
    """Return fc6's weight [K, C*H*W] as [K, H*W*C]: columns from CHW to HWC order."""
    chw = w.reshape(w.shape[0], channels, -1)
    return np.ascontiguousarray(chw.transpose(0, 2, 1)).reshape(w.shape)


def hwc_to_chw(w: Array, channels: int) -> Array:
    """Return fc6's weight [K, H*W*C] as [K, C*H*W]."""
    hwc = w.reshape(w.shape[0], -1, channels)
    return np.ascontiguousarray(hwc.transpose(0, 2, 1)).reshape(w.shape)


def as_float32(x: Array) -> NDArray[np.float32]:
    """Return ``x`` as contiguous float32. Overflow gives infinities, which ``Weights`` refuses."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(x, np.float32)


def from_bfloat16(bits: Array) -> NDArray[np.float32]:
    """Return float32 numbers from the bits of bfloat16, the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def is_all_nan(tensors: Iterable[Array]) -> bool:
    """Return whether there are tensors and every value is NaN."""
    found = list(tensors)
    # The first elements decide in the usual case, without a pass over the head.
    return bool(found) and all(
        t.dtype.kind not in "iu" and np.isnan(t.flat[0]) and np.isnan(t).all() for t in found
    )


def import_extra(name: str, extra: str, purpose: str) -> Any:
    """Return the module ``name``. Raises :class:`WeightsError`, which names the extra."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise WeightsError(
            f'{purpose} needs {name}: pip install ".[{extra}]" in a clone of vgg_cuda'
        ) from None
