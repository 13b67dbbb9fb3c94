"""Tables of a network's layers, with parameters and FLOPs."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from typing import Any

from .configs import Affine, Config, Conv
from .text import aligned


@dataclass(frozen=True)
class Row:
    """One layer of the table, for one image.

    ``size`` is the output size, "HxWxC" or "K". ``flops`` counts a multiply-add of the direct
    convolution as two.
    """

    layer: str
    size: str
    filters: str = "-"
    kernel: str = "-"
    stride: str = "-"
    padding: str = "-"
    activation: str = "-"
    parameters: int = 0
    flops: int = 0


HEADINGS = (
    *("layer", "output size", "filters", "kernel", "stride", "padding", "activation"),
    *("parameters", "FLOPs"),
)
NUMBERS = 7  # first column of numbers


def rows(
    config: Config, size: int | tuple[int, int] | None, activation: str | None = None
) -> list[Row]:
    """Return the layers of ``config`` for one image.

    ``size`` is the image's side, or its height and width; None stands for the network's
    ``natural_size``. Raises ``ValueError`` for a size that the network does not accept.
    """
    if size is None:
        size = config.natural_size
    h, w = (size, size) if isinstance(size, int) else size
    if wrong := config.wrong_size(h, w):
        raise ValueError(f"size: {wrong}")
    channels = config.in_channels
    table = [Row("input", f"{h}x{w}x{channels}")]
    for layer in config.features:
        if isinstance(layer, Conv):
            channels, taps = layer.out_channels, 9 * layer.in_channels
            size_text = f"{h}x{w}x{channels}"
            parameters, flops = (taps + 1) * channels, 2 * h * w * taps * channels
            after = "relu" if layer.relu else "-"
            row = (size_text, str(channels), "3x3", "1", "1", after, parameters, flops)
        elif isinstance(layer, Affine):
            numbers = 2 * channels
            row = (f"{h}x{w}x{channels}", "-", "-", "-", "-", "-", numbers, h * w * numbers)
        else:
            h, w = h // 2, w // 2
            row = (f"{h}x{w}x{channels}", "-", "2x2", "2", "0", "-", 0, 0)
        table.append(Row(layer.name, *row))
    if config.reduces != "none":
        grid = f"{config.pool_grid}x{config.pool_grid}x{channels}"
        table.append(Row(f"{config.reduces}pool", grid))
    for dense in config.dense:
        after = "relu" if dense.relu else activation or "-"
        k, c = dense.out_features, dense.in_features
        table.append(Row(dense.name, str(k), str(k), "-", "-", "-", after, (c + 1) * k, 2 * c * k))
    return table


def as_dict(
    config: Config, size: int | tuple[int, int] | None = None, activation: str | None = None
) -> dict[str, Any]:
    """Return :func:`rows` and their totals as values that JSON can hold."""
    table = rows(config, size, activation)
    return {
        "network": config.name,
        "layers": [asdict(row) for row in table],
        "parameters": sum(row.parameters for row in table),
        "flops": sum(row.flops for row in table),
    }


def summary_table(
    config: Config, size: int | tuple[int, int] | None = None, activation: str | None = None
) -> str:
    """Return :func:`rows` as aligned plain text, with totals."""
    table = rows(config, size, activation)
    cells = [(*astuple(row)[:NUMBERS], f"{row.parameters:,}", f"{row.flops:,}") for row in table]
    total = (f"{sum(r.parameters for r in table):,}", f"{sum(r.flops for r in table):,}")
    lines = [HEADINGS, *cells, ("total", *[""] * (NUMBERS - 1), *total)]
    text = aligned(lines, left=range(NUMBERS))
    return "\n".join([*text[:-1], text[1], text[-1]])
