"""Arguments and options that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from .terminal import fail

if TYPE_CHECKING:
    from ..configs import Config

Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print no progress and notices, but warnings and errors."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Paths = Annotated[
    list[str],
    typer.Argument(help="Image files, folders and glob patterns; -: paths on standard input."),
]
NetworkName = Annotated[
    str, typer.Argument(help="vgg11, vgg13, vgg16, vgg19, digits, imagenet or a weights file.")
]
WeightsName = Annotated[
    str, typer.Option(help="digits, imagenet, random:vgg16 (untrained) or a weights file.")
]
BatchSize = Annotated[int, typer.Option("--batch", min=1, help="Images per forward.")]
Size = Annotated[
    int | None,
    typer.Option(min=1, help="Side of the input images; default: the network's or preset's."),
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
LabelsFile = Annotated[
    Path | None,
    typer.Option("--labels", help="Class names: a .txt file, one per line, or a .json file."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first image that fails.")]


class Named(NamedTuple):
    """A network without its weights: ``size`` is the default height and width of images."""

    config: Config
    activation: str | None
    size: tuple[int, int]


def network_named(name: str, num_classes: int) -> Named:
    """Return the network with a name or in a weights file.

    ``num_classes`` applies to the published networks only.
    """
    from ..configs import CONFIGS, get_config
    from ..weights import load_weights

    if name in CONFIGS:
        config = get_config(name, num_classes=num_classes)
        return Named(config, None, config.natural_size)
    is_shipped = name == "digits" or name.partition(":")[0] in ("imagenet", "random")
    if not is_shipped and not Path(name).exists():
        fail(
            f"network: expected one of {', '.join(CONFIGS)}, digits, imagenet, or the path of a "
            f"weights file, got {name!r}"
        )
    weights = load_weights(name)
    return Named(weights.config, weights.activation, weights.natural_size)
