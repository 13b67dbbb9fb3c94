"""A plan as plain text."""

from __future__ import annotations

import json
import re
from typing import Annotated

import typer

from ..planning import LayerPlan, NetworkPlan, plan_network
from .options import Json, NetworkName, network_named
from .terminal import system_errors, user_errors

HEADINGS = [
    *("layer", "kernel", "tile", "split", "cluster", "grid"),
    *("waves", "wave eff", "useful", "smem KB", "loads MB", "of im2col", "floor us", "tiled us"),
]
TEXTS = 3  # columns that are no numbers


def table(plan: NetworkPlan) -> str:
    """Aligned, with totals and what the times are bounds of."""
    total = [""] * len(HEADINGS)
    total[0], total[-2], total[-1] = "total", f"{plan.floor_us:.1f}", f"{plan.tiled_us:.1f}"
    lines = [HEADINGS, *(_cells(layer) for layer in plan.layers), total]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.ljust(width) if i < TEXTS else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "-" * max(map(len, text))
    return "\n".join([text[0], rule, *text[1:-1], rule, text[-1], "", *_notes(plan)])


def _cells(p: LayerPlan) -> list[str]:
    def part(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    grid = re.sub(r"(x1)+$", "", "x".join(map(str, p.grid)))
    of_im2col = None if p.im2col_load_bytes is None else p.load_bytes / p.im2col_load_bytes
    return [
        p.layer, " + ".join(p.kernels), p.tile, str(p.split_k), str(p.cluster), grid,
        f"{p.waves:.2f}", part(p.wave_efficiency), part(p.useful), f"{p.smem_bytes / 1024:.1f}",
        f"{p.load_bytes / 1e6:.1f}", part(of_im2col), f"{p.floor_us:.1f}", f"{p.tiled_us:.1f}",
    ]  # fmt: skip


def _notes(plan: NetworkPlan) -> list[str]:
    ceiling, batch = plan.ceiling, plan.batch
    flops = ceiling.flops[plan.dtype] / 1e12
    return [
        f"{plan.arch}, {plan.sm_count} SMs; {ceiling.gpu}: {flops:g} TFLOP/s of {plan.dtype} "
        f"products, {ceiling.bandwidth / 1e12:g} TB/s ({ceiling.source})",
        f"the products alone take {plan.roofline_us:.1f} us",
        f"floor, every array moved once: {plan.floor_us:.1f} us, "
        f"{1e6 * batch / plan.floor_us:,.0f} images/s",
        f"with these tiles, at those rates: {plan.tiled_us:.1f} us, "
        f"{1e6 * batch / plan.tiled_us:,.0f} images/s",
    ]


def plan(
    network: NetworkName,
    batch: Annotated[int, typer.Option(min=1, help="Images of the forward.")] = 1,
    arch: Annotated[str, typer.Option(help="The GPU, sm_80 for example.")] = "sm_90a",
    dtype: Annotated[str, typer.Option(help="float16, bfloat16, tf32 or float32.")] = "float16",
    size: Annotated[
        int | None, typer.Option(min=1, help="Side of the input images; default: 224, or its own.")
    ] = None,
    pixels: Annotated[
        bool, typer.Option("--uint8", help="Let the first convolution normalize uint8 pixels.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The kernels that a forward launches on a GPU, beside its roofline; needs no GPU."""
    with system_errors(), user_errors():
        config, _ = network_named(network, 1000)
        x_dtype = "uint8" if pixels else "float32"
        found = plan_network(
            config, batch=batch, size=size, dtype=dtype, x_dtype=x_dtype, arch=arch
        )
    typer.echo(json.dumps(found.as_dict(), indent=2) if as_json else table(found))
