"""Random chains of a VGG's layers in orders that networks do not have, in PyTorch and Keras."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

PIXELS = ("conv", "norm", "relu", "pool", "dropout", "identity", "affine")
ROWS = ("dense", "norm", "relu", "dropout", "identity", "affine", "flatten")
TO_ROWS = ("flatten", "flatten", "average", "maximum")
ENDS = ("softmax", "sigmoid", "log_softmax")


class Layer(NamedTuple):
    kind: str
    width: int = 0
    bias: bool = True
    scaled: bool = True  # of a batch norm: whether it has gamma and beta
    activation: str | None = None  # Keras: built in


@dataclass(frozen=True)
class Chain:
    """Layers after images [H, W, channels]."""

    size: tuple[int, int]
    channels: int
    layers: tuple[Layer, ...]
    seed: int

    def images(self) -> np.ndarray:
        rng = np.random.default_rng(self.seed)
        return rng.uniform(0, 1, (2, *self.size, self.channels)).astype(np.float32)


def draw(seed: int, blocks: int = 0, *, edits: bool = True) -> Chain:
    """Return a chain that every framework can run, of 1 to 3 ``blocks`` by default.

    It is a VGG with up to three layers inserted, removed or exchanged: none in a fifth of the
    chains, or all of them without ``edits``.
    """
    rng = random.Random(seed)
    norms = rng.random() < 0.4
    pixels, rows = [], []
    for _ in range(blocks or rng.randint(1, 3)):
        for _ in range(rng.randint(1, 2)):
            pixels += ["conv", "norm", "relu"] if norms else ["conv", "relu"]
        pixels.append("pool")
    if rng.random() < 0.2:
        pixels.insert(0, rng.choice(("norm", "affine")))
    if edits and rng.random() < 0.3:  # as many tutorials order them
        pixels.insert(len(pixels) - 1, "norm")
    if rng.random() < 0.8:
        for _ in range(rng.randint(0, 2)):
            rows += ["dense", "norm", "relu"] if norms else ["dense", "relu", "dropout"]
        rows = [*rows, "dense", rng.choice(ENDS)][: len(rows) + rng.randint(0, 2)]
        rows.insert(0, rng.choice(TO_ROWS))
    for _ in range(rng.choice((0, 1, 1, 2, 3)) if edits else 0):
        if rows and rng.random() < 0.4:
            _edit(rng, rows, ROWS, first=1)
        else:
            _edit(rng, pixels, PIXELS)
    smallest = 1 << pixels.count("pool")
    size = (smallest * rng.randint(1, 2), smallest + rng.randrange(smallest))
    biases = 0.05 if rng.random() < 0.3 else 0.95  # the chance of each layer
    layers = tuple(_layer(rng, kind, biases) for kind in (*pixels, *rows))
    return Chain(size, rng.choice((1, 3, 3, 4)), layers, seed)


def draw_for_state_dict(seed: int) -> Chain:
    """Return a VGG of five blocks that ends in a dense layer, or in a pool.

    A state dict holds no ReLUs and pools, so the layers are in the usual order.
    """
    chain = draw(seed, blocks=5, edits=False)
    layers = [one for one in chain.layers if one.kind != "affine"]
    layers = [one._replace(kind="average") if one.kind == "maximum" else one for one in layers]
    while layers[-1].kind not in ("dense", "pool"):
        layers.pop()
    return replace(chain, layers=tuple(layers))


def _edit(rng: random.Random, kinds: list[str], others: tuple[str, ...], first: int = 0) -> None:
    """Insert, remove or exchange a layer behind the ``first`` ones."""
    at = rng.randint(first, len(kinds))
    how = rng.choice(("insert", "insert", "remove", "exchange"))
    if how == "insert":
        kinds.insert(at, rng.choice(others))
    elif at < len(kinds):
        kind = kinds.pop(at)
        if how == "exchange":
            kinds.insert(rng.randint(first, len(kinds)), kind)


def _layer(rng: random.Random, kind: str, biases: float) -> Layer:
    bias, scaled = rng.random() < biases, rng.random() < 0.9
    return Layer(kind, rng.randint(1, 9), bias, scaled, rng.choice((None, None, "relu")))


class Affine(nn.Module):
    """A scale and shift per channel, spelled as arithmetic."""

    def __init__(self, channels: int, pixels: bool) -> None:
        super().__init__()
        shape = (channels, 1, 1) if pixels else (channels,)
        self.scale = nn.Parameter(torch.empty(shape).uniform_(-1, 1.5))
        self.shift = nn.Parameter(torch.empty(shape).uniform_(-0.5, 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.shift


def torch_module(chain: Chain) -> nn.Sequential:
    """Return the chain as an nn.Sequential in ``eval()``."""
    torch.manual_seed(chain.seed)
    shape, made = (chain.channels, *chain.size), []
    for layer in chain.layers:
        module = _torch_layer(layer, shape)
        shape = _shape(layer, shape)
        made.append(module)
    network = nn.Sequential(*made).eval()
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                part.running_mean.uniform_(-0.3, 0.3)
                part.running_var.uniform_(0.5, 1.5)
                if part.affine:
                    part.weight.uniform_(-0.7, 1.5)  # scales below 0 do not pass a maximum
                    part.bias.uniform_(-0.3, 0.3)
            elif isinstance(part, (nn.Conv2d, nn.Linear)):
                part.weight.mul_(2)
    return network


def _shape(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    C, *size = shape
    if layer.kind == "conv":
        return (layer.width, *size)
    if layer.kind == "pool":
        return (C, size[0] // 2, size[1] // 2)
    if layer.kind == "flatten":
        return (int(np.prod(shape)),)
    if layer.kind in ("average", "maximum"):
        return (C,)
    return (layer.width,) if layer.kind == "dense" else shape


def _torch_layer(layer: Layer, shape: tuple[int, ...]) -> nn.Module:
    C, pixels = shape[0], len(shape) == 3
    norm: Any = nn.BatchNorm2d if pixels else nn.BatchNorm1d
    pools = {"average": nn.AdaptiveAvgPool2d, "maximum": nn.AdaptiveMaxPool2d}
    match layer.kind:
        case "conv":
            return nn.Conv2d(C, layer.width, 3, padding=1, bias=layer.bias)
        case "dense":
            return nn.Linear(C, layer.width, bias=layer.bias)
        case "norm":
            return norm(C, affine=layer.scaled)  # type: ignore[no-any-return]
        case "affine":
            return Affine(C, pixels)
        case "average" | "maximum":
            return nn.Sequential(pools[layer.kind](1), nn.Flatten())
    kinds: dict[str, Any] = {
        "relu": nn.ReLU, "pool": lambda: nn.MaxPool2d(2), "identity": nn.Identity,
        "dropout": nn.Dropout, "flatten": nn.Flatten, "sigmoid": nn.Sigmoid,
        "softmax": lambda: nn.Softmax(dim=1), "log_softmax": lambda: nn.LogSoftmax(dim=1),
    }  # fmt: skip
    made: nn.Module = kinds[layer.kind]()
    return made


def keras_model(chain: Chain) -> Any:
    """Return the chain as a Sequential model of Keras with random weights."""
    from support.keras_models import L, keras, randomize

    layers: dict[str, Any] = {
        "conv": lambda one: L.Conv2D(
            one.width, 3, padding="same", use_bias=one.bias, activation=one.activation
        ),
        "dense": lambda one: L.Dense(one.width, use_bias=one.bias, activation=one.activation),
        "norm": lambda one: L.BatchNormalization(scale=one.scaled, center=one.bias),
        "affine": lambda one: L.Rescaling(0.1 * one.width, 0.2 if one.bias else 0.0),
        "relu": lambda _: L.ReLU(),
        "pool": lambda one: L.MaxPooling2D(padding="same" if one.width == 1 else "valid"),
        "identity": lambda _: L.Identity(),
        "dropout": lambda _: L.Dropout(0.5),
        "flatten": lambda _: L.Flatten(),
        "average": lambda _: L.GlobalAveragePooling2D(),
        "maximum": lambda _: L.GlobalMaxPooling2D(),
        "softmax": lambda _: L.Softmax(),
        "sigmoid": lambda _: L.Activation("sigmoid"),
        "log_softmax": lambda _: L.Activation("log_softmax"),
    }
    made = [layers[layer.kind](layer) for layer in chain.layers]
    model = keras.Sequential([keras.Input((*chain.size, chain.channels)), *made])
    randomize(model, chain.seed)
    return model
