"""State dicts inside the checkpoints of training programs: PyTorch Lightning, timm and others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..text import listed
from .canonical import DroppedWarning, Weights, WeightsError, warn_caller

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema")
"""Keys of exponential moving averages, which timm's ``load_checkpoint`` prefers, too."""

KEYS = (*AVERAGED, "state_dict", "model_state_dict", "model", "net", "network", "params", "weights")
MAX_NESTED = 4

Labels = tuple[str, ...]

_TRAINING = re.compile("criterion|loss|metric")  # parts of a program that trains


def unwrap(values: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], list[str]]:
    """Return the state dict inside a checkpoint, and the keys of other tensors beside it.

    A moving average is preferred to the weights of the last step. Numbers, text and an optimizer's
    state are no part of a network, and are not listed. Raises :class:`WeightsError` if there are
    several state dicts with unknown keys.
    """
    others: list[str] = []
    for _ in range(MAX_NESTED):
        inner = {key: value for key, value in values.items() if _holds_tensors(value)}
        known = [key for key in KEYS if key in inner]
        if not known and (not inner or any(_is_tensor(value) for value in values.values())):
            break
        if not known and len(inner) > 1:
            raise WeightsError(
                f"expected one state dict, got {listed(list(map(str, inner)))}: pass "
                "one of them, VGG.load(torch.load(path)[key])"
            )
        chosen = known[0] if known else next(iter(inner))
        for key, value in values.items():
            if key != chosen and (key in inner or _is_tensor(value)):
                others.append(str(key))
        values = inner[chosen]
    return values, others


def labels_in(checkpoint: Mapping[Any, Any]) -> Labels | None:
    """Return the class names that a checkpoint states, class 0 first; None without any.

    ``class_to_idx`` maps names to indices, as torchvision's ``ImageFolder`` does.
    """
    found = checkpoint.get("class_to_idx")
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        return None
    if any(type(index) is not int for index in found.values()):
        return None
    names = sorted(found, key=lambda name: found[name])
    return tuple(names) if [found[name] for name in names] == list(range(len(names))) else None


def with_labels(weights: Weights, labels: Labels | None) -> Weights:
    """Return ``weights`` with the labels of a checkpoint; warn if their number is another."""
    if labels is None or len(labels) == weights.config.num_classes:
        return weights if labels is None else replace(weights, labels=labels)
    warn_dropped([f"class_to_idx of {len(labels)} classes"], weights.source)
    return weights


def is_training(module: str) -> bool:
    """Return whether a module of this name is a loss or a metric, not a part of a network."""
    return _TRAINING.search(module.rpartition(".")[2].lower()) is not None


def warn_dropped(names: list[str], source: str) -> None:
    """Issue a :class:`DroppedWarning` that lists ``names``, if there are any."""
    if names:
        text = f"{source}: not part of the network, and not used: {listed(names)}"
        warn_caller(text, DroppedWarning)


def _is_tensor(value: Any) -> bool:
    return len(getattr(value, "shape", ())) > 0


def _holds_tensors(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    deeper = any(isinstance(v, Mapping) and _has_tensor(v) for k, v in value.items() if k in KEYS)
    return deeper or _has_tensor(value)


def _has_tensor(values: Mapping[Any, Any]) -> bool:
    return any(isinstance(k, str) and _is_tensor(v) for k, v in values.items())
