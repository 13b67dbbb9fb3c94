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
NetworkName = Annotated[
    str, typer.Argument(help="vgg11, vgg13, vgg16, vgg19, digits, imagenet or a weights file.")
]
WeightsName = Annotated[str, typer.Option(help="digits, imagenet or a weights file.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per forward.")]
Size = Annotated[
    int | None, typer.Option(min=1, help="Side of the input images; default: the network's or 224.")
]
Uint8 = Annotated[
    bool, typer.Option("--uint8", help="Normalize uint8 pixels inside the first convolution.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or emulator.")]
Dtype = Annotated[
    str | None,
    typer.Option(help="CPU: float32. GPU: float16 (default), bfloat16, tf32 or float32."),
]
Arch = Annotated[
    str | None,
    typer.Option(
        help="GPU to plan kernels for, such as sm_80; default: VGG_CUDA_ARCH or the device's."
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset", help="Preprocessing, such as torchvision or keras; default: as trained."
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first image that fails.")]


def network_named(name: str, num_classes: int) -> tuple[Config, str | None]:
    """Return the configuration and the output activation of a network name or a weights file.

    ``num_classes`` applies to the published networks only.
    """
    from ..configs import CONFIGS, get_config
    from ..weights import load_weights

    if name in CONFIGS:
        return get_config(name, num_classes=num_classes), None
    is_shipped = name == "digits" or name.partition(":")[0] == "imagenet"
    if not is_shipped and not Path(name).exists():
        fail(
            f"network: expected one of {', '.join(CONFIGS)}, digits, imagenet, or the path of a "
            f"weights file, got {name!r}"
        )
    weights = load_weights(name)
    return weights.config, weights.activation
