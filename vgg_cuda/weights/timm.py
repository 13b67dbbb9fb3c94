"""timm's head of convolutions. Source: timm/models/vgg.py.

``pre_logits.fc1.weight`` [K,C,7,7] and ``pre_logits.fc2.weight`` [K,K,1,1] are fc6 and fc7,
``head.fc.weight`` [classes,K] is fc8. Above 224x224 timm slides this head over the image, whereas
torchvision and this package pool to 7x7 first: results for larger images differ. Without
``head.fc`` (timm's ``num_classes=0``) the network ends in the ReLU of fc7.
"""

from __future__ import annotations

from collections.abc import Collection

from .canonical import Array, WeightsError

FC = ("pre_logits.fc1", "pre_logits.fc2", "head.fc")


def is_timm(roots: Collection[str]) -> bool:
    """Return whether ``roots``, modules beside the convolutions, are the head of a timm VGG."""
    names = {root.rpartition(".")[2] for root in roots}
    return "pre_logits" in names and names <= {"pre_logits", "head"}


def flatten_kernels(tensors: dict[str, Array], head: list[str], channels: int) -> list[str]:
    """Replace the kernels by weights [K,C] of dense layers, and return their modules in order.

    ``head`` lists the modules of the head, ``channels`` is the width of the last
    convolution.
    Raises :class:`WeightsError`.
    """
    before = head[0].partition("pre_logits")[0].removesuffix("head.fc")
    found = [f"{before}{name}" for name in FC if name != FC[2] or f"{before}{name}" in head]
    names = [f"{module}.weight" for module in found]
    missing = [name for name in names if name not in tensors]
    if missing:
        raise WeightsError(f"missing: {', '.join(missing)}")
    first, second = tensors[names[0]], tensors[names[1]]
    k, kernel = first.shape[0] if first.ndim else 0, first.shape[-1] if first.ndim else 0
    if first.shape != (k, channels, kernel, kernel) or first.size == 0:
        raise WeightsError(
            f"{names[0]}: expected [K, {channels}, 7, 7] (any square kernel), got "
            f"{list(first.shape)}"
        )
    if second.ndim != 4 or second.shape[1:] != (k, 1, 1) or second.size == 0:
        raise WeightsError(f"{names[1]}: expected [K, {k}, 1, 1], got {list(second.shape)}")
    for name in names[:2]:
        tensors[name] = tensors[name].reshape(len(tensors[name]), -1)
    return found
