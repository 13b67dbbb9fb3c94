"""Reader of Keras' files without a config: names and shapes determine the VGG.

The reader assumes the layers of every published VGG: a ReLU after each convolution (after its batch
norm, if any) and after each dense layer except the last, and pools after the blocks of names like
``block1_conv2`` or, with other names, as in the published network of as many convolutions. The
classes of the file's other layers must agree; an :class:`AssumedWarning` names the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from ...configs import CONFIGS
from ..canonical import Array, AssumedWarning, Weights, warn_caller
from ..chain import to_weights
from ..chain.layers import (
    BatchNorm,
    Conv3x3,
    Flatten,
    GlobalPool,
    Layer,
    Linear,
    MaxPool2x2,
    Relu,
    Softmax,
    UnsupportedError,
)
from .parts import POOL, WHOLE, Part, Parts
from .stores import SUFFIXES
from .terms import preset_for

EPSILON = 1e-3  # keras.layers.BatchNormalization's default; the file does not state it
BY_CONVS = {sum(w != "M" for w in widths): widths for widths in CONFIGS.values()}
BLOCK = re.compile(r"block(\d+)_conv\d+")
GLOBAL = ("global_average_pooling2d", "global_max_pooling2d")


def weights_of(parts: Parts, source: str) -> Weights:
    """Return the weights of the VGG made of ``parts``; issue an :class:`AssumedWarning`."""
    convs, dense, norms = _kinds(parts.layers)
    _check_activations(parts, len(convs), len(dense), len(norms))
    assumed = [f"{parts.first} is its input"] if parts.first else []
    after = f"a batch norm of epsilon {EPSILON} and a ReLU" if norms else "a ReLU"
    assumed.append(f"convolutions of stride 1 and padding 'same', {after} after each")
    pools = parts.pools
    if pools is None:
        pools, places = _pools(convs)
        assumed.append(places)
    found = sum(POOL.fullmatch(name) is not None for name in parts.others)
    if found != sum(pools) and (found or (parts.others and not parts.hidden)):
        raise UnsupportedError(
            f"expected {sum(pools)} pools after {len(convs)} convolutions, found {found}; if it is "
            f"a VGG, {WHOLE}, which states their positions"
        )
    layers: list[Layer] = []
    for i, conv in enumerate(convs):
        layers.append(Conv3x3(conv.name, np.moveaxis(conv.arrays[0], -1, 0), _bias(conv)))
        if norms:
            layers.append(_batch_norm(norms[i]))
        layers.append(Relu(f"the ReLU of {conv.name}"))
        layers += [MaxPool2x2(f"the pool after {conv.name}")] * pools[i]
    channels = convs[-1].arrays[0].shape[-1] if convs else 0
    layers += _head(parts, dense, channels, assumed)
    weights = to_weights(layers, source=source, preset=preset_for(convs[0].own if convs else ""))
    warn_caller(
        f"{source}: a file of weights only does not say what its layers compute. Assumed: "
        f"{'; '.join(assumed)}. A complete model (.keras) states it",
        AssumedWarning,
    )
    return weights


def _kinds(parts: Sequence[Part]) -> tuple[list[Part], list[Part], list[Part]]:
    """Return convolutions, dense layers and batch norms."""
    kinds: dict[int, list[Part]] = {4: [], 2: [], 1: []}
    for part in parts:
        ndim = part.arrays[0].ndim
        if ndim not in kinds or len(part.arrays) > (4 if ndim == 1 else 2):
            shapes = ", ".join(str(list(array.shape)) for array in part.arrays[:5])
            raise UnsupportedError(f"{part.name}: expected a layer of a VGG, got {shapes}")
        kinds[ndim].append(part)
    return kinds[4], kinds[2], kinds[1]


def _check_activations(parts: Parts, convs: int, dense: int, norms: int) -> None:
    """Refuse numbers of activation layers that no VGG has."""
    classes, listed = parts.classes, bool(parts.others) and not parts.hidden
    acts = classes.count("re_lu") + classes.count("activation")
    if norms and (norms != convs or (listed and acts < convs)):
        raise UnsupportedError(
            "expected a batch norm and then a ReLU layer after every convolution, or no batch "
            f"norms; got {convs} convolutions, {norms} batch norms and {acts} activation layers; "
            f"if it is a VGG, {WHOLE}"
        )
    hidden = max(dense - 1, 0)
    fitting = {0, hidden, convs, convs + hidden}  # the other activations are inside layers
    if "activation" in classes:  # the last may be a softmax
        fitting |= {count + 1 for count in fitting}
    if listed and acts not in fitting:
        raise UnsupportedError(
            f"expected a ReLU after each of {convs} convolutions and {hidden} of {dense} dense "
            f"layers, got {acts} activation layers; if it is a VGG, {WHOLE}"
        )
    if classes.count("softmax") > 1:
        raise UnsupportedError(f"expected one softmax, got {classes.count('softmax')}")


def _head(parts: Parts, dense: Sequence[Part], channels: int, assumed: list[str]) -> list[Layer]:
    """Return the layers after the last pool; append to ``assumed``."""
    classes = parts.classes
    layers: list[Layer] = []
    if GLOBAL[0] in classes:
        layers.append(GlobalPool(GLOBAL[0], "avg"))
    elif GLOBAL[1] in classes:
        layers.append(GlobalPool(GLOBAL[1], "max"))
    elif dense:
        assumed += _flattened(parts, dense[0], channels)
        layers.append(Flatten("flatten", "HWC"))
    elif parts.hidden:
        assumed.append("no global pool after the features")
    for part in dense:
        layers.append(Linear(part.name, part.arrays[0].T, _bias(part)))
        if part is not dense[-1]:
            layers.append(Relu(f"the ReLU of {part.name}"))
    if len(dense) > 1:
        assumed.append("a ReLU after every dense layer but the last")
    if "softmax" in classes:
        layers.append(Softmax("softmax"))
    elif dense:
        assumed.append("no softmax at the end: a call returns logits")
    return layers


def _flattened(parts: Parts, first: Part, channels: int) -> list[str]:
    """Return the assumptions about ``first``, a dense layer that reads all pixels."""
    inputs = first.arrays[0].shape[0]
    stated = "flatten" in parts.classes
    if inputs == channels:
        if not stated:
            raise UnsupportedError(
                f"{first.name}: expected a Flatten or a global pool before it: {inputs} inputs fit "
                f"both, and the file states neither; {WHOLE}"
            )
        return ["Flatten reads an image of one pixel"] if parts.hidden else []
    cells = inputs // channels if channels else 0
    if cells and cells * channels == inputs and math.isqrt(cells) ** 2 != cells:
        raise UnsupportedError(
            f"{first.name}: expected features of square images, got {inputs}: {cells} pixels of "
            f"{channels} channels; {WHOLE}, which states the image size"
        )
    return ["square images"]


def _pools(convs: Sequence[Part]) -> tuple[list[int], str]:
    """Return the number of pools after every convolution, and the assumption about them."""
    blocks = [int(m[1][:6]) for conv in convs if (m := BLOCK.fullmatch(conv.own))]
    if convs and len(blocks) == len(convs) and blocks == sorted(blocks):
        ends = zip(blocks, [*blocks[1:], None], strict=True)
        return [int(b != after) for b, after in ends], "a 2x2 max-pool after every block"
    if len(convs) not in BY_CONVS:
        raise UnsupportedError(
            f"expected {', '.join(map(str, BY_CONVS))} convolutions as in the published "
            f"networks, found {len(convs)}; {WHOLE}, which states the positions of the pools"
        )
    widths = BY_CONVS[len(convs)]
    pairs = zip(widths, [*widths[1:], "M"], strict=True)
    places = f"2x2 max-pools as in VGG-{len(convs) + 3}"
    return [int(after == "M") for width, after in pairs if width != "M"], places


def _batch_norm(part: Part) -> BatchNorm:
    names = part.names or {4: SUFFIXES[2:], 2: SUFFIXES[4:]}.get(len(part.arrays), ())
    found = dict(zip(names, part.arrays, strict=False))
    if "moving_mean" not in found or "moving_variance" not in found:
        raise UnsupportedError(
            f"{part.name}: expected gamma, beta, moving_mean and moving_variance, got "
            f"{len(part.arrays)} variables without names; {WHOLE}"
        )
    gamma, beta, mean = found.get("gamma"), found.get("beta"), found["moving_mean"]
    return BatchNorm(part.name, gamma, beta, mean, found["moving_variance"], EPSILON)


def _bias(part: Part) -> Array | None:
    return part.arrays[1] if len(part.arrays) > 1 else None
