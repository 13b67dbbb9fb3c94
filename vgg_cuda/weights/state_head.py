"""The head in a state dict: dense layers and batch norms, and the ReLUs between them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..configs import HIDDEN
from ..text import listed
from .canonical import Array, WeightsError
from .state_names import Located, in_order
from .timm import flatten_kernels, is_timm

RELU = "relu"


@dataclass
class Head:
    """Modules of a head in order, with ``RELU`` in between; ``assumed`` is for a warning."""

    steps: list[str] = field(default_factory=list)
    norms: set[str] = field(default_factory=set)
    assumed: list[str] = field(default_factory=list)

    @property
    def dense(self) -> list[str]:
        """The modules of the dense layers."""
        return [step for step in self.steps if step != RELU and step not in self.norms]


def head_of(tensors: dict[str, Array], located: Located, channels: int) -> Head:
    """Return the head; ``channels`` is the width of the last convolution.

    The numbers of modules state what is between two of them: nothing between 0 and 1, and, as in
    torchvision's head, a ReLU and a dropout between 0 and 3. Otherwise a ReLU is assumed. Raises
    :class:`WeightsError`.
    """
    head = Head()
    if is_timm({module.partition("pre_logits")[0] + "pre_logits" for module in located.head
                if "pre_logits" in module.split(".")}):  # fmt: skip
        first, second, *last = flatten_kernels(tensors, located.head, channels)
        head.steps = [first, RELU, second, RELU, *last]
        return head
    modules = in_order(located.head)
    head.norms = {module for module in modules if _is_norm(tensors, module)}
    missing = [f"{m}.weight" for m in modules if f"{m}.weight" not in tensors]
    if missing:
        raise WeightsError(f"missing: {listed(missing)}")
    activated = True  # a ReLU has been added since the last dense layer
    for module, following in itertools.zip_longest(modules, modules[1:]):
        head.steps.append(module)
        activated &= module in head.norms
        if following is None or activated:
            continue
        between, known = _relu_between(module, following)
        if following in head.norms and not known and not _numbered(module, following):
            between = False  # the usual order: dense layer, batch norm, ReLU
        if between:
            head.steps.append(RELU)
            activated = True
            if not known:
                head.assumed.append(f"a ReLU between {module} and {following}")
    dense = head.dense
    sizes = tuple(tensors[f"{module}.weight"].shape[:1] for module in dense)
    if dense and sizes == tuple((size,) for size in HIDDEN[: len(dense)]):
        head.steps.append(RELU)
        head.assumed.append(f"a ReLU after {dense[-1]}, and no layer of classes behind it")
    return head


def _is_norm(tensors: Mapping[str, Array], module: str) -> bool:
    return f"{module}.running_mean" in tensors or f"{module}.running_var" in tensors


def _relu_between(first: str, second: str) -> tuple[bool, bool]:
    """Return whether a ReLU is between two modules, and whether their numbers state it."""
    gap = _gap(first, second)
    return gap != 1, gap in (1, 3)


def _numbered(first: str, second: str) -> bool:
    return _gap(first, second) is not None


def _gap(first: str, second: str) -> int | None:
    """Return the difference of the numbers of two modules; None if it is unknown."""
    a, b = first.split("."), second.split(".")
    depth = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if depth is None or len(a) > depth + 1 or any(x != "0" for x in b[depth + 1 :]):
        return None
    if not (a[depth].isdecimal() and b[depth].isdecimal()):
        return None
    return int(b[depth][:9]) - int(a[depth][:9])
