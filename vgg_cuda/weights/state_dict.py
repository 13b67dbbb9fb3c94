"""State dicts of PyTorch VGGs: convolutions [K,C,3,3] with batch norms, and dense layers in CHW.

Such a dict holds no ReLUs and pools. Most follow from the numbers that it leaves out; the rest is
assumed, and an :class:`AssumedWarning` names it.
Source: torchvision/models/vgg.py, timm/models/vgg.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..images.presets import PRESETS
from ..text import listed
from .canonical import (
    Array,
    AssumedWarning,
    Weights,
    WeightsError,
    as_float32,
    check_finite,
    check_shapes,
    infer_head,
    is_all_nan,
    warn_caller,
)
from .chain import to_weights
from .chain.layers import (
    AdaptiveAvgPool,
    BatchNorm,
    Conv3x3,
    Flatten,
    Layer,
    Linear,
    MaxPool2x2,
    Relu,
)
from .checkpoint import warn_dropped
from .metadata import Stated
from .native import warn_head_dropped
from .state_head import RELU, Head, head_of
from .state_names import locate

NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
BN_EPSILON = 1e-5  # the default of torch.nn.BatchNorm2d; the file does not hold it
BLOCKS = 5


def from_tensors(tensors: dict[str, Array], source: str, stated: Stated) -> Weights:
    """Return weights from a state dict, which is emptied. Raises :class:`WeightsError`.

    Tensors are removed from the dict one by one, so that at most one exists twice.
    """
    located = locate(tensors)
    prefix = located.prefix
    warn_dropped(located.dropped, source)
    for name in located.dropped:
        del tensors[name]
    convs, batch_norm = _convolutions(tensors, prefix, set(located.head))
    channels = len(tensors[f"{prefix}{convs[-1]}.weight"])
    head = head_of(tensors, located, channels)
    pools, assumed = _pools(prefix, convs, 3 if batch_norm else 2, bool(head.steps))
    dense = {name: tensors[name] for name in (f"{module}.weight" for module in head.dense)}
    _, grid = infer_head(dense, [channels])
    check_shapes(_expected(tensors, prefix, convs, batch_norm, head), tensors, "VGG")

    preset, assumed = stated.preset, [*assumed, *head.assumed]
    if is_all_nan(dense.values()) and is_all_nan(_biases(tensors, head) or dense.values()):
        warn_head_dropped(source)
        head = Head()
        # The only published file without a head has its own preset.
        if not (stated.present or stated.preset_stated):
            preset = PRESETS["features"]
    elif assumed and not stated.present:
        warn_caller(
            f"{source}: a state dict does not say what its layers compute. Assumed: "
            f"{'; '.join(assumed)}. A model as ONNX, or from_torch, states it",
            AssumedWarning,
        )
    del dense
    layers = _layers(tensors, prefix, convs, pools, batch_norm, head, grid)
    weights = to_weights(
        layers, source=source, preset=preset, preset_stated=stated.preset_stated,
        labels=stated.labels, joint=".",
    )  # fmt: skip
    if not stated.present:
        return weights
    config, classes = weights.config, weights.config.num_classes
    return dataclasses.replace(
        weights,
        config=dataclasses.replace(config, batch_norm=config.batch_norm or stated.batch_norm),
        labels=stated.labels if classes else None,
        activation=stated.activation if classes else None,
        normalization=stated.normalization,
    )


def _biases(tensors: Mapping[str, Array], head: Head) -> list[Array]:
    return [tensors[n] for n in (f"{module}.bias" for module in head.dense) if n in tensors]


def _convolutions(
    tensors: Mapping[str, Array], prefix: str, head: set[str]
) -> tuple[list[int], bool]:
    """Return the numbers of the convolutions, and whether a batch norm follows each."""
    found = (name.rpartition(".")[0] for name in tensors if name.startswith(prefix))
    modules = {name.removeprefix(prefix) for name in found if name not in head}
    indices = sorted(int(name) for name in modules if name.isdecimal())
    missing = [f"{prefix}{i}.weight" for i in indices if f"{prefix}{i}.weight" not in tensors]
    if missing:
        raise WeightsError(f"missing: {listed(missing)}")
    convs = [i for i in indices if tensors[f"{prefix}{i}.weight"].ndim == 4]
    norms = [i for i in indices if i not in convs]
    if norms and norms != [i + 1 for i in convs]:
        raise WeightsError(
            "expected a batch norm after every convolution or after none, got convolutions at "
            f"{prefix}{convs} and other layers at {prefix}{norms}"
        )
    return convs, bool(norms)


def _pools(prefix: str, convs: list[int], step: int, head: bool) -> tuple[list[int], list[str]]:
    """Return the number of pools after every convolution, and what is assumed about the end.

    A gap of one module between two convolutions is a pool.
    """
    pools = []
    for index, following in pairwise(convs):
        gap = following - index
        if gap not in (step, step + 1):
            raise WeightsError(
                f"missing: {prefix}{index + step}.weight or the next: expected a 3x3 convolution "
                f"or a 2x2 pool after {prefix}{index}, found a gap of {gap - step} modules"
            )
        pools.append(gap - step)
    count = sum(pools) + 1
    if convs[0] != 0 or count > BLOCKS or (head and count < BLOCKS):
        raise WeightsError(
            f"expected {prefix}0 and five blocks of convolutions, got convolutions at "
            f"{prefix}{convs}"
        )
    last = f"{prefix}{convs[-1]}"
    if count < BLOCKS:
        return [*pools, 0], [f"the network ends in a ReLU after {last}"]
    return [*pools, 1], [] if head else [f"the network ends in a ReLU and a pool after {last}"]


def _expected(
    tensors: Mapping[str, Array], prefix: str, convs: Sequence[int], batch_norm: bool, head: Head
) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor of the file, in the file's layout.

    A bias before a batch norm has no effect and may be missing. Other biases are all there or none.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    first = tensors[f"{prefix}{convs[0]}.weight"].shape
    channels = first[1] if len(first) == 4 else 0
    some = any(f"{prefix}{i}.bias" in tensors for i in convs) and not batch_norm
    for index in convs:
        module = f"{prefix}{index}"
        k = len(tensors[f"{module}.weight"])
        shapes[f"{module}.weight"] = (k, channels, 3, 3)
        if some or f"{module}.bias" in tensors:
            shapes[f"{module}.bias"] = (k,)
        if batch_norm:
            shapes |= _norm_shapes(tensors, f"{prefix}{index + 1}", k)
        channels = k
    some = any(f"{module}.bias" in tensors for module in head.dense)
    features = tensors[f"{head.dense[0]}.weight"].shape[-1] if head.dense else 0
    for module in head.steps:
        if module in head.norms:
            shapes |= _norm_shapes(tensors, module, features)
        elif module != RELU:
            k = len(tensors[f"{module}.weight"])
            shapes[f"{module}.weight"] = (k, features)
            if some:
                shapes[f"{module}.bias"] = (k,)
            features = k
    return shapes


def _norm_shapes(
    tensors: Mapping[str, Array], module: str, channels: int
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{module}.{part}": (channels,) for part in NORM_PARTS}
    counter = f"{module}.num_batches_tracked"
    if counter in tensors:  # has no effect in inference
        shapes[counter] = tensors[counter].shape
    return shapes


def _layers(
    tensors: dict[str, Array],
    prefix: str,
    convs: Sequence[int],
    pools: Sequence[int],
    batch_norm: bool,
    head: Head,
    grid: int,
) -> Iterator[Layer]:
    """Yield the layers; remove their tensors from ``tensors``."""
    for index, count in zip(convs, pools, strict=True):
        module = f"{prefix}{index}"
        w = tensors.pop(f"{module}.weight").transpose(0, 2, 3, 1)
        yield Conv3x3(module, w, tensors.pop(f"{module}.bias", None))
        del w
        if batch_norm:
            yield _norm(tensors, f"{prefix}{index + 1}")
        yield Relu(f"the ReLU of {module}")
        yield from [MaxPool2x2(f"the pool after {module}")] * count
    if head.steps:
        yield AdaptiveAvgPool("the pool before the head", grid)
        yield Flatten("the flattening before the head", "CHW")
    for module in head.steps:
        if module == RELU:
            yield Relu("a ReLU of the head")
        elif module in head.norms:
            yield _norm(tensors, module)
        else:
            bias = tensors.pop(f"{module}.bias", None)
            yield Linear(module, tensors.pop(f"{module}.weight"), bias)


def _norm(tensors: dict[str, Array], module: str) -> BatchNorm:
    gamma, beta, mean, variance = (_pop_norm(tensors, f"{module}.{p}") for p in NORM_PARTS)
    return BatchNorm(module, gamma, beta, mean, variance, BN_EPSILON)


def _pop_norm(tensors: dict[str, Array], name: str) -> NDArray[np.float32]:
    """Remove and return a batch norm's tensor, checked before folding hides its name."""
    tensor = as_float32(tensors.pop(name))
    check_finite(name, tensor)
    if name.endswith("running_var") and tensor.min() < 0:
        raise WeightsError(f"{name}: expected variances >= 0, got {tensor.min()}")
    return tensor
