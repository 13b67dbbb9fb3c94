"""Presets in JSON files: this package's, and timm's ``config.json``."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..text import one_line
from .fitting import fitted
from .preset import Preset

MAX_BYTES = 1 << 20
TIMM_KEY = "pretrained_cfg"
HUB_NAMES = ("model.safetensors", "pytorch_model.bin")


def read_preset(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> Preset:
    """Return the preset in a JSON file: ``Preset.to_dict``'s values, or timm's ``config.json``.

    The name of a preset without one is that of the file. A preset without resize and crop is fitted
    to ``size`` (H, W). Raises ``FileNotFoundError``, and
    ``ValueError`` for other content.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"preset: no such file: {str(path)!r}")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"preset: {path}: expected at most {MAX_BYTES} bytes")
    try:
        values = json.loads(path.read_bytes())
        if isinstance(values, dict) and TIMM_KEY in values:
            return from_timm(values[TIMM_KEY])
        if not isinstance(values, dict):
            return Preset.from_dict(values)  # raises
        preset = Preset.from_dict({"name": path.stem, **values})
        return preset if {"resize", "crop"} & values.keys() else fitted(preset, size)
    except RecursionError:
        raise ValueError(f"preset: {path}: expected fewer nested levels") from None
    except ValueError as error:  # also that of json
        raise ValueError(f"preset: {path}: {one_line(error)}") from None


def timm_preset_beside(weights: Path) -> Preset | None:
    """Return the preset of timm's ``config.json`` beside a weights file, as on the hub.

    Returns None for names other than :data:`HUB_NAMES`, and if there is no such file of timm.
    Raises ``ValueError`` for a ``pretrained_cfg`` of other content.
    """
    path = weights.with_name("config.json")
    if weights.name not in HUB_NAMES or not path.is_file() or path.stat().st_size > MAX_BYTES:
        return None
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or TIMM_KEY not in values:
        return None
    try:
        return from_timm(values[TIMM_KEY])
    except ValueError as error:
        raise ValueError(f"{path.name}: {one_line(error)}; state a preset instead") from None


def from_timm(config: Any) -> Preset:
    """Return the preset of timm's ``pretrained_cfg``: its evaluation transform.

    Source: timm/data/transforms_factory.py, transforms_imagenet_eval. Raises ``ValueError`` for a
    ``crop_mode`` other than "center", and for missing and other values.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"{TIMM_KEY}: expected an object, got {one_line(config, 40)}")
    given = {"crop_mode": "center", "crop_pct": 0.875, "interpolation": "bilinear", **config}
    try:
        _, height, width = map(int, given["input_size"])
        resize = math.floor(height / given["crop_pct"])
        mean, std = given["mean"], given["std"]
    except (KeyError, TypeError, ValueError, ArithmeticError):
        raise ValueError(
            f"{TIMM_KEY}: expected mean, std, input_size [C, H, W] and crop_pct"
        ) from None
    if height != width or given["crop_mode"] != "center":
        raise ValueError(
            f"{TIMM_KEY}: expected square images and crop_mode 'center', got {height} x {width} "
            f"and {one_line(given['crop_mode'], 40)!r}"
        )
    values = {"resize": resize, "crop": height, "resample": given["interpolation"]}
    return Preset.from_dict({"name": "timm", **values, "mean": mean, "std": std})
