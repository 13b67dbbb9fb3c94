"""The table of a network's layers: the note's columns, with parameters and FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

from .configs import MIN_SIZE, Config, Conv


@dataclass(frozen=True)
class Row:
    """One layer: output ``size`` as shown, and what it holds and does for one image.

    ``flops`` counts a multiply-add as two, as the direct convolution would do it.
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
    "layer", "output size", "filters", "kernel", "stride", "padding", "activation", "parameters",
    "FLOPs",
)  # fmt: skip


def rows(config: Config, size: int | tuple[int, int], activation: str | None = None) -> list[Row]:
    """The layers of ``config`` for one image of ``size`` (side, or height and width).

    Raises ``ValueError`` for a size below 32.
    """
    h, w = (size, size) if isinstance(size, int) else size
    if min(h, w) < MIN_SIZE:
        raise ValueError(f"size: expected H and W >= {MIN_SIZE}, got {h} x {w}")
    table = [Row("input", f"{h}x{w}x3")]
    channels = 3
    for layer in config.features:
        if isinstance(layer, Conv):
            channels, k = layer.out_channels, 9 * layer.in_channels
            table.append(
                Row(
                    layer.name, f"{h}x{w}x{channels}", str(channels), "3x3", "1", "1", "relu",
                    (k + 1) * channels, 2 * h * w * k * channels,
                )  # fmt: skip
            )
        else:
            h, w = h // 2, w // 2
            table.append(Row(layer.name, f"{h}x{w}x{channels}", kernel="2x2", stride="2", padding="0"))
    if config.dense:
        grid = config.pool_grid
        table.append(Row("avgpool", f"{grid}x{grid}x{channels}"))
    for dense in config.dense:
        last = activation or "-"
        parameters = (dense.in_features + 1) * dense.out_features
        table.append(
            Row(
                dense.name, str(dense.out_features), str(dense.out_features),
                activation="relu" if dense.relu else last,
                parameters=parameters, flops=2 * dense.in_features * dense.out_features,
            )  # fmt: skip
        )
    return table


def summary_table(
    config: Config, size: int | tuple[int, int] = 224, activation: str | None = None
) -> str:
    """:func:`rows` as aligned plain text, with totals."""
    table = rows(config, size, activation)
    lines = [HEADINGS] + [
        (r.layer, r.size, r.filters, r.kernel, r.stride, r.padding, r.activation,
         f"{r.parameters:,}", f"{r.flops:,}")
        for r in table
    ]  # fmt: skip
    total = f"{sum(r.parameters for r in table):,}", f"{sum(r.flops for r in table):,}"
    lines.append(("total", "", "", "", "", "", "", *total))
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    text = [
        "  ".join(c.rjust(n) if i > 6 else c.ljust(n) for i, (c, n) in enumerate(zip(line, widths)))
        for line in lines
    ]
    rule = "-" * len(text[0])
    return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])
