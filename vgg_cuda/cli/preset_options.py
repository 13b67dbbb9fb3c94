"""Options that choose how images are preprocessed, and the notice of what is assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ..images.adjust import Adjustments
from ..images.presets import PRESETS, Preset, as_preset
from ..text import plain
from ..vgg import VGG
from ..weights.stated import normalized_twice, preset_size
from .terminal import notice

PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help=f"Preprocessing: {', '.join(PRESETS)} or a .json file; default: as the weights state.",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Input = (pixel * scale - mean) / std: one number, or three separated by commas; "
        "default with --std or --scale: 0.",
    ),
]
Std = Annotated[
    str | None,
    typer.Option(help="See --mean; default with --mean or --scale: 1."),
]
Scale = Annotated[str | None, typer.Option(help="See --mean: a number such as 1/255.")]
Channels = Annotated[
    str | None,
    typer.Option(help="RGB or BGR, also the order of --mean and --std."),
]
ImageSize = Annotated[
    str | None,
    typer.Option("--size", help="Of the network's input: 224 or 224x320."),
]
Resize = Annotated[
    str | None,
    typer.Option(
        help="squash (to the size, whatever the aspect), shorter (the shorter side to --resize-to, "
        "then a centre crop) or crop (a centre crop alone).",
    ),
]
ResizeTo = Annotated[
    int | None,
    typer.Option(min=1, help="For shorter; default: the size."),
]
CHANGE = "change it with --preset, or --mean, --std, --scale, --size and --resize"


@dataclass(frozen=True)
class PresetOptions:
    """The options as given; None stands for absent ones."""

    preset: str | None = None
    mean: str | None = None
    std: str | None = None
    scale: str | None = None
    size: str | None = None
    resize: str | None = None
    resize_to: int | None = None
    channels: str | None = None

    def check(self) -> None:
        """Raise for options that are wrong whatever the weights, before these are read."""
        self.adjustments()
        if self.preset is not None:
            as_preset(self.preset)

    def adjustments(self) -> Adjustments:
        """Return the parsed options. Raises ``ValueError``, which names the option."""
        scale = None if self.scale is None else _numbers("--scale", self.scale, 1)[0]
        mean = None if self.mean is None else _numbers("--mean", self.mean, 3)
        std = None if self.std is None else _numbers("--std", self.std, 3)
        channels = None if self.channels is None else self.channels.upper()
        size = None if self.size is None else _size(self.size)
        return Adjustments(mean, std, scale, channels, size, self.resize, self.resize_to)

    def chosen(self, weights: Any) -> tuple[Preset, str | None]:
        """Return the preset for ``weights``, and in words what of it is assumed, if anything.

        Raises ``ValueError`` and ``FileNotFoundError`` for bad options.
        """
        adjust, preset = self.adjustments(), weights.preset
        if adjust.size is not None and (wrong := weights.config.wrong_size(*adjust.size)):
            raise ValueError(f"--size: {wrong}")
        if self.preset is not None:
            preset = as_preset(self.preset, preset_size(weights))
        try:
            preset = adjust.applied(preset, weights.natural_size)
        except ValueError as error:
            option, colon, rest = str(error).partition(": ")
            raise ValueError(f"--{option.replace('_', '-')}{colon}{rest}") from None
        if weights.preset_stated or self.preset is not None:
            return preset, None
        assumed = [] if adjust.size_given else [preset.describe_size()]
        assumed += [] if adjust.values_given else [preset.describe_values()]
        return preset, "; ".join(assumed) or None


def announce(assumed: str | None, weights: str, preset: Preset) -> None:
    """Print on standard error what is assumed about preprocessing, and how to change it."""
    if assumed:
        named = preset.name in PRESETS
        as_preset = f" (preset {preset.name})" if named else ""
        keep = f"; keep it with: vgg-cuda convert {weights} NEW --preset {preset.name}"
        notice(f"assumed preprocessing: {assumed}{as_preset}; {CHANGE}{keep if named else ''}")


def resolve(model: VGG, options: PresetOptions, weights: str) -> Preset:
    """Return the preset for ``model``; print what is assumed of it."""
    preset, assumed = options.chosen(model.weights)
    announce(assumed, weights, preset)
    if twice := normalized_twice(model.weights, preset):
        typer.echo(plain(f"warning: {twice}"), err=True)
    return preset


def _numbers(option: str, text: str, most: int) -> tuple[float, ...]:
    """Return the numbers in ``text``, which may be fractions: "1/255"."""
    try:
        found = tuple(map(_number, text.split(",")))
    except (ValueError, ZeroDivisionError):
        found = ()
    if len(found) not in (1, most):
        expected = "a number" if most == 1 else f"one number or {most} separated by commas"
        raise ValueError(f"{option}: expected {expected}, got {text!r}")
    return found * most if len(found) == 1 else found


def _number(text: str) -> float:
    above, slash, below = text.partition("/")
    return float(above) / float(below) if slash else float(above)


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise ValueError(f"--size: expected pixels such as 224 or 224x320 (HxW), got {text!r}")
    return int(sides[0]), int(sides[-1])
