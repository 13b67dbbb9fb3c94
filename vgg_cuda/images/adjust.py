"""Presets adjusted by single values: mean, scale, size, kind of resizing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .fitting import fitted
from .preset import Preset

RESIZES = ("squash", "shorter", "crop")


@dataclass(frozen=True)
class Adjustments:
    """Values for fields of a preset; None keeps the preset's own.

    - ``mean``, ``std``, ``scale``: an input is (pixel * scale - mean) / std, per channel in the
      order ``channels``. If one of them is given, mean is 0, std is 1 and scale is the preset's
      by default.
    - ``size``: height and width of the inputs.
    - ``resize``: "squash" (to ``size``, whatever the aspect), "shorter" (the shorter side to
      ``resize_to``, by default the size, then a centre crop) or "crop" (a centre crop alone).
    """

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    scale: float | None = None
    channels: str | None = None
    size: tuple[int, int] | None = None
    resize: str | None = None
    resize_to: int | None = None

    @property
    def values_given(self) -> bool:
        """Whether mean, std or scale is given."""
        return any(value is not None for value in (self.mean, self.std, self.scale))

    @property
    def size_given(self) -> bool:
        """Whether the size or the kind of resizing is given."""
        return any(value is not None for value in (self.size, self.resize, self.resize_to))

    def applied(self, preset: Preset, natural_size: tuple[int, int]) -> Preset:
        """Return ``preset`` with these values; its own or ``natural_size`` is the default size.

        Raises ``ValueError``, which names the value, for values that do not fit.
        """
        changed = self._sized(self._valued(preset), preset.size or natural_size)
        return preset if changed == preset else replace(changed, name="custom")

    def _valued(self, preset: Preset) -> Preset:
        fields: dict[str, Any] = {}
        if self.channels is not None and self.channels != preset.channels:
            fields = {"mean": preset.mean[::-1], "std": preset.std[::-1]}
        if self.values_given:
            fields["mean"] = _triple("mean", 0.0 if self.mean is None else self.mean)
            fields["std"] = _triple("std", 1.0 if self.std is None else self.std)
        if self.scale is not None:
            if not self.scale:
                raise ValueError("scale: expected a number other than 0, got 0")
            fields |= {"divisor": 1 / self.scale, "center": 0.0}
        if self.channels is not None:
            fields["channels"] = self.channels
        changed = replace(preset, **fields)
        low, high = changed.pixel_range
        slack = (high - low) / 100
        if self.mean is not None and not all(low - slack <= m <= high + slack for m in self.mean):
            raise ValueError(
                f"mean: expected numbers from {low:g} to {high:g}, the range of scaled pixels, got "
                f"{', '.join(f'{m:g}' for m in self.mean)}; scale is {1 / changed.divisor:g}"
            )
        return changed

    def _sized(self, preset: Preset, default: tuple[int, int]) -> Preset:
        if not self.size_given:
            return preset
        size = self.size or default
        resize = "shorter" if self.resize is None and self.resize_to is not None else self.resize
        if resize not in (None, *RESIZES):
            raise ValueError(f"resize: expected {', '.join(RESIZES)}, got {resize!r}")
        if self.resize_to is not None and resize != "shorter":
            raise ValueError(f"resize_to: expected resize 'shorter' with it, got {resize!r}")
        crop = size[0] if size[0] == size[1] else size
        if resize == "crop":
            return replace(preset, resize=None, crop=crop)
        if resize == "shorter":
            return replace(preset, resize=self.resize_to or max(size), crop=crop)
        if resize == "squash" or (preset.resize is None and preset.crop is None):
            return replace(preset, resize=size, crop=None)
        return fitted(preset, size)


def _triple(name: str, given: float | Sequence[float]) -> tuple[float, ...]:
    numbers = (given,) if isinstance(given, (int, float)) else tuple(given)
    if len(numbers) not in (1, 3):
        raise ValueError(f"{name}: expected one number or three, got {len(numbers)}")
    return numbers * 3 if len(numbers) == 1 else numbers
