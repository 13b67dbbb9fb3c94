"""Defaults of a network's config."""

from __future__ import annotations

from dataclasses import replace

from ...configs import POOL_GRID, Config


def normalized(config: Config) -> Config:
    """Return ``config`` with defaults in place of equal explicit values."""
    usual = {layer.name for layer in replace(config, without_relu=None).dense if not layer.relu}
    return replace(
        config,
        pooling=None if config.pooling == ("avg" if config.head else "none") else config.pooling,
        pool_grid=POOL_GRID if config.reduces == "none" else config.pool_grid,
        flat=config.flat and not config.head,
        without_relu=None if set(config.without_relu or ()) == usual else config.without_relu,
    )
