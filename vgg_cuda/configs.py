"""The VGG family as data: one list per network, and the layers that follow from it.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014,
Table 1, configurations A, B, D, E.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

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
MIN_SIZE = 32  # five pools: 32 -> 1


@dataclass(frozen=True)
class Conv:
    """A 3x3 convolution, stride 1, padding 1; ``relu{b}_{i}`` follows it."""

    name: str
    in_channels: int
    out_channels: int

    @property
    def relu_name(self) -> str:
        """``conv1_2`` -> ``relu1_2``."""
        return "relu" + self.name.removeprefix("conv")


@dataclass(frozen=True)
class Pool:
    """A 2x2 max-pool, stride 2, that drops an odd last row and column."""

    name: str


@dataclass(frozen=True)
class Dense:
    """A fully connected layer; ``relu{i}`` follows where ``relu`` is set."""

    name: str
    in_features: int
    out_features: int
    relu: bool

    @property
    def relu_name(self) -> str:
        """``fc6`` -> ``relu6``."""
        return "relu" + self.name.removeprefix("fc")


@dataclass(frozen=True)
class Config:
    """The architecture of one network.

    ``widths`` is a list as in :data:`CONFIGS`; ``head`` holds the dense layers' output features,
    the class count last (empty: no dense head); ``pool_grid`` is the side of the adaptive average
    pool before the first dense layer; ``batch_norm`` says that batch norms were folded into the
    convolutions, so that their inputs no longer exist.
    """

    name: str
    widths: tuple[int | str, ...]
    head: tuple[int, ...] = (*HIDDEN, 1000)
    pool_grid: int = POOL_GRID
    batch_norm: bool = field(default=False)

    @cached_property
    def features(self) -> tuple[Conv | Pool, ...]:
        """The convolutions and pools, in order."""
        layers: list[Conv | Pool] = []
        channels, block, index = IN_CHANNELS, 1, 1
        for width in self.widths:
            if isinstance(width, int):
                layers.append(Conv(f"conv{block}_{index}", channels, width))
                channels, index = width, index + 1
            else:
                layers.append(Pool(f"pool{block}"))
                block, index = block + 1, 1
        return tuple(layers)

    @cached_property
    def dense(self) -> tuple[Dense, ...]:
        """The dense layers, ``fc6`` first; ReLU follows all but the last."""
        layers = []
        features = self.out_channels * self.pool_grid**2
        for i, width in enumerate(self.head):
            layers.append(Dense(f"fc{6 + i}", features, width, relu=i < len(self.head) - 1))
            features = width
        return tuple(layers)

    @property
    def convs(self) -> tuple[Conv, ...]:
        """The convolutions alone."""
        return tuple(layer for layer in self.features if isinstance(layer, Conv))

    @property
    def out_channels(self) -> int:
        """Channels of the last convolution."""
        return next(w for w in reversed(self.widths) if isinstance(w, int))

    @property
    def num_classes(self) -> int | None:
        """Outputs of the last dense layer; None without a head."""
        return self.head[-1] if self.head else None


def get_config(name: str, *, num_classes: int = 1000, include_top: bool = True) -> Config:
    """The published network called ``name``, with ``num_classes`` outputs or no dense head.

    Raises ``ValueError`` for an unknown name or a class count below 1.
    """
    if name not in CONFIGS:
        raise ValueError(f"unknown network {name!r}: expected one of {', '.join(CONFIGS)}")
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes: expected an integer >= 1, got {num_classes!r}")
    head = (*HIDDEN, num_classes) if include_top else ()
    return Config(name, tuple(CONFIGS[name]), head)


def config_name(widths: tuple[int | str, ...]) -> str:
    """The published name of a list of widths, or ``"vgg"`` for one of another width or depth."""
    for name, published in CONFIGS.items():
        if tuple(published) == widths:
            return name
    return "vgg"
