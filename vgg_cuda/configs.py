"""The VGG family as data: one list of widths per network, and the layers that follow from it.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014,
Table 1, configurations A, B, D, E.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

# A number is a 3x3 "same" convolution with that many output channels, followed by ReLU;
# "M" is a 2x2 max-pool with stride 2.
# fmt: off
CONFIGS: dict[str, list[int | str]] = {
    "vgg11": [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "vgg13": [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "vgg16": [64, 64, "M", 128, 128, "M", 256, 256, 256, "M",
              512, 512, 512, "M", 512, 512, 512, "M"],
    "vgg19": [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M",
              512, 512, 512, 512, "M", 512, 512, 512, 512, "M"],
}
# fmt: on

IN_CHANNELS = 3
HIDDEN = (4096, 4096)
POOL_GRID = 7


@dataclass(frozen=True)
class Conv:
    """A 3x3 convolution, stride 1, padding 1, followed by ``relu{b}_{i}`` if ``relu`` is set."""

    name: str
    in_channels: int
    out_channels: int
    relu: bool = True

    @property
    def relu_name(self) -> str:
        """``conv1_2`` -> ``relu1_2``."""
        return "relu" + self.name.removeprefix("conv")


@dataclass(frozen=True)
class Pool:
    """A 2x2 max-pool, stride 2, that drops an odd last row and column."""

    name: str


@dataclass(frozen=True)
class Affine:
    """A scale and shift per channel, x * weight + bias, such as a batch norm after a ReLU."""

    name: str
    channels: int


@dataclass(frozen=True)
class Dense:
    """A fully connected layer, followed by ``relu{i}`` if ``relu`` is set."""

    name: str
    in_features: int
    out_features: int
    relu: bool

    @property
    def relu_name(self) -> str:
        """``fc6`` -> ``relu6``."""
        return "relu" + self.name.removeprefix("fc")


Pooling = Literal["avg", "max", "none"]


@dataclass(frozen=True)
class Config:
    """The architecture of one network.

    - ``widths``: convolutions and pools, as in :data:`CONFIGS`.
    - ``head``: output features of the dense layers, the class count last; empty for no dense head.
    - ``pool_grid``: side of the grid of cells that the global pool returns for any image size.
    - ``batch_norm``: whether batch norms were folded into the convolutions.
    - ``in_channels``: channels of the images.
    - ``pooling``: global pool behind the last of ``widths``: "avg", "max" or "none"; None stands
      for "avg" with a dense head and "none" without one.
    - ``flat``: whether a network without a dense head returns [N,features].
    - ``input_size``: the (H, W) that the network is made for; required for a dense head without a
      global pool, which accepts every size that its max-pools reduce to the same grid.
    - ``exact_size``: whether ``input_size`` is the only size, since the source's pools keep an odd
      last row and column.
    - ``without_relu``: layers that no ReLU follows; None stands for the last dense layer.
    - ``affine_after``: convolutions (with their ReLUs) and pools that a scale and shift per channel
      follows: ``affine1_2`` after ``conv1_2``, ``affine1`` after ``pool1``.
    """

    name: str
    widths: tuple[int | str, ...]
    head: tuple[int, ...] = (*HIDDEN, 1000)
    pool_grid: int = POOL_GRID
    batch_norm: bool = False
    in_channels: int = IN_CHANNELS
    pooling: Pooling | None = None
    flat: bool = False
    input_size: tuple[int, int] | None = None
    exact_size: bool = False
    without_relu: tuple[str, ...] | None = None
    affine_after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not any(isinstance(width, int) for width in self.widths) or self.widths[0] == "M":
            raise ValueError(
                f"{self.name}: widths: expected a convolution first, got {self.widths}"
            )
        if self.reduces == "none" and self.head and self.input_size is None:
            raise ValueError(
                f"{self.name}: input_size: expected (H, W) for a dense layer without a global "
                "pool, got None"
            )
        if len(self.features) != len(self.widths) + len(self.affine_after):
            raise ValueError(
                f"{self.name}: affine_after: expected different names of convolutions and pools, "
                f"got {', '.join(self.affine_after)}"
            )

    @cached_property
    def features(self) -> tuple[Conv | Pool | Affine, ...]:
        """The convolutions, pools, and scales and shifts, in order."""
        layers: list[Conv | Pool | Affine] = []
        channels, block, index = self.in_channels, 1, 1
        for width in self.widths:
            if isinstance(width, int):
                name = f"conv{block}_{index}"
                layers.append(Conv(name, channels, width, self._has_relu(name)))
                channels, index = width, index + 1
            else:
                name = f"pool{block}"
                layers.append(Pool(name))
                block, index = block + 1, 1
            if name in self.affine_after:
                number = name.removeprefix("conv").removeprefix("pool")
                layers.append(Affine(f"affine{number}", channels))
        return tuple(layers)

    @cached_property
    def dense(self) -> tuple[Dense, ...]:
        """The dense layers, ``fc6`` first."""
        layers = []
        rows, columns = self.grid
        features = self.out_channels * rows * columns if self.head else 0
        for i, width in enumerate(self.head):
            name, last = f"fc{6 + i}", i == len(self.head) - 1
            relu = not last if self.without_relu is None else self._has_relu(name)
            layers.append(Dense(name, features, width, relu))
            features = width
        return tuple(layers)

    def _has_relu(self, name: str) -> bool:
        return self.without_relu is None or name not in self.without_relu

    @property
    def reduces(self) -> Pooling:
        """``pooling`` with its default resolved."""
        return self.pooling or ("avg" if self.head else "none")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns that the first dense layer reads; (0, 0) if they depend on the image."""
        if self.reduces != "none":
            return self.pool_grid, self.pool_grid
        if self.input_size is None:
            return 0, 0
        height, width = self.input_size
        return height >> self.pools, width >> self.pools

    @property
    def pools(self) -> int:
        """Number of 2x2 max-pools."""
        return sum(width == "M" for width in self.widths)

    @property
    def min_size(self) -> int:
        """Minimum height and width of an image: 32 for five pools."""
        return 1 << self.pools

    @property
    def natural_size(self) -> tuple[int, int]:
        """Default height and width of images."""
        return self.input_size or (224, 224)

    def wrong_size(self, height: int, width: int) -> str | None:
        """Return why images of this size do not fit the network; None if they fit."""
        got = f"got H = {height} and W = {width}"
        if self.input_size is not None and (height, width) != self.input_size:
            rows, columns = self.grid
            if self.exact_size or (height >> self.pools, width >> self.pools) != self.grid:
                H, W = map(self._sizes, self.input_size, self.grid)
                return (
                    f"expected H {H} and W {W} (dense layers read {rows} x {columns} pixels of the "
                    f"last pool), {got}"
                )
        if min(height, width) < self.min_size:
            return f"expected H and W >= {self.min_size} ({self.pools} pools halve them), {got}"
        return None

    def _sizes(self, side: int, cells: int) -> str:
        """Return the heights or widths that give as many cells as ``side`` does, for messages."""
        first = cells << self.pools
        if self.exact_size or not self.pools:
            return f"= {side}"
        return f"from {first} to {first + (1 << self.pools) - 1}"

    @property
    def last(self) -> str:
        """Tap of the last layer before the softmax."""
        if self.dense:
            dense = self.dense[-1]
            return dense.relu_name if dense.relu else dense.name
        if self.reduces != "none":
            return f"{self.reduces}pool"
        layer = self.features[-1]
        return layer.relu_name if isinstance(layer, Conv) and layer.relu else layer.name

    @property
    def convs(self) -> tuple[Conv, ...]:
        """The convolutions, in order."""
        return tuple(layer for layer in self.features if isinstance(layer, Conv))

    @property
    def affines(self) -> tuple[Affine, ...]:
        """The scales and shifts per channel, in order."""
        return tuple(layer for layer in self.features if isinstance(layer, Affine))

    @property
    def out_channels(self) -> int:
        """Channels of the last convolution."""
        return next(w for w in reversed(self.widths) if isinstance(w, int))

    @property
    def num_classes(self) -> int | None:
        """Outputs of the last dense layer; None without a head, or if a ReLU follows it."""
        return self.head[-1] if self.head and not self.dense[-1].relu else None


def get_config(name: str, *, num_classes: int = 1000, include_top: bool = True) -> Config:
    """Return the published network ``name``, with ``num_classes`` outputs or no dense head.

    Raises ``ValueError`` for an unknown name or a class count below 1.
    """
    if name not in CONFIGS:
        raise ValueError(f"network: expected one of {', '.join(CONFIGS)}, got {name!r}")
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes: expected an integer >= 1, got {num_classes!r}")
    head = (*HIDDEN, num_classes) if include_top else ()
    return Config(name, tuple(CONFIGS[name]), head)


def config_name(widths: tuple[int | str, ...]) -> str:
    """Return the published name of a list of widths, or ``"vgg"`` for any other list."""
    return next((name for name, known in CONFIGS.items() if tuple(known) == widths), "vgg")
