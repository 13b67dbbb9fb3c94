"""timm's names: torchvision's features, and a head of convolutions. Source: timm/models/vgg.py.

``pre_logits.fc1.weight`` [K,C,7,7] and ``pre_logits.fc2.weight`` [K,K,1,1] are fc6 and fc7,
``head.fc.weight`` [classes,K] is fc8. Above 224x224 timm slides this head over the image, whereas
torchvision and this package pool to 7x7 first: results for larger images differ.
"""

from __future__ import annotations

from ..configs import IN_CHANNELS
from ..text import listed
from .canonical import Array, Weights, WeightsError
from .metadata import Stated
from .native import warn_head_dropped
from .state_dict import FEATURE, build

_FC = ("pre_logits.fc1", "pre_logits.fc2", "head.fc")
_HEAD = tuple(f"{name}.{part}" for name in _FC for part in ("weight", "bias"))


def matches(names: list[str]) -> bool:
    """Return whether any of these names belongs to the head of a timm VGG."""
    return any(name in _HEAD for name in names)


def from_tensors(tensors: dict[str, Array], source: str, stated: Stated) -> Weights:
    """Return weights from a timm state dict, which is emptied. Raises :class:`WeightsError`.

    Without ``head.fc`` (timm's ``num_classes=0``) the other dense layers are dropped with a
    warning: networks of this package end in classes or in pool5.
    """
    unknown = [name for name in tensors if not FEATURE.fullmatch(name) and name not in _HEAD]
    if unknown:
        raise WeightsError(
            f"{source}: unexpected: {listed(unknown)}: expected timm's names "
            "(features.N.…, pre_logits.fc1.…, pre_logits.fc2.…, head.fc.…)"
        )
    present = _HEAD if any(name.startswith("head.") for name in tensors) else _HEAD[:4]
    missing = [name for name in present if name not in tensors]
    if missing:
        raise WeightsError(f"{source}: missing: {listed(missing)}")
    fc1, fc2 = (tensors[f"{name}.weight"] for name in _FC[:2])
    k, kernel = fc1.shape[0] if fc1.ndim else 0, fc1.shape[-1] if fc1.ndim else 0
    channels = _out_channels(tensors)
    if fc1.shape != (k, channels, kernel, kernel) or fc1.size == 0:
        raise WeightsError(
            f"{source}: pre_logits.fc1.weight: expected [K, {channels}, 7, 7] (any square "
            f"kernel), got {list(fc1.shape)}"
        )
    if fc2.ndim != 4 or fc2.shape[1:] != (k, 1, 1) or fc2.size == 0:
        raise WeightsError(
            f"{source}: pre_logits.fc2.weight: expected [K, {k}, 1, 1], got {list(fc2.shape)}"
        )
    if len(present) < len(_HEAD):
        warn_head_dropped(source, "head.fc is missing (saved with num_classes=0)")
        for name in present:
            del tensors[name]
        return build(tensors, (), source, stated, "timm")
    for name in _FC[:2]:
        w = tensors[f"{name}.weight"]
        tensors[f"{name}.weight"] = w.reshape(w.shape[0], -1)
    return build(tensors, _FC, source, stated, "timm")


def _out_channels(tensors: dict[str, Array]) -> int:
    """Return the output channels of the last convolution."""
    found = {
        int(match[1]): tensor.shape[0]
        for match, tensor in ((FEATURE.fullmatch(n), t) for n, t in tensors.items())
        if match and tensor.ndim == 4
    }
    return found[max(found)] if found else IN_CHANNELS
