"""Arguments and options that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .terminal import fail

if TYPE_CHECKING:
    from ..configs import Config

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Paths = Annotated[list[str], typer.Argument(help="Image files, folders and glob patterns.")]
NetworkName = Annotated[str, typer.Argument(help="vgg11, vgg13, vgg16, vgg19, or a weights file.")]
WeightsName = Annotated[
    str, typer.Option(help='"digits", "imagenet" or the path of a weights file.')
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per forward.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or emulator.")]
Dtype = Annotated[
    str | None,
    typer.Option(help="float32 on the CPU; float16 (default), float32, tf32, bfloat16 on a GPU."),
]
Arch = Annotated[
    str | None, typer.Option(help="Plan kernels for this GPU, sm_80 for example; not on the CPU.")
]
PresetName = Annotated[
    str | None, typer.Option("--preset", help="How images are prepared; default: as trained.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first image that fails.")]


def network_named(name: str, num_classes: int) -> tuple[Config, str | None]:
    """Of that name, or a weights file's, and what it applies to its results."""
    from ..configs import CONFIGS, get_config
    from ..weights import load_weights

    if name in CONFIGS:
        return get_config(name, num_classes=num_classes), None
    named = name == "digits" or name.partition(":")[0] == "imagenet"
    if not named and not Path(name).exists():
        fail(
            f"unknown network {name!r}: expected one of {', '.join(CONFIGS)}, digits, "
            "imagenet, or the path of a weights file"
        )
    weights = load_weights(name)
    return weights.config, weights.activation
