"""Metadata of weights in a safetensors header: preset, labels, activation and architecture.

The header's metadata has one key, "vgg_cuda": a JSON object with ``version``, ``preset``,
``labels``, ``activation`` and ``batch_norm``, and ``preset_assumed`` if a reader has assumed the
preset. It is one key, since safetensors writes several keys
in random order and equal weights should give equal files. In version 1, names and shapes determine
the architecture; otherwise version 2 states it as ``config``. Version 3 also has ``normalization``,
the network's own input layers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..configs import Config, Pooling
from ..images.normalization import Normalization
from ..images.presets import PRESETS, Preset
from ..text import one_line
from .canonical import Weights, WeightsError

KEY = "vgg_cuda"
PLAIN, WITH_CONFIG, WITH_NORMALIZATION = 1, 2, 3  # the versions

Count = Annotated[int, Meta(ge=1, lt=1 << 31)]
Side = Annotated[int, Meta(ge=1, lt=1 << 16)]
Layers = Meta(max_length=999)


class ConfigFields(msgspec.Struct, forbid_unknown_fields=True):
    """Fields of a :class:`Config` in a file: all are required, and limited in size."""

    name: Annotated[str, Meta(min_length=1, max_length=80)]
    widths: Annotated[tuple[Count | str, ...], Layers]
    head: Annotated[tuple[Count, ...], Layers]
    pool_grid: Side
    batch_norm: bool
    in_channels: Count
    pooling: Pooling | None
    flat: bool
    input_size: tuple[Side, Side] | None
    without_relu: Annotated[tuple[str, ...], Layers] | None
    exact_size: bool = False
    affine_after: Annotated[tuple[str, ...], Layers] = ()

    def __post_init__(self) -> None:
        if not self.name.isprintable() or any(w != "M" for w in self.widths if isinstance(w, str)):
            raise ValueError("expected a printable name, and widths of numbers and 'M'")


class NormalizationFields(msgspec.Struct, forbid_unknown_fields=True):
    """Fields of a :class:`Normalization` in a file."""

    scale: Annotated[tuple[float, ...], Layers]
    offset: Annotated[tuple[float, ...], Layers]
    reverse: bool


class Header(msgspec.Struct):
    """Value of the metadata's key; the preset is a dict of its fields."""

    version: int = PLAIN
    preset: Any = msgspec.field(default_factory=PRESETS["torchvision"].to_dict)
    labels: tuple[str, ...] | None = None
    activation: Any = None
    batch_norm: Any = False
    preset_assumed: bool = False
    config: ConfigFields | None = None
    normalization: NormalizationFields | None = None


@dataclass(frozen=True)
class Stated:
    """Metadata of a file; ``present`` is False if it has none and all values are defaults."""

    present: bool = False
    preset: Preset = PRESETS["torchvision"]
    labels: tuple[str, ...] | None = None
    activation: str | None = None
    batch_norm: bool = False
    config: Config | None = None
    preset_stated: bool = False
    normalization: Normalization | None = None


def parse(metadata: Mapping[str, str]) -> Stated:
    """Return the contents of ``metadata``. Raises :class:`WeightsError` for invalid ones."""
    if KEY not in metadata:
        return Stated()
    try:
        given = msgspec.json.decode(metadata[KEY])
    except (msgspec.DecodeError, RecursionError) as error:
        raise WeightsError(f"{KEY}: expected JSON in the metadata: {one_line(error)}") from error
    version = given.get("version", PLAIN) if isinstance(given, dict) else PLAIN
    if version not in (PLAIN, WITH_CONFIG, WITH_NORMALIZATION):
        raise WeightsError(
            f"{KEY}.version: expected {PLAIN} to {WITH_NORMALIZATION}, got {one_line(version)}; "
            "upgrade vgg_cuda"
        )
    try:
        header = msgspec.convert(given, Header)
        preset = Preset.from_dict(header.preset)
        fields = header.config and msgspec.structs.asdict(header.config)
        config = Config(**fields) if fields else None
        own = header.normalization and msgspec.structs.asdict(header.normalization)
        normalization = Normalization(**own) if own else None
    except (msgspec.ValidationError, ValueError, TypeError, OverflowError, RecursionError) as error:
        text, _, place = one_line(error).partition(" - at `$")  # a path such as .config.widths[0]
        raise WeightsError(f"{KEY}{place[:-1]}: {text[:1].lower()}{text[1:]}") from error
    batch_norm = header.batch_norm is True
    preset_stated = "preset" in given and not header.preset_assumed
    return Stated(
        True, preset, header.labels, header.activation, batch_norm, config, preset_stated,
        normalization,
    )  # fmt: skip


def to_metadata(weights: Weights) -> dict[str, str]:
    """Return the metadata of ``weights`` for a safetensors header."""
    plain = shapes_suffice(weights.config)
    stated = {
        "version": PLAIN if plain else WITH_CONFIG,
        "preset": weights.preset.to_dict(),
        "labels": weights.labels,
        "activation": weights.activation,
        "batch_norm": weights.config.batch_norm,
    }
    if not weights.preset_stated:
        stated["preset_assumed"] = True
    if not plain:
        stated["config"] = asdict(weights.config)
    if weights.normalization is not None:
        stated["version"] = WITH_NORMALIZATION
        stated["normalization"] = asdict(weights.normalization)
    return {KEY: json.dumps(stated, ensure_ascii=False)}


def shapes_suffice(config: Config) -> bool:
    """Return whether names and shapes of the canonical tensors determine ``config``."""
    usual = Config(
        *(config.name, config.widths, config.head, config.pool_grid, config.batch_norm),
        in_channels=config.in_channels,
    )
    doubled = ("M", "M") in pairwise(config.widths)
    five_blocks = config.pools == 5 and config.widths[-1] == "M" and not doubled
    return config == usual and five_blocks
