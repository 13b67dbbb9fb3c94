"""A network's config as JSON values, for files whose tensors' shapes do not determine it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from ..configs import Config
from ..text import one_line
from .canonical import WeightsError

MAX_LAYERS = 999
MAX_SIDE = 1 << 16


def shapes_suffice(config: Config) -> bool:
    """Return whether names and shapes of the canonical tensors determine ``config``."""
    usual = Config(config.name, config.widths, config.head, config.pool_grid, config.batch_norm)
    doubled = ("M", "M") in pairwise(config.widths)
    five_blocks = config.pools == 5 and config.widths[-1] == "M" and not doubled
    return config == usual and five_blocks


def config_from_dict(values: Any, source: str) -> Config:
    """Return the config of ``dataclasses.asdict``. Raises :class:`WeightsError` otherwise."""
    if not isinstance(values, dict):
        raise WeightsError(f"{source}: config: expected a JSON object in the metadata")
    for name, valid in _FIELDS.items():
        if name not in values or not valid(values[name]):
            found = one_line(repr(values[name]), 80) if name in values else "nothing"
            raise WeightsError(f"{source}: config: {name}: expected a valid value, got {found}")
    if extra := values.keys() - _FIELDS.keys():
        raise WeightsError(f"{source}: config: unexpected fields: {one_line(sorted(extra))}")
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return Config(**given)
    except ValueError as error:
        raise WeightsError(f"{source}: config: {error}") from error


def _count(x: Any, most: int = 1 << 31) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and 1 <= x < most


def _list(x: Any, valid: Callable[[Any], bool]) -> bool:
    return isinstance(x, list) and len(x) <= MAX_LAYERS and all(map(valid, x))


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "name": lambda x: isinstance(x, str) and 0 < len(x) <= 80 and x.isprintable(),
    "widths": lambda x: _list(x, lambda n: n == "M" or _count(n)) and len(x) > 0,
    "head": lambda x: _list(x, _count),
    "pool_grid": lambda x: _count(x, MAX_SIDE),
    "batch_norm": lambda x: isinstance(x, bool),
    "in_channels": _count,
    "pooling": lambda x: x in (None, "avg", "max", "none"),
    "flat": lambda x: isinstance(x, bool),
    "input_size": lambda x: x is None or (_list(x, lambda n: _count(n, MAX_SIDE)) and len(x) == 2),
    "without_relu": lambda x: x is None or _list(x, lambda n: isinstance(n, str)),
}
"""Checks of ``Config``'s fields in a file."""
