"""Keras' files of weights alone: a VGG told by names and shapes, since no config says what it is.

Assumed is what every published VGG has: a ReLU behind each convolution (behind its batch norm, if
there is one) and behind each dense layer but the last, and pools where the names ``block1_conv2``
or, with other names, the published network of as many convolutions has them. What a file does say,
the classes of its other layers, is held against that.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..configs import CONFIGS
from .canonical import Array, Weights, WeightsError, listed, one_line
from .chain import (
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
    to_weights,
)
from .keras_graph import slot
from .keras_h5 import H5File
from .keras_stores import CONTAINERS, SUFFIXES, by_layer, ordered
from .keras_terms import INACTIVE, dense_weight, krsc, preset_for

EPSILON = 1e-3  # keras.layers.BatchNormalization's default; the file does not hold it
NDIM = {"conv2d": 4, "dense": 2, "batch_normalization": 1}  # of the first variable
BY_CONVS = {sum(w != "M" for w in widths): widths for widths in CONFIGS.values()}
POOL, BLOCK = re.compile(r"max_pooling2d(_\d+)?|block\d+_pool"), re.compile(r"block(\d+)_conv\d+")
KNOWN = {slot(kind, {}) for kind in (*INACTIVE, "Activation", "Flatten", "MaxPooling2D", "ReLU")}
KNOWN |= {"global_average_pooling2d", "global_max_pooling2d", "softmax"}
CHANGING = re.compile(  # names that Keras gives to layers that this package does not have
    "(average_pooling2d|leaky_re_lu|p_re_lu|elu|normalization|layer_normalization|rescaling|"
    r"zero_padding2d|add|concatenate|multiply|reshape|permute|cropping2d|up_sampling2d)(_\d+)?"
)


class EpsilonAssumedWarning(UserWarning):
    """A file of weights alone does not say the batch norms' epsilon; Keras' default is taken."""


@dataclass(frozen=True)
class Part:
    """A layer with variables: ``name`` for messages, ``own`` as its model calls it."""

    name: str
    own: str
    names: tuple[str, ...]  # of the variables, where the file says them
    arrays: list[Array]


def saved_weights(file: H5File, source: str) -> Weights:
    """Of a ``.weights.h5`` file, as Keras' ``save_weights`` writes it."""
    parts: list[Part] = []
    others: list[str] = []
    _collect(file, file.root, "", parts, others, source)
    odd = [name for name in others if _base(name) not in KNOWN]
    if odd:
        raise UnsupportedError(
            f"{source}: {listed(odd)}: expected the layers of a VGG; if it is one, save the whole "
            "model (.keras), which says what they do"
        )
    return _assembled(parts, others, source)


def legacy_weights(file: H5File, group: Any, source: str) -> Weights:
    """Of an older ``.h5`` file, whose ``layer_names`` are in the model's order."""
    parts: list[Part] = []
    others: list[str] = []
    for name in file.texts(group, "layer_names") or []:
        layer = file.group(group, name)
        variables = None if layer is None else file.texts(layer, "weight_names")
        if layer is None or variables is None:
            raise WeightsError(f"{source}: missing: the weights of {one_line(name, 80)}")
        if not variables:
            others.append(name)
        split = by_layer(variables)
        flat = len(split) == 1 or all(not key for key in split)
        for key, own in split.items() if not flat else ((name, variables),):
            inner = key.rsplit("/", 1)[-1] or name
            ends = [one.rsplit("/", 1)[-1].split(":")[0] for one in own]
            known = tuple(end for end in SUFFIXES if end in ends)
            if len(known) != len(own):
                known = ()
            arrays = [file.array(layer, one) for one in (ordered(own, known) if known else own)]
            if arrays:
                where = inner if inner == name else f"{name}/{inner}"
                parts.append(Part(one_line(where, 120), inner, known, arrays))
    odd = [name for name in others if CHANGING.fullmatch(name)]
    if odd:
        raise UnsupportedError(f"{source}: {listed(odd)}: expected the layers of a VGG")
    return _assembled(parts, others, source)


def _collect(
    file: H5File, group: Any, where: str, parts: list[Part], others: list[str], source: str
) -> None:
    """Layers with variables, those of nested models first, and the names of the others."""
    if where.count("/") > 16:
        raise WeightsError(f"{source}: groups nested too deep")
    for container in CONTAINERS:
        layers = file.group(group, container)
        if layers is None:
            continue
        here: list[Part] = []
        for name in sorted(file.names(layers), key=_natural):
            layer = file.group(layers, name)
            if layer is None:
                continue
            path = f"{where}{name}"
            inside = len(parts) + len(others)
            _collect(file, layer, f"{path}/", parts, others, source)
            variables = file.group(layer, "vars")
            count = 0 if variables is None else len(file.names(variables))
            if count:
                own = file.text(variables, "name") or name
                arrays = [file.array(variables, str(i)) for i in range(count)]
                if arrays[0].ndim != NDIM.get(_base(name)):
                    shape = list(arrays[0].shape)
                    raise UnsupportedError(
                        f"{source}: {one_line(path, 120)}: expected the layers of a VGG, got "
                        f"variables that begin with {shape}"
                    )
                here.append(Part(one_line(f"{container}/{path}", 120), own, (), arrays))
            elif inside == len(parts) + len(others):
                others.append(name)
        parts += here


