"""Draw ``docs/network.svg``: the launches of a VGG-16 forward, from ``vgg_cuda.planning``.

``make results`` runs this script; a test fails when the picture and the plan differ.
"""

from __future__ import annotations

from html import escape
from itertools import pairwise
from pathlib import Path

from vgg_cuda.configs import get_config
from vgg_cuda.planning import LayerPlan, NetworkPlan, plan_network
from vgg_cuda.summary import rows

PICTURE = Path(__file__).with_name("network.svg")
BATCH = 64
WIDTH, ROW, TOP, LEGEND = 880, 25, 116, 22  # pixels
LAYERS_AT, SEGMENT, KERNEL_AT, SHAPE_AT, TIME_AT, TIME_WIDTH = 24, 68, 244, 588, 612, 196

FAMILIES = {  # part of a kernel's name: its colour, and one line about it
    "fused_conv1_block": (
        "#7c3aed",
        "conv1_1, conv1_2 and pool1; the tensor between the convolutions stays on chip",
    ),
    "swap_ab": (
        "#0f766e",
        "convolution; wgmma's M is output channels, its N pixels of eight images",
    ),
    "halo": ("#2563eb", "convolution; wgmma's M is slabs of 8×8 pixels, its N output channels"),
    "dense": ("#b45309", "dense layer; each weight is read from memory once for up to 256 images"),
    "softmax": ("#57606a", "class probabilities"),
}

STYLE = """
    .card { fill: #ffffff; stroke: #d0d7de } .text { fill: #1f2328 } .muted { fill: #59636e }
    .line { stroke: #d0d7de } .on { fill: #ffffff } .gap { stroke: #ffffff }
    @media (prefers-color-scheme: dark) {
      .card { fill: #0d1117; stroke: #3d444d } .text { fill: #f0f6fc } .muted { fill: #9198a1 }
      .line { stroke: #3d444d } .gap { stroke: #0d1117 }
    }
    text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
    .title { font-size: 19px; font-weight: 600 } .name { font-size: 12px; font-weight: 600 }
    .code { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }
    .small { font-size: 12px } .end { text-anchor: end } .middle { text-anchor: middle }
"""


def render() -> str:
    """Return the picture as SVG text."""
    config = get_config("vgg16")
    plan = plan_network(config, batch=BATCH, x_dtype="uint8")
    shapes = {row.layer: row.size.replace("x", "×") for row in rows(config, plan.size)}
    shapes["softmax"] = shapes["fc8"]
    bottom = TOP + ROW * len(plan.layers)
    height = bottom + 22 + LEGEND * len(FAMILIES)
    longest_us = max(layer.tiled_us for layer in plan.layers)
    body = _head(plan)
    for i, layer in enumerate(plan.layers):
        body += _launch(layer, shapes[layer.layer.split()[-1]], TOP + ROW * i, longest_us)
    for i, (layer, after) in enumerate(pairwise(plan.layers)):
        if "pool" in layer.layer or after.layer == "softmax":
            body.append(_rule(TOP + ROW * (i + 1)))
    body += [_rule(bottom), *_legend(bottom + 26)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img">',
            f"  <title>The {len(plan.layers)} launches of VGG-16 and their kernels</title>",
            f"  <style>{STYLE}  </style>",
            f'  <rect class="card" width="{WIDTH}" height="{height}" rx="8"/>',
            *body,
            "</svg>\n",
        ]
    )


def _head(plan: NetworkPlan) -> list[str]:
    """Return title, conditions and column headings."""
    launches = sum(len(layer.kernels) for layer in plan.layers)
    images = f"{plan.batch} images of {plan.size[0]}×{plan.size[1]}, {plan.x_dtype} in"
    work = f"{images}, {plan.dtype} inside, on an {plan.ceiling.gpu} ({plan.arch})."
    total = f"tile sizes and reported rates, {plan.tiled_us:,.0f} µs in all"
    return [
        _text(24, 34, f"VGG-16 as it runs: {launches} kernel launches", "text title"),
        _text(24, 56, f"{work} Times are predicted", "muted"),
        _text(24, 74, f"from {total}: no kernel has been measured on a GPU yet.", "muted"),
        _text(LAYERS_AT, 105, "layers of one launch", "muted small"),
        _text(KERNEL_AT, 105, "kernel", "muted small"),
        _text(SHAPE_AT, 105, "output per image", "muted small end"),
        _text(TIME_AT, 105, "predicted time, µs", "muted small"),
        _rule(TOP - 3),
    ]


def _launch(layer: LayerPlan, shape: str, y: int, longest_us: float) -> list[str]:
    """Return one row: the layers, the kernel, the output's shape and the time."""
    names, kernel = layer.layer.split(), " + ".join(layer.kernels)
    colour = next(colour for part, (colour, _) in FAMILIES.items() if part in kernel)
    bar = max(1.0, TIME_WIDTH * layer.tiled_us / longest_us)
    base, time = y + 17, f"{layer.tiled_us:.{0 if layer.tiled_us > 10 else 1}f}"
    found = [_box(LAYERS_AT, y + 3, SEGMENT * len(names), colour)]
    for i, name in enumerate(names):
        x = LAYERS_AT + SEGMENT * i
        if i:
            found.append(f'  <path class="gap" d="M{x} {y + 3}v{ROW - 6}"/>')
        found.append(_text(x + SEGMENT // 2, base, name, "on name middle"))
    return [
        *found,
        _text(KERNEL_AT, base, kernel, "text code"),
        _text(SHAPE_AT, base, shape, "muted small end"),
        _box(TIME_AT, y + 6, bar, colour, height=ROW - 12, radius=2),
        _text(TIME_AT + bar + 6, base, time, "text small"),
    ]


def _legend(y: int) -> list[str]:
    """Return one line per kernel family."""
    found = []
    for i, (name, (colour, line)) in enumerate(FAMILIES.items()):
        top = y + LEGEND * i
        found.append(_box(LAYERS_AT, top - 10, 12, colour, height=12, radius=3))
        found.append(_text(LAYERS_AT + 20, top, name, "text code"))
        found.append(_text(LAYERS_AT + 164, top, line, "muted small"))
    return found


def _text(x: float, y: float, words: str, style: str) -> str:
    return f'  <text class="{style}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def _box(
    x: float, y: float, width: float, colour: str, height: int = ROW - 6, radius: int = 5
) -> str:
    return (
        f'  <rect fill="{colour}" x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height}" '
        f'rx="{radius}"/>'
    )


def _rule(y: float) -> str:
    return f'  <path class="line" d="M24 {y + 0.5:g}H{WIDTH - 24}"/>'


if __name__ == "__main__":
    PICTURE.write_text(render(), encoding="utf-8")
