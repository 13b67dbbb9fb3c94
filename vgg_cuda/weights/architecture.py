"""A network's architecture as JSON-ready values, for files whose tensors' shapes do not tell it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from ..configs import Config
from ..text import one_line
from .canonical import WeightsError

MAX_LAYERS = 999
MAX_SIDE = 1 << 16


def is_told_by_shapes(config: Config) -> bool:
    """Whether names and shapes of the canonical tensors tell all that there is to know."""
    usual = Config(config.name, config.widths, config.head, config.pool_grid, config.batch_norm)
    return config == usual and in_five_blocks(config)


def in_five_blocks(config: Config) -> bool:
    """Whether it is five times convolutions with a pool behind, as published networks are."""
    doubled = ("M", "M") in pairwise(config.widths)
    return config.pools == 5 and config.widths[-1] == "M" and not doubled


def config_to_dict(config: Config) -> dict[str, Any]:
    """All of ``config``."""
    return asdict(config)


def config_from_dict(values: Any, source: str) -> Config:
    """What :func:`config_to_dict` gave. Raises :class:`WeightsError` for anything else."""
    if not isinstance(values, dict):
        raise WeightsError(f"{source}: config: expected a JSON object in the metadata")
    for name, valid in _FIELDS.items():
        if name not in values or not valid(values[name]):
            found = one_line(repr(values[name]), 80) if name in values else "nothing"
            raise WeightsError(f"{source}: config: {name}: not as this package writes it: {found}")
    if extra := values.keys() - _FIELDS.keys():
        raise WeightsError(f"{source}: config: not expected: {one_line(sorted(extra))}")
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return Config(**given)
    except ValueError as error:
        raise WeightsError(f"{source}: config: {error}") from error


def _count(x: Any, most: int = 1 << 31) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and 1 <= x < most


def _counts(x: Any) -> bool:
    return isinstance(x, list) and len(x) <= MAX_LAYERS and all(_count(n) for n in x)


def _widths(x: Any) -> bool:
    return isinstance(x, list) and _counts([n for n in x if n != "M"]) and 0 < len(x) <= MAX_LAYERS


def _size(x: Any) -> bool:
    return isinstance(x, list) and len(x) == 2 and all(_count(n, MAX_SIDE) for n in x)


def _names(x: Any) -> bool:
    return isinstance(x, list) and len(x) <= MAX_LAYERS and all(isinstance(n, str) for n in x)


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "name": lambda x: isinstance(x, str) and 0 < len(x) <= 80 and x.isprintable(),
    "widths": _widths,
    "head": _counts,
    "pool_grid": lambda x: _count(x, MAX_SIDE),
    "batch_norm": lambda x: isinstance(x, bool),
    "in_channels": _count,
    "pooling": lambda x: x in (None, "avg", "max", "none"),
    "flat": lambda x: isinstance(x, bool),
    "input_size": lambda x: x is None or _size(x),
    "without_relu": lambda x: x is None or _names(x),
}
"""What each of ``Config``'s fields may be in a file."""
