"""The kernels that a forward launches on a GPU, and lower bounds of their times; needs no GPU.

``vgg-cuda plan`` prints them. Times are bounds from the rates in ``roofline.py``, not measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from .. import _C
from ..arrays import numpy_dtype
from ..backends.kernels import PackedAffine, PackedConv3x3, PackedLinear
from ..backends.operations import Planner, Spec
from ..configs import IN_CHANNELS, Config, Conv, Pool
from ..forward.graph import Network
from ..forward.plan import Step, plan_forward
from ..images.presets import get_preset
from .roofline import CEILINGS, Ceiling

PRECISIONS = ("float16", "bfloat16", "tf32", "float32")
X_DTYPES = ("uint8", "float32")


@dataclass(frozen=True)
class LayerPlan:
    """One operation of a forward.

    - ``tiles``: pieces of work for the SMs; ``waves`` is tiles / SMs.
    - ``wave_efficiency``: fraction of the time that an SM is busy if all tiles take equally long.
    - ``useful``: fraction of the issued multiply-adds not wasted by ragged tiles or padding. Both
      fractions are None for operations without multiply-adds.
    - ``load_bytes``: loaded from the L2 cache into SMs; a multicast counts once per cluster.
    - ``family``: group of kernels that can be switched off, else "portable". ``variant``: name of
      the tile, empty for operations without a choice.
    - ``estimate``: estimated clock cycles of the busiest SM, by which plans are chosen; see
      ``_C.Plan``. ``port_load`` and ``l2_load``: fractions of the main loop's time in which shared
      memory is in use, and in which data arrive from the L2 cache; None without an estimate.
    - ``im2col_load_bytes``: loads of an im2col matrix product of the same tile; None for other
      operations.
    - ``floor_us``: time to move each array once and do each useful multiply-add at the ceiling's
      rates. ``tiled_us`` adds the tiles' waste and partial sums, and assumes full memory bandwidth.
    - ``early``: for each kernel, whether it may begin before the previous launch has ended.
    """

    layer: str
    kernels: list[str]
    family: str
    variant: str
    tile: str
    split_k: int
    stages: int
    cluster: int
    early: list[bool]
    grid: tuple[int, int, int]
    block: int
    smem_bytes: int
    tiles: int
    waves: float
    wave_efficiency: float | None
    useful: float | None
    estimate: dict[str, float]
    port_load: float | None
    l2_load: float | None
    macs: int
    bytes: int
    workspace_bytes: int
    load_bytes: int
    store_bytes: int
    im2col_load_bytes: int | None
    floor_us: float
    tiled_us: float


@dataclass(frozen=True)
class NetworkPlan:
    """The layers of one forward of ``batch`` images."""

    network: str
    batch: int
    size: tuple[int, int]
    dtype: str
    x_dtype: str
    arch: str
    sm_count: int
    ceiling: Ceiling
    layers: list[LayerPlan]

    @property
    def floor_us(self) -> float:
        """Sum over the layers."""
        return sum(layer.floor_us for layer in self.layers)

    @property
    def tiled_us(self) -> float:
        """Sum over the layers."""
        return sum(layer.tiled_us for layer in self.layers)

    @property
    def roofline_us(self) -> float:
        """Time of all useful multiply-adds at the ceiling's rate, without memory traffic."""
        return 2e6 * sum(layer.macs for layer in self.layers) / self.ceiling.flops[self.dtype]

    def totals(self) -> dict[str, float]:
        """Return sums over the layers, and rates."""
        return {
            "macs": sum(layer.macs for layer in self.layers),
            "launches": sum(len(layer.kernels) for layer in self.layers),
            "load_bytes": sum(layer.load_bytes for layer in self.layers),
            "floor_us": self.floor_us,
            "tiled_us": self.tiled_us,
            "roofline_us": self.roofline_us,
            "floor_images_per_s": 1e6 * self.batch / self.floor_us,
            "tiled_images_per_s": 1e6 * self.batch / self.tiled_us,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-ready values."""
        return {**asdict(self), "total": self.totals()}


def plan_network(
    config: Config, *, batch: int, size: int | tuple[int, int] | None = None,
    dtype: str = "float16", x_dtype: str = "float32", arch: str | _C.Arch = "sm_90a",
    planner: Callable[[Network], Planner] | None = None,
) -> NetworkPlan:  # fmt: skip
    """Plan the whole forward of ``config`` for x [batch, H, W, 3] of ``x_dtype``.

    ``size`` is the side of the images, or (height, width); by default the network's own size, else
    224. If the network has other than three input channels, ``x_dtype`` is ignored and x has
    ``dtype``. ``planner`` returns the planner for a network without weights, by default one that
    chooses kernels by estimates. Raises ``ValueError`` for unknown dtypes, for architectures that
    are unknown or have no ceiling, and for sizes that the network does not accept.
    """
    target = _C.arch(arch) if isinstance(arch, str) else arch
    images = X_DTYPES if planner is None else (*X_DTYPES, numpy_dtype(dtype).name)
    for name, value, known in (("dtype", dtype, PRECISIONS), ("x_dtype", x_dtype, images)):
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    ceiling = CEILINGS.get(target.name)
    if ceiling is None:
        raise ValueError(
            f"arch: expected one with known rates ({', '.join(CEILINGS)}), got {target.name!r}"
        )
    if size is None:
        size = config.natural_size
    h, w = (size, size) if isinstance(size, int) else size
    for name, count in (("batch", batch), ("size", max(h, w))):
        if not 1 <= count < 2**31:
            raise ValueError(f"{name}: expected 1 to 2^31 - 1, got {count}")
    if wrong := config.wrong_size(h, w):
        raise ValueError(f"size: {wrong}")
    if config.in_channels != IN_CHANNELS:
        x_dtype = numpy_dtype(dtype).name
    network = _network_of_shapes(config, target, dtype)
    tap = config.last if config.num_classes is None else "prob"
    x = Spec((batch, h, w, config.in_channels), x_dtype)
    plan = Planner(target) if planner is None else planner(network)
    forward = plan_forward(network, plan, x, {tap})
    after = {
        conv.name: pool.name
        for conv, pool in pairwise(config.features)
        if isinstance(conv, Conv) and isinstance(pool, Pool)
    }
    layers = [_layer(config, step, after, target, dtype, ceiling) for step in forward.steps]
    return NetworkPlan(
        config.name, batch, (h, w), dtype, x_dtype, target.name, target.sm_count, ceiling, layers
    )


def _network_of_shapes(config: Config, arch: _C.Arch, dtype: str) -> Network:
    """Return a network without weights, which suffices for planning."""
    convs: dict[str, Any] = {
        c.name: PackedConv3x3(None, None, c.in_channels, c.out_channels, dtype, arch.name)
        for c in config.convs
    }
    dense: dict[str, Any] = {
        d.name: PackedLinear(None, None, d.in_features, d.out_features, dtype, arch.name)
        for d in config.dense
    }
    affines: dict[str, Any] = {
        a.name: PackedAffine(None, None, a.channels, dtype, arch.name) for a in config.affines
    }
    backend: Any = None
    preset = get_preset("torchvision")
    return Network(config, backend, dtype, convs, dense, preset, affines=affines)


def _layer(
    config: Config, step: Step, after: dict[str, str], arch: _C.Arch, dtype: str, ceiling: Ceiling
) -> LayerPlan:
    operation = step.operation
    assert operation.plan is not None  # no tensor is empty
    plan = operation.plan.as_dict()
    names = [name for layer in step.layers for name in (layer, after.get(layer)) if name]
    first, tiling = plan["launches"][0], plan["tiling"]
    macs, issued, tiles = plan["macs"], plan["issued_macs"], plan["tiles"]
    busiest = -(-tiles // arch.sm_count)  # tiles of the busiest SM
    wave_efficiency = tiles / (busiest * arch.sm_count) if issued else None
    weights = sum(_weight_bytes(config, layer, dtype) for layer in step.layers)
    nbytes = step.x.spec.nbytes + weights + operation.y.nbytes
    moved = nbytes + 2 * plan["workspace_bytes"]  # partial sums are written, then read
    item = numpy_dtype(dtype).itemsize
    im2col = None
    if operation.name == "conv3x3" and tiling["gemm_k"] > 27:  # not the first convolution
        rows = tiling["block_m"] + tiling["block_n"]
        im2col = tiles * rows * tiling["block_k"] * tiling["steps"] * item
    return LayerPlan(
        layer=" ".join(names) or operation.name,
        kernels=[launch["kernel"] for launch in plan["launches"]],
        family=plan["family"],
        variant=plan["variant"],
        tile="x".join(str(tiling[f"block_{axis}"]) for axis in "mnk") if issued else "-",
        split_k=tiling["split_k"],
        stages=tiling["stages"],
        cluster=math.prod(first["cluster"]),
        early=[launch["early"] for launch in plan["launches"]],
        grid=first["grid"],
        block=math.prod(first["block"]),
        smem_bytes=first["smem_bytes"],
        tiles=tiles,
        waves=tiles / arch.sm_count,
        wave_efficiency=wave_efficiency,
        useful=macs / issued if issued else None,
        estimate=plan["estimate"],
        port_load=_load(plan["estimate"], "port_cycles"),
        l2_load=_load(plan["estimate"], "l2_cycles"),
        macs=macs,
        bytes=nbytes,
        workspace_bytes=plan["workspace_bytes"],
        load_bytes=plan["load_bytes"],
        store_bytes=plan["store_bytes"],
        im2col_load_bytes=im2col,
        floor_us=1e6 * ceiling.floor(macs, nbytes, dtype),
        tiled_us=1e6 * ceiling.floor(round(issued / (wave_efficiency or 1)), moved, dtype),
    )


def _load(estimate: dict[str, float], part: str) -> float | None:
    """Return the part's fraction of the main loop; None for parts that are not estimated."""
    return estimate[part] / estimate["main_cycles"] if estimate.get(part) else None


def _weight_bytes(config: Config, layer: str, dtype: str) -> int:
    shapes = {c.name: (9 * c.in_channels, c.out_channels) for c in config.convs}
    shapes |= {d.name: (d.in_features, d.out_features) for d in config.dense}
    for affine in config.affines:
        if affine.name == layer:
            return 8 * int(_C.packed_bias(affine.channels))  # scale and shift in float32
    gemm_k, K = shapes[layer]
    bias = 4 * int(_C.packed_bias(K))
    return K * int(_C.packed_columns(gemm_k, dtype)) * numpy_dtype(dtype).itemsize + bias
