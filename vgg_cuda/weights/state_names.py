"""Names of a state dict's tensors: where the VGG is, whatever modules are around it.

The convolutions of a VGG are numbered in one ``nn.Sequential``. Its name is a prefix, such as
"features.", "model.net.features." or "", of their names. The head is beside it, or beside a module
around it, or continues its numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..text import listed
from .canonical import Array, WeightsError
from .checkpoint import is_training
from .timm import is_timm

INDEX = "(0|[1-9][0-9]{0,2})"  # bounded, since int() fails for thousands of digits
NUMBER = re.compile(INDEX)
PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Located:
    """Places of a network's parts in a state dict.

    ``prefix`` is that of the convolutions, ``head`` lists the modules behind them in order,
    ``dropped`` the tensors that belong to no layer.
    """

    prefix: str
    head: list[str]
    dropped: list[str]


def split(name: str) -> tuple[str, str, str]:
    """Return prefix, last component of the module, and part of ``model.features.0.weight``."""
    module, _, part = name.rpartition(".")
    before, dot, last = module.rpartition(".")
    return before + dot, last, part


def may_match(names: Iterable[str]) -> bool:
    """Return whether any name is that of a numbered layer or of a head of a VGG."""
    known = ("classifier", "pre_logits", "head")
    for name in names:
        prefix, last, part = split(name)
        if part in PARTS and (NUMBER.fullmatch(last) or prefix.rstrip(".").split(".")[-1] in known):
            return True
    return False


def locate(tensors: Mapping[str, Array]) -> Located:
    """Find the network in ``tensors``.

    Raises :class:`WeightsError` unless it is one VGG with one head, and for layers that are in
    neither: only tensors that are no layers, such as the weights of a loss, are dropped.
    """
    prefix = _prefix(tensors)
    last = max(numbers(tensors, prefix, convolutions=True))
    beside = [n for n in tensors if split(n)[0] != prefix and _is_layer(tensors, n)]
    roots = {root for root in (_root(prefix, n) for n in beside) if not is_training(root)}
    behind = {f"{prefix}{i}" for i in numbers(tensors, prefix) if i > last + 1}
    if len(roots) + bool(behind) > 1 and (behind or not is_timm(roots)):
        raise WeightsError(
            f"expected one head, such as classifier, got {listed(sorted(roots | behind))}: pass "
            "the tensors of the network alone as a dict of arrays"
        )
    head, unexpected, dropped = dict[str, None](), list[str](), list[str]()
    for name, tensor in tensors.items():
        before, number, part = split(name)
        module = name.rpartition(".")[0]
        if before == prefix and NUMBER.fullmatch(number) and part in PARTS:
            if int(number) > last + 1:
                head[module] = None
        elif any(module == root or module.startswith(root + ".") for root in roots):
            if part in PARTS:
                head[module] = None
            else:
                unexpected.append(name)
        elif (prefix and name.startswith(prefix)) or not _may_drop(prefix, name, tensor, tensors):
            unexpected.append(name)
        else:
            dropped.append(name)
    if unexpected:
        raise WeightsError(
            f"unexpected: {listed(unexpected)}: expected the layers of a VGG, with names such as "
            f"{prefix}0.weight and classifier.0.weight"
        )
    return Located(prefix, in_order(head), dropped)


def in_order(modules: Iterable[str]) -> list[str]:
    """Return ``modules`` by their numbers if all names have some, else as they are.

    A state dict lists its tensors in the order of the modules; some files sort the names.
    """
    found = [module.split(".") for module in modules]
    words: dict[int, str] = {}
    keys = []
    for components in found:
        keys.append([int(re.sub(r"\D", "", c)[:9] or 0) for c in components])
        for depth, component in enumerate(components):
            word = re.sub(r"\d", "", component)
            if words.setdefault(depth, word) != word:
                return [".".join(components) for components in found]
    return [".".join(components) for _, components in sorted(zip(keys, found, strict=True))]


def _prefix(tensors: Mapping[str, Array]) -> str:
    found: dict[str, None] = {}
    for name, tensor in tensors.items():
        prefix, last, part = split(name)
        kernel = tensor.ndim == 4 and tensor.shape[2:] == (3, 3) and part == "weight"
        if kernel and NUMBER.fullmatch(last):
            found[prefix] = None
    if not found:
        raise WeightsError(
            "expected the weights of a VGG, with 3x3 convolutions such as features.0.weight, got "
            f"{listed(list(tensors), 4)}"
        )
    if len(found) > 1:
        raise WeightsError(
            "expected the convolutions of one VGG, found them in "
            f"{listed([prefix.rstrip('.') or 'the file itself' for prefix in found])}: pass the "
            "tensors of the network alone as a dict of arrays"
        )
    return next(iter(found))


def numbers(tensors: Mapping[str, Array], prefix: str, *, convolutions: bool = False) -> set[int]:
    """Return the numbers of the modules with weights below ``prefix``."""
    found = set()
    for name, tensor in tensors.items():
        before, last, part = split(name)
        numbered = before == prefix and part == "weight" and NUMBER.fullmatch(last)
        if numbered and (tensor.ndim == 4 or not convolutions):
            found.add(int(last))
    return found


def _root(prefix: str, name: str) -> str:
    """Return the outermost module of ``name`` that does not contain the convolutions."""
    around, modules = prefix.split(".")[:-1], name.split(".")[:-1]
    depth = 0
    while depth < min(len(around), len(modules) - 1) and around[depth] == modules[depth]:
        depth += 1
    return ".".join(modules[: depth + 1])


def _is_layer(tensors: Mapping[str, Array], name: str) -> bool:
    """Return whether ``name`` is the weight of a dense layer, or a bias whose weight is missing."""
    module, _, part = name.rpartition(".")
    if part == "bias":
        return f"{module}.weight" not in tensors
    return part == "weight" and tensors[name].ndim in (2, 4)


def _may_drop(prefix: str, name: str, tensor: Array, tensors: Mapping[str, Array]) -> bool:
    """Return whether a tensor outside of the network's modules is no layer's parameter."""
    module, _, part = name.rpartition(".")
    if part not in PARTS or is_training(_root(prefix, name)):
        return True
    parent = prefix.rstrip(".").rpartition(".")[0]
    alone = part == "weight" and tensor.ndim == 1 and f"{module}.bias" not in tensors
    return alone and bool(parent) and not name.startswith(parent + ".")