def _assembled(parts: Sequence[Part], others: Sequence[str], source: str) -> Weights:
    kinds: dict[int, list[Part]] = {4: [], 2: [], 1: []}
    for part in parts:
        ndim = part.arrays[0].ndim
        if ndim not in kinds or len(part.arrays) > (4 if ndim == 1 else 2):
            shapes = ", ".join(str(list(array.shape)) for array in part.arrays[:5])
            raise UnsupportedError(
                f"{source}: {part.name}: expected a layer of a VGG, got {shapes}"
            )
        kinds[ndim].append(part)
    convs, dense, norms = kinds[4], kinds[2], kinds[1]
    classes = [_base(name) for name in others]
    pools = sum(POOL.fullmatch(name) is not None for name in others)
    if norms:
        acts = classes.count("re_lu") + classes.count("activation")
        if len(norms) != len(convs) or (pools and acts < len(convs)):
            raise UnsupportedError(
                f"{source}: expected a batch norm and then a ReLU layer behind every convolution, "
                f"or no batch norms; got {len(convs)} convolutions, {len(norms)} batch norms and "
                f"{acts} activation layers; if it is a VGG, save the whole model (.keras)"
            )
        warnings.warn(
            f"{source}: a file of weights alone does not hold the epsilon of its batch norms: "
            f"Keras' default of {EPSILON} is taken; a .keras file holds it",
            EpsilonAssumedWarning,
            stacklevel=8,  # whoever called VGG.load
        )
    after = _pools(convs, source)
    if pools not in (0, sum(after)):
        raise UnsupportedError(
            f"{source}: expected {sum(after)} pools behind {len(convs)} convolutions, found {pools}"
            "; if it is a VGG, save the whole model (.keras), which says where they are"
        )
    layers: list[Layer] = []
    for i, conv in enumerate(convs):
        layers.append(Conv3x3(conv.name, krsc(conv.arrays[0]), _bias(conv)))
        if norms:
            layers.append(_batch_norm(norms[i], source))
        layers.append(Relu(f"the ReLU of {conv.name}"))
        if after[i]:
            layers.append(MaxPool2x2(f"the pool behind {conv.name}"))
    layers += _head(dense, classes)
    return to_weights(layers, source=source, preset=preset_for(convs[0].own))


def _head(dense: Sequence[Part], classes: Sequence[str]) -> list[Layer]:
    layers: list[Layer] = []
    if "global_average_pooling2d" in classes:
        layers.append(GlobalPool("global_average_pooling2d", "avg"))
    elif "global_max_pooling2d" in classes:
        layers.append(GlobalPool("global_max_pooling2d", "max"))
    elif dense:
        layers.append(Flatten("flatten", "HWC"))
    for part in dense:
        layers.append(Linear(part.name, dense_weight(part.arrays[0]), _bias(part)))
        if part is not dense[-1]:
            layers.append(Relu(f"the ReLU of {part.name}"))
    if "softmax" in classes:
        layers.append(Softmax("softmax"))
    return layers


def _pools(convs: Sequence[Part], source: str) -> list[bool]:
    """For every convolution, whether a pool follows it."""
    blocks = [int(m[1][:6]) for conv in convs if (m := BLOCK.fullmatch(conv.own))]
    if convs and len(blocks) == len(convs) and blocks == sorted(blocks):
        return [b != after for b, after in zip(blocks, [*blocks[1:], None], strict=True)]
    if len(convs) not in BY_CONVS:
        raise UnsupportedError(
            f"{source}: expected {', '.join(map(str, BY_CONVS))} convolutions, which have their "
            f"pools where a published VGG has them, found {len(convs)}; save the whole model "
            "(.keras), which says where they are"
        )
    widths = BY_CONVS[len(convs)]
    pairs = zip(widths, [*widths[1:], "M"], strict=True)
    return [after == "M" for width, after in pairs if width != "M"]


def _batch_norm(part: Part, source: str) -> BatchNorm:
    names = part.names or {4: SUFFIXES[2:], 2: SUFFIXES[4:]}.get(len(part.arrays), ())
    found = dict(zip(names, part.arrays, strict=False))
    if "moving_mean" not in found or "moving_variance" not in found:
        raise UnsupportedError(
            f"{source}: {part.name}: expected gamma, beta, moving_mean and moving_variance, got "
            f"{len(part.arrays)} variables, which nothing tells apart; save the whole model "
            "(.keras)"
        )
    return BatchNorm(
        part.name,
        found.get("gamma"),
        found.get("beta"),
        found["moving_mean"],
        found["moving_variance"],
        EPSILON,
    )


def _bias(part: Part) -> Array | None:
    return part.arrays[1] if len(part.arrays) > 1 else None


def _base(name: str) -> str:
    """``conv2d_10`` -> ``conv2d``: the class of a layer with a name that Keras gave it."""
    return re.sub(r"_\d+$", "", name)


def _natural(name: str) -> tuple[str, int]:
    """A key that puts ``conv2d_2`` before ``conv2d_10``."""
    match = re.fullmatch(r"(.*?)(?:_(\d{1,6}))?", name, re.DOTALL)
    return (match[1], int(match[2] or 0)) if match else (name, 0)
