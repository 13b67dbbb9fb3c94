"""The subcommand ``plan``: a forward's kernels and time bounds as a table or JSON."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from ..backends import WITHOUT_EXTENSION, DeviceError
from ..text import aligned
from .options import BatchSize, Json, NetworkName, Size, Uint8, network_named
from .terminal import fail, system_errors, user_errors
from .tune import DEVICES
from .tuned_plan import Choices

if TYPE_CHECKING:
    from .. import _C
    from ..planning import LayerPlan, NetworkPlan

HEADINGS = [
    *("layer", "kernel", "tile", "split", "cluster", "grid"),
    *("waves", "wave eff", "useful", "smem KiB", "port", "L2", "loads MB", "of im2col"),
    *("floor us", "tiled us"),
]
TEXT_COLUMNS = range(3)


def table(plan: NetworkPlan) -> str:
    """Return the plan as aligned text, with totals and the source of its bounds."""
    total = [""] * len(HEADINGS)
    total[0], total[-2], total[-1] = "total", f"{plan.floor_us:.1f}", f"{plan.tiled_us:.1f}"
    text = aligned([HEADINGS, *map(_cells, plan.layers), total], left=TEXT_COLUMNS)
    return "\n".join([*text[:-1], text[1], text[-1], "", *_notes(plan)])


def _cells(p: LayerPlan) -> list[str]:
    def fraction(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{value:.0%}"

    grid = re.sub(r"(x1)+$", "", "x".join(map(str, p.grid)))
    of_im2col = None if p.im2col_load_bytes is None else p.load_bytes / p.im2col_load_bytes
    return [
        *(p.layer, " + ".join(p.kernels), p.tile, str(p.split_k), str(p.cluster), grid),
        *(f"{p.waves:.2f}", fraction(p.wave_efficiency), fraction(p.useful)),
        *(f"{p.smem_bytes / 1024:.1f}", percent(p.port_load), percent(p.l2_load)),
        *(f"{p.load_bytes / 1e6:.1f}", fraction(of_im2col)),
        *(f"{p.floor_us:.1f}", f"{p.tiled_us:.1f}"),
    ]


def _notes(plan: NetworkPlan) -> list[str]:
    ceiling, total = plan.ceiling, plan.totals()
    flops = ceiling.flops[plan.dtype] / 1e12
    return [
        f"{plan.arch}, {plan.sm_count} SMs; {ceiling.gpu}: {flops:g} TFLOP/s in {plan.dtype}, "
        f"{ceiling.bandwidth / 1e12:g} TB/s ({ceiling.source})",
        f"arithmetic alone: {plan.roofline_us:.1f} us",
        f"floor, if every array is moved once: {plan.floor_us:.1f} us, "
        f"{total['floor_images_per_s']:,.0f} images/s",
        f"with these tiles at the same rates: {plan.tiled_us:.1f} us, "
        f"{total['tiled_images_per_s']:,.0f} images/s",
        "port, L2: estimated fractions of the main loop in which shared memory is in use, and in "
        "which data arrive from the L2 cache",
    ]


def plan(
    network: NetworkName,
    batch: BatchSize = 1,
    arch: Annotated[
        str | None,
        typer.Option(
            help="GPU architecture, such as sm_80; default: VGG_CUDA_ARCH or sm_90a; "
            "with --tuned on a GPU that of the GPU."
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="float16, bfloat16, tf32 or float32.")] = "float16",
    size: Size = None,
    pixels: Uint8 = False,
    tuned: Annotated[
        bool, typer.Option("--tuned", help="Use what vgg-cuda tune found on --device.")
    ] = False,
    device: Annotated[str, typer.Option(help=f"With --tuned: {DEVICES}.")] = "auto",
    as_json: Json = False,
) -> None:
    """Print a forward's GPU kernels and roofline; needs no GPU without --tuned."""
    with system_errors(), user_errors():
        try:
            from ..planning import plan_network
        except ImportError:
            raise DeviceError(WITHOUT_EXTENSION) from None
        named = network_named(network, 1000)
        if not tuned and device != "auto":
            fail(f"device: expected --tuned, because other plans need no device, got {device!r}")
        given = [network, "--batch", str(batch), "--dtype", dtype, "--device", device]
        given += [] if size is None else ["--size", str(size)]
        given += [] if arch is None else ["--arch", arch]
        command = shlex.join(["vgg-cuda", "tune", *given, *(["--uint8"] if pixels else [])])
        choices = Choices(device, arch, command) if tuned else None
        images = "float32" if choices is None else choices.image_dtype(dtype)
        found = plan_network(
            named.config, batch=batch, size=size or named.size, dtype=dtype,
            x_dtype="uint8" if pixels else images,
            arch=_arch(arch) if choices is None else choices.arch,
            planner=None if choices is None else choices.planner,
        )  # fmt: skip
        if as_json:
            extra = {} if choices is None else {"tuned": choices.as_dict()}
            typer.echo(json.dumps({**found.as_dict(), **extra}, indent=2))
            return
        typer.echo(table(found))
        if choices is not None:
            typer.echo(f"\n{choices.table()}")


def _arch(name: str | None) -> _C.Arch:
    """Return the architecture, as the environment variables select it and its kernels."""
    from .. import _C
    from ..backends.families import arch_named, families_of

    known = _C.arch_names()
    found = families_of(arch_named(name, known, "this build") or _C.arch("sm_90a"), known)
    return found.arch.without([each for each in found.arch.families if each in found.off])
