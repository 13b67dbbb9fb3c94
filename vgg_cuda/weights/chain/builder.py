"""A network built layer by layer: what follows what, and what is folded into what."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

from ...configs import CONFIGS, HIDDEN, POOL_GRID, Config, Conv, Dense, Pooling, config_name
from ...images.presets import Preset
from ..canonical import Tensors, Weights, WeightsError, infer_grid
from ..fold import fold_batch_norm
from ..labels import imagenet_labels
from ..state_dict import chw_to_hwc
from .defaults import fitted, normalized
from .layers import (
    AdaptiveAvgPool,
    Array,
    BatchNorm,
    Conv3x3,
    Flatten,
    GlobalPool,
    Identity,
    Layer,
    Linear,
    MaxPool2x2,
    Relu,
    Softmax,
    UnsupportedError,
)


@dataclass
class Parameters:
    """A convolution or dense layer with all that was folded into it; w and bias are float32."""

    name: str
    w: Array
    bias: Array
    relu: bool = False
    norm: bool = False


class Chain:
    """What has come so far; every method refuses what cannot follow it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.widths: list[int | str] = []
        self.convs: list[Parameters] = []
        self.dense: list[Parameters] = []
        self.pooling: Pooling | None = None
        self.grid = POOL_GRID
        self.flattened: Flatten | GlobalPool | None = None
        self.softmax = False
        self.last: Layer | None = None  # but those that do nothing
        self.commutes = False  # would a ReLU after the last parameters do the same here?

    def add(self, layer: Layer) -> None:
        """The next layer. Raises :class:`UnsupportedError`, and ``WeightsError`` for shapes."""
        if isinstance(layer, Identity):
            return
        if self.softmax:
            self.refuse(layer, "nothing after a softmax")
        match layer:
            case Conv3x3():
                self.conv3x3(layer)
            case BatchNorm():
                self.batch_norm(layer)
            case Relu():
                self.relu(layer)
            case MaxPool2x2():
                self.spatial(layer)
                self.widths.append("M")
            case AdaptiveAvgPool() | GlobalPool():
                self.pool(layer)
            case Flatten():
                self.flattened = self.flattened or layer
            case Linear():
                self.linear(layer)
            case Softmax():
                if not self.dense or self.dense[-1].relu:
                    self.refuse(layer, "a softmax right behind a dense layer")
                self.softmax = True
        self.last = layer

    def refuse(self, layer: Layer, expected: str) -> NoReturn:
        """A layer that cannot stand where it stands."""
        before = f"after {self.last.name} ({_kind(self.last)})" if self.last else "first"
        raise UnsupportedError(
            f"{self.source}: {layer.name}: expected {expected}, got {_kind(layer)} {before}"
        )

    def spatial(self, layer: Layer) -> None:
        """Refuses ``layer`` where no tensor [N,H,W,C] of a convolution or pool comes."""
        if not self.convs:
            self.refuse(layer, "a 3x3 convolution first")
        if self.pooling or self.flattened:
            self.refuse(layer, "dense layers after a global or adaptive pool or Flatten")

    def conv3x3(self, layer: Conv3x3) -> None:
        """The first layer, or behind convolutions, their ReLUs and pools."""
        if self.convs:
            self.spatial(layer)
        elif self.flattened or self.pooling:
            self.refuse(layer, "a 3x3 convolution first")
        channels = self.convs[-1].w.shape[0] if self.convs else None
        expected = ("K", 3, 3, "C" if channels is None else channels)
        shape = layer.w.shape
        if len(shape) != 4 or shape[1:3] != (3, 3) or channels not in (None, shape[3]):
            self.misshapen(f"{layer.name}: kernel", expected, shape)
        self.convs.append(self.parameters(layer))
        self.widths.append(shape[0])

    def linear(self, layer: Linear) -> None:
        """Behind what makes vectors of images, or another dense layer."""
        if not self.convs:
            self.refuse(layer, "a 3x3 convolution first")
        if not self.flattened:
            self.refuse(layer, "Flatten or a global pool before dense layers")
        inputs = self.dense[-1].w.shape[0] if self.dense else None
        shape = layer.w.shape
        if len(shape) != 2 or inputs not in (None, shape[1]):
            self.misshapen(f"{layer.name}: weight", ("K", inputs or "C"), shape)
        self.dense.append(self.parameters(layer))

    def parameters(self, layer: Conv3x3 | Linear) -> Parameters:
        """Of a layer, as float32."""
        if 0 in layer.w.shape:
            self.misshapen(f"{layer.name}: weight", ("at least one element",), layer.w.shape)
        K = layer.w.shape[0]
        bias = np.zeros(K, np.float32) if layer.bias is None else _float32(layer.bias)
        if bias.shape != (K,):
            self.misshapen(f"{layer.name}: bias", (K,), bias.shape)
        self.commutes = True
        return Parameters(layer.name, _float32(layer.w), bias)

    def misshapen(self, what: str, expected: tuple[Any, ...], got: tuple[int, ...]) -> NoReturn:
        """An array that does not fit the others."""
        wanted = ", ".join(map(str, expected))
        raise WeightsError(f"{self.source}: {what}: expected [{wanted}], got {list(got)}")

    def batch_norm(self, layer: BatchNorm) -> None:
        """Folded into the layer right before it."""
        if not isinstance(self.last, (Conv3x3, Linear)):
            self.refuse(
                layer, "batch norms right behind a convolution or dense layer, which take them in"
            )
        target = (self.dense or self.convs)[-1]
        K = target.w.shape[0]
        parts = {"mean": layer.mean, "variance": layer.variance}
        parts["gamma"] = np.ones(K) if layer.gamma is None else layer.gamma
        parts["beta"] = np.zeros(K) if layer.beta is None else layer.beta
        for part, array in parts.items():
            if array.shape != (K,):
                self.misshapen(f"{layer.name}: {part}", (K,), array.shape)
            if not np.isfinite(array).all():
                raise WeightsError(
                    f"{self.source}: {layer.name}: {part}: expected finite values, found NaN or "
                    "infinity"
                )
        if not (0 < layer.epsilon < math.inf) or parts["variance"].min() < 0:
            raise WeightsError(
                f"{self.source}: {layer.name}: expected epsilon > 0 and variances >= 0, got "
                f"{layer.epsilon} and {parts['variance'].min()}"
            )
        with np.errstate(over="ignore", invalid="ignore"):  # refused as infinite
            target.w, target.bias = fold_batch_norm(
                target.w, target.bias, **parts, epsilon=layer.epsilon
            )
        target.norm = True

    def relu(self, layer: Relu) -> None:
        """Behind a layer with parameters, or behind what commutes with it."""
        if not self.convs:
            self.refuse(layer, "a 3x3 convolution first")
        before = (self.dense or self.convs)[-1]
        if not before.relu and not self.commutes:
            self.refuse(layer, "a ReLU before the average")
        before.relu = True  # a maximum of ReLUs is the ReLU of the maximum

    def pool(self, layer: AdaptiveAvgPool | GlobalPool) -> None:
        """The one pool that does not halve sides, after all that do."""
        self.spatial(layer)
        if isinstance(layer, GlobalPool):
            self.pooling, self.grid, self.flattened = layer.kind, 1, layer
        else:
            if layer.grid < 1:
                self.refuse(layer, "a grid of at least 1 x 1")
            self.pooling, self.grid = "avg", layer.grid
        if self.pooling == "avg":
            self.commutes = False

    def finish(
        self, input_size: tuple[int, int] | None, preset: Preset, labels: tuple[str, ...] | None
    ) -> Weights:
        """What the layers make together; see ``to_weights``."""
        if not self.convs:
            raise UnsupportedError(f"{self.source}: expected 3x3 convolutions, found none")
        if self.dense:
            input_size = self.check_inputs(input_size)
        elif self.flattens_channels() and (not self.pooling or self.grid > 1):
            raise UnsupportedError(
                f"{self.source}: expected a dense layer behind Flatten: pixels channel by channel "
                "are no result here; leave it off, and flatten the result"
            )
        widths, head = tuple(self.widths), tuple(d.w.shape[0] for d in self.dense)
        name = config_name(widths)
        config = Config(
            name, widths, head, self.grid, any(conv.norm for conv in self.convs),
            in_channels=self.convs[0].w.shape[3],
            pooling=self.pooling or "none",
            flat=self.flattened is not None,
            input_size=input_size if head and not self.pooling else None,
            without_relu=(),
        )  # fmt: skip
        own: list[Conv | Dense] = [*config.convs, *config.dense]
        named = list(zip(own, self.convs + self.dense, strict=True))
        without = tuple(layer.name for layer, found in named if not found.relu)
        config = normalized(replace(config, without_relu=without))
        tensors: Tensors = {}
        names: dict[str, str] = {}
        for layer, found in named:
            for part, array in (("weight", found.w), ("bias", found.bias)):
                tensors[f"{layer.name}.{part}"] = array
                names[f"{layer.name}.{part}"] = f"{found.name}: {part}"
        if labels is None and name in CONFIGS and head == (*HIDDEN, 1000):
            labels = imagenet_labels() if config.num_classes else None
        activation = "softmax" if self.softmax else None
        try:
            preset = fitted(preset, input_size)
        except ValueError as error:  # sides that no image is resized to
            raise WeightsError(f"{self.source}: input size: {error}") from error
        return Weights(config, tensors, preset, labels, activation, self.source, names)

    def flattens_channels(self) -> bool:
        """Whether a vector holds the pixels of one channel after those of another."""
        return isinstance(self.flattened, Flatten) and self.flattened.order == "CHW"

    def check_inputs(self, input_size: tuple[int, int] | None) -> tuple[int, int] | None:
        """The one size of images where dense layers read all pixels; brings fc6 to HWC order."""
        first, channels = self.dense[0], self.convs[-1].w.shape[0]
        pools = self.widths.count("M")
        inputs = first.w.shape[1]
        if self.pooling:
            cells, where = self.grid**2, f"{self.grid} x {self.grid} cells"
        elif input_size is None:
            side = infer_grid(inputs, channels, first.name, self.source) << pools
            input_size, cells = (side, side), inputs // channels
            where = ""
        else:
            H, W = input_size
            cells = (H >> pools) * (W >> pools)
            where = f"{H >> pools} x {W >> pools} pixels of images of {H} x {W}"
        if cells * channels != inputs:
            raise WeightsError(
                f"{self.source}: {first.name}: expected [K, {cells * channels}] for {channels} "
                f"channels of {where}, got [K, {inputs}]"
            )
        if self.flattens_channels() and cells > 1:
            first.w = chw_to_hwc(first.w, channels)
        return input_size


def _float32(x: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused as infinite
        return np.ascontiguousarray(x, np.float32)


def _kind(layer: Layer) -> str:
    return f"{layer.kind} pool" if isinstance(layer, GlobalPool) else type(layer).__name__
