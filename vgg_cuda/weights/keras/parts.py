"""Contents of Keras' files without a config: layers with variables, and names of other layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...text import listed, one_line
from ..canonical import Array, WeightsError
from ..chain.layers import UnsupportedError
from .graph import slot
from .h5 import H5File
from .stores import CONTAINERS, SUFFIXES, by_layer, ordered
from .terms import INACTIVE

NDIM = {"conv2d": 4, "dense": 2, "batch_normalization": 1}  # rank of the first variable
POOL = re.compile(r"max_pooling2d(_\d+)?|block\d+_pool")
KNOWN = {slot(kind, {}) for kind in (*INACTIVE, "Activation", "Flatten", "MaxPooling2D", "ReLU")}
KNOWN |= {"global_average_pooling2d", "global_max_pooling2d", "input", "softmax"}
CHANGING = re.compile(  # layers that may precede the first convolution and change its input
    r"(.*pooling2d|.*normalization|rescaling|zero_padding2d|reshape|permute|cropping2d|resizing|"
    r"up_sampling2d|lambda|sequential|functional|model)(_\d+)?"
)
WHOLE = "save the complete model (.keras)"


@dataclass(frozen=True)
class Part:
    """A layer with variables: ``name`` is for messages, ``own`` is its name in its model.

    ``names`` are the variables' names if the file states them. ``model`` is the path of the model
    that contains the layer, "" for the outermost.
    """

    name: str
    own: str
    names: tuple[str, ...]
    arrays: list[Array]
    model: str = ""


@dataclass
class Parts:
    """All layers of a file.

    ``others`` are the names of layers without variables; ``hidden``: the file omits such layers of
    nested models. ``pools`` counts the pools after every convolution if the file states them.
    ``first`` is a name assumed to be the input's.
    """

    layers: list[Part] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    hidden: bool = False
    pools: list[int] | None = None
    first: str | None = None

    @property
    def classes(self) -> list[str]:
        """The classes of ``others``, such as ``flatten``."""
        return [base(name) for name in self.others]


def saved_parts(file: H5File, source: str) -> Parts:
    """Return the parts of a ``.weights.h5`` file, whose layers are numbered by class."""
    parts = Parts()
    _collect(file, file.root, "", parts, source)
    odd = [name for name in parts.others if base(name) not in KNOWN]
    if odd:
        raise UnsupportedError(
            f"{source}: {listed(odd)}: expected the layers of a VGG; if it is one, {WHOLE}, which "
            "describes them"
        )
    _check_models(parts.layers, source)
    return parts


def legacy_parts(file: H5File, group: object, source: str) -> Parts:
    """Return the parts of an older ``.h5`` file, whose ``layer_names`` are in model order."""
    parts, pools = Parts(), list[int]()
    names = file.texts(group, "layer_names") or []
    for name in names:
        layer = file.group(group, name)
        variables = None if layer is None else file.texts(layer, "weight_names")
        if layer is None or variables is None:
            raise WeightsError(f"{source}: missing: the weights of {one_line(name, 80)}")
        if not variables:
            parts.others.append(name)
            if POOL.fullmatch(name):
                if not pools:
                    raise UnsupportedError(
                        f"{source}: {one_line(name, 80)}: expected a convolution before it"
                    )
                pools[-1] += 1
        split = by_layer(variables)
        flat = len(split) == 1 or all(not key for key in split)
        parts.hidden |= not flat or any(key.rsplit("/", 1)[-1] not in ("", name) for key in split)
        before = len(parts.layers)
        for key, own in split.items() if not flat else ((name, variables),):
            inner = key.rsplit("/", 1)[-1] or name
            ends = [one.rsplit("/", 1)[-1].split(":")[0] for one in own]
            known = tuple(end for end in SUFFIXES if end in ends)
            if len(known) != len(own):
                known = ()
            arrays = [file.array(layer, one) for one in (ordered(own, known) if known else own)]
            if arrays:
                where = inner if inner == name else f"{name}/{inner}"
                parts.layers.append(Part(one_line(where, 120), inner, known, arrays))
                pools += [0] * (arrays[0].ndim == NDIM["conv2d"])
        _check_order(parts.layers[before:], source)
    if parts.others and not parts.hidden:  # some programs omit layers without variables
        parts.pools = pools
    _check_names(parts, names, source)
    return parts


def _check_names(parts: Parts, names: Sequence[str], source: str) -> None:
    """Refuse layers without variables that have unknown names."""
    odd = [n for n in parts.others if base(n) not in KNOWN and not POOL.fullmatch(n)]
    if odd and odd[0] == names[0] and not CHANGING.fullmatch(odd[0]):
        parts.first = odd.pop(0)
    if odd:
        raise UnsupportedError(
            f"{source}: {listed(odd)}: expected the layers of a VGG with Keras' default names; if "
            f"it is one, {WHOLE}"
        )


def _check_order(layers: Sequence[Part], source: str) -> None:
    """Refuse a nested model with frozen layers in between: the file lists them last."""
    last: dict[tuple[int, str], tuple[list[int], Part]] = {}
    for part in layers:
        numbers = [int(digits[:9]) for digits in re.findall(r"\d+", part.own)]
        key = part.arrays[0].ndim, re.sub(r"_?\d+", "", part.own)
        before, other = last.get(key, (numbers, part))
        if numbers < before:
            raise UnsupportedError(
                f"{source}: {part.name}: expected layers in the order of their numbers, got it "
                f"after {other.name}, as in files with frozen layers; {WHOLE}"
            )
        last[key] = numbers, part


def _check_models(layers: Sequence[Part], source: str) -> None:
    """Refuse layers in several models: the file does not state the order of models."""
    seen: dict[int, Part] = {}
    for part in layers:
        ndim = part.arrays[0].ndim
        # a batch norm must be in the model of its convolution
        for other in (seen.setdefault(ndim, part), seen.get(4, part) if ndim == 1 else part):
            if other.model != part.model:
                raise UnsupportedError(
                    f"{source}: expected all layers in one model, got {other.name} and {part.name} "
                    f"in two, without their order; {WHOLE}"
                )


def _collect(file: H5File, group: object, where: str, parts: Parts, source: str) -> None:
    """Collect layers with variables, nested models first, and the names of other layers."""
    if where.count("/") > 16:
        raise WeightsError(f"{source}: expected groups with fewer nested levels")
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
            inside = len(parts.layers) + len(parts.others)
            _collect(file, layer, f"{path}/", parts, source)
            variables = file.group(layer, "vars")
            count = 0 if variables is None else len(file.names(variables))
            if count:
                own = file.text(variables, "name") or name
                arrays = [file.array(variables, str(i)) for i in range(count)]
                if arrays[0].ndim != NDIM.get(base(name)):
                    shape = list(arrays[0].shape)
                    raise UnsupportedError(
                        f"{source}: {one_line(path, 120)}: expected the layers of a VGG, got "
                        f"variables that begin with {shape}"
                    )
                label = one_line(f"{container}/{path}", 120)
                here.append(Part(label, own, (), arrays, where))
            elif inside == len(parts.layers) + len(parts.others):
                parts.others.append(name)
        parts.layers += here


def base(name: str) -> str:
    """Return the class of a layer with a default name: ``conv2d`` for ``conv2d_10``."""
    return re.sub(r"_\d+$", "", name)


def _natural(name: str) -> tuple[str, int]:
    """Return a key that sorts ``conv2d_2`` before ``conv2d_10``."""
    match = re.fullmatch(r"(.*?)(?:_(\d{1,6}))?", name, re.DOTALL)
    return (match[1], int(match[2] or 0)) if match else (name, 0)
