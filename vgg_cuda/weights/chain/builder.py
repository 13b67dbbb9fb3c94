"""Construction of a network layer by layer: the order of layers, folding, and ``Weights``."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

from ...configs import CONFIGS, HIDDEN, POOL_GRID, Config, Conv, Dense, Pooling, config_name
from ...images.normalization import raw_preset
from ...images.presets import Preset, fitted
from ..canonical import Weights, WeightsError, chw_to_hwc, infer_grid
from ..labels import imagenet_labels
from .affine import SPATIAL, Maps, Waiting
from .defaults import normalized
from .inputs import InputLayers
from .layers import (
    ACTIVATIONS,
    AdaptiveAvgPool,
    Affine,
    BatchNorm,
    Conv3x3,
    Flatten,
    GlobalPool,
    Identity,
    Layer,
    Linear,
    LogSoftmax,
    MaxPool2x2,
    Relu,
    Sigmoid,
    Softmax,
    UnsupportedError,
    kind_of,
)
from .parameters import Parameters, affine_of, misshapen, named_tensors


class Chain:
    """The network so far; every method refuses a layer that cannot follow."""

    def __init__(self) -> None:
        self.inputs = InputLayers()
        self.widths: list[int | str] = []
        self.convs: list[Parameters] = []
        self.dense: list[Parameters] = []
        self.pooling: Pooling | None = None
        self.grid = POOL_GRID
        self.flattened: Flatten | GlobalPool | None = None
        self.activation: str | None = None
        self.last: Layer | None = None  # except Identity
        self.folds = False  # whether only maps have followed the last parameters
        self.commutes = False  # whether a ReLU here equals one after the last parameters
        self.waiting: Waiting | None = None
        self.maps = Maps()
        self.exact = False  # whether no other image size is right

    def add(self, layer: Layer) -> None:
        """Add a layer. Raises :class:`UnsupportedError`, and ``WeightsError`` for shapes."""
        if isinstance(layer, Identity):
            return
        if not self.convs and isinstance(layer, (Affine, BatchNorm)):
            self.inputs.add(layer)
            return
        if not self.convs and not isinstance(layer, Conv3x3):
            self.refuse(layer, "a 3x3 convolution first")
        if self.activation:
            self.refuse(layer, f"nothing after a {self.activation}")
        takes_over = isinstance(layer, (Linear, BatchNorm, Affine))
        if self.waiting and not takes_over and not self.waiting.lets_pass(layer):
            self.settle(
                f"before {layer.name} ({kind_of(layer)})", possible=isinstance(layer, SPATIAL)
            )
        match layer:
            case Conv3x3():
                self.conv3x3(layer)
            case BatchNorm() | Affine():
                self.affine(layer)
            case Relu():
                self.relu(layer)
            case MaxPool2x2():
                self.spatial(layer)
                self.widths.append("M")
                self.exact |= layer.even_only
            case AdaptiveAvgPool() | GlobalPool():
                self.pool(layer)
            case Flatten():
                self.flattened = self.flattened or layer
            case Linear():
                self.linear(layer)
            case Softmax() | Sigmoid() | LogSoftmax():
                if not self.dense or self.dense[-1].relu:
                    self.refuse(layer, f"{kind_of(layer)} right after a dense layer")
                self.activation = ACTIVATIONS[type(layer)]
        new = isinstance(layer, (Conv3x3, Linear))
        self.folds = new or (self.folds and isinstance(layer, (BatchNorm, Affine)))
        self.last = layer

    def refuse(self, layer: Layer, expected: str) -> NoReturn:
        """Raise for a layer in the wrong place."""
        raise UnsupportedError(
            f"{layer.name}: expected {expected}, got {kind_of(layer)} {self.after()}"
        )

    def after(self) -> str:
        """Return the current place, for messages."""
        return f"after {self.last.name} ({kind_of(self.last)})" if self.last else "first"

    def spatial(self, layer: Layer) -> None:
        """Refuse ``layer`` unless its input is an image [N,H,W,C]."""
        if self.pooling or self.flattened:
            self.refuse(layer, "dense layers after a global or adaptive pool or Flatten")

    def conv3x3(self, layer: Conv3x3) -> None:
        """Add a convolution: the first layer, or one after convolutions, ReLUs and max-pools."""
        self.spatial(layer)
        channels = self.convs[-1].w.shape[0] if self.convs else None
        expected = ("K", 3, 3, "C" if channels is None else channels)
        shape = layer.w.shape
        if len(shape) != 4 or shape[1:3] != (3, 3) or channels not in (None, shape[3]):
            raise misshapen(f"{layer.name}: kernel", expected, shape)
        self.convs.append(Parameters.of(layer))
        self.commutes, self.maps.last = True, False
        self.widths.append(shape[0])

    def linear(self, layer: Linear) -> None:
        """Add a dense layer, after a layer that turns images into vectors or another dense one."""
        if not self.flattened:
            self.refuse(layer, "Flatten or a global pool before dense layers")
        inputs = self.dense[-1].w.shape[0] if self.dense else None
        shape = layer.w.shape
        if len(shape) != 2 or inputs not in (None, shape[1]):
            raise misshapen(f"{layer.name}: weight", ("K", inputs or "C"), shape)
        self.dense.append(Parameters.of(layer))
        self.commutes, self.maps.last = True, False
        if self.waiting:
            self.waiting.fold(self.dense[-1], "CHW" if self.flattens_channels() else "HWC")
            self.waiting = None

    def affine(self, layer: BatchNorm | Affine) -> None:
        """Fold a scale and shift into the layer before it, or let it wait for the next one."""
        before = (self.dense or self.convs)[-1]
        if isinstance(layer, Affine) and layer.reverse:
            self.refuse(layer, "a reversal of channels before the first convolution")
        if self.folds:
            before.fold(layer)
            return
        pixels = not self.dense and not isinstance(self.flattened, Flatten)
        channels = before.w.shape[0] if pixels or self.dense else None
        if self.waiting and self.waiting.pixels == pixels:
            self.waiting.then(*affine_of(layer, len(self.waiting.scale)))
            return
        self.settle(f"before {layer.name} ({kind_of(layer)})")
        self.waiting = Waiting(layer, *affine_of(layer, channels), pixels, self.after())

    def settle(self, end: str, *, possible: bool = True) -> None:
        """Make the waiting map a layer after the last convolution or max-pool, if ``possible``."""
        if self.waiting:
            self.maps.add(self.waiting, len(self.widths), end, possible=possible)
            self.waiting, self.commutes = None, False

    def relu(self, layer: Relu) -> None:
        """Add a ReLU after a layer with parameters, or after layers that commute with it."""
        before = (self.dense or self.convs)[-1]
        if self.maps.last:
            self.refuse(layer, "a convolution between a scale and shift and a ReLU")
        if not before.relu and not self.commutes:
            self.refuse(layer, "a ReLU before the average")
        before.relu = True  # a maximum of ReLUs is the ReLU of the maximum

    def pool(self, layer: AdaptiveAvgPool | GlobalPool) -> None:
        """Add the pool to a fixed grid, after all max-pools."""
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
        self,
        source: str,
        input_size: tuple[int, int] | None,
        preset: Preset,
        labels: tuple[str, ...] | None,
        preset_stated: bool,
        joint: str,
    ) -> Weights:
        """Return the weights of all layers; see ``to_weights``."""
        if not self.convs:
            raise UnsupportedError("expected 3x3 convolutions, found none")
        if self.waiting:  # before the global pool, if there is one
            commutes = self.pooling != "max" or self.waiting.scale.min() >= 0
            self.settle("at the end", possible=commutes and not self.dense)
        normalization = self.inputs.folded(self.convs[0])
        if self.dense:
            input_size = self.check_inputs(input_size)
        elif self.flattens_channels() and (not self.pooling or self.grid > 1):
            raise UnsupportedError(
                "expected a dense layer after Flatten: this package returns pixels in HWC order; "
                "leave Flatten out, and flatten the result"
            )
        widths, head = tuple(self.widths), tuple(d.w.shape[0] for d in self.dense)
        name = config_name(widths)
        config = Config(
            name, widths, head, self.grid, any(conv.norm for conv in self.convs),
            in_channels=self.convs[0].w.shape[3],
            pooling=self.pooling or "none",
            flat=self.flattened is not None,
            input_size=input_size if head and not self.pooling else None,
            exact_size=self.exact and bool(head) and not self.pooling,
            without_relu=(),
        )  # fmt: skip
        own: list[Conv | Dense] = [*config.convs, *config.dense]
        named = list(zip(own, self.convs + self.dense, strict=True))
        without = tuple(layer.name for layer, found in named if not found.relu)
        after = tuple(config.features[n - 1].name for n in self.maps.positions)
        config = normalized(replace(config, without_relu=without, affine_after=after))
        maps = zip(config.affines, self.maps.parameters(), strict=True)
        tensors, names = named_tensors([(to.name, found) for to, found in (*named, *maps)], joint)
        if labels is None and name in CONFIGS and head == (*HIDDEN, 1000):
            labels = imagenet_labels() if config.num_classes else None
        if not preset_stated and self.inputs.name:
            raw = raw_preset(self.inputs.scale.tolist(), self.inputs.offset.tolist())
            preset, preset_stated = raw or (preset, False)
        try:
            preset = fitted(preset, input_size)
        except ValueError as error:  # a size outside the limits of presets
            raise WeightsError(f"input size: {error}") from error
        return Weights(
            config, tensors, preset, labels, self.activation, source, preset_stated, normalization,
            names,
        )  # fmt: skip

    def flattens_channels(self) -> bool:
        """Return whether vectors are in CHW order."""
        return isinstance(self.flattened, Flatten) and self.flattened.order == "CHW"

    def check_inputs(self, input_size: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return an image size if dense layers read all pixels; bring fc6 to HWC order."""
        first, channels = self.dense[0], self.convs[-1].w.shape[0]
        pools = self.widths.count("M")
        inputs = first.w.shape[1]
        if self.pooling:
            cells, where = self.grid**2, f"{self.grid} x {self.grid} cells"
        elif input_size is None:
            side = infer_grid(inputs, channels, first.name) << pools
            input_size, cells = (side, side), inputs // channels
            where = ""
        else:
            H, W = input_size
            cells = (H >> pools) * (W >> pools)
            where = f"{H >> pools} x {W >> pools} pixels of images of {H} x {W}"
        if cells * channels != inputs:
            raise WeightsError(
                f"{first.name}: expected [K, {cells * channels}] for {channels} channels of "
                f"{where}, got [K, {inputs}]"
            )
        if self.flattens_channels() and cells > 1:
            first.w = chw_to_hwc(first.w, channels)
        return input_size
