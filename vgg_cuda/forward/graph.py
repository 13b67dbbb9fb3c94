"""The VGG graph: the order of its operations, for any implementation of them."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Protocol

from ..backends import Backend, PackedAffine, PackedConv3x3, PackedLinear
from ..configs import IN_CHANNELS, Affine, Config, Conv, Dense, Pool
from ..images.normalization import Normalization
from ..images.presets import Preset
from ..ops.packing import pack_affine, pack_conv3x3, pack_linear
from ..weights import Weights


@dataclass(frozen=True)
class Network:
    """A network whose layers are packed for a backend, by name.

    ``preset`` normalizes uint8 pixels, ``normalization`` all other inputs.
    """

    config: Config
    backend: Backend
    dtype: str
    convs: dict[str, PackedConv3x3]
    dense: dict[str, PackedLinear]
    preset: Preset
    normalization: Normalization | None = None
    affines: dict[str, PackedAffine] = field(default_factory=dict)


def pack(weights: Weights, backend: Backend, dtype: str) -> Network:
    """Check the weights and pack them for ``backend``, for a computation in ``dtype``."""
    config, tensors = weights.config, weights.tensors

    def parameters(layer: Conv | Dense | Affine) -> tuple[Any, Any]:
        return tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]

    convs = {c.name: pack_conv3x3(backend, *parameters(c), dtype=dtype) for c in config.convs}
    dense = {d.name: pack_linear(backend, *parameters(d), dtype=dtype) for d in config.dense}
    affines = {a.name: pack_affine(backend, *parameters(a), dtype=dtype) for a in config.affines}
    preset, normalization = weights.pixel_preset, weights.normalization
    return Network(config, backend, dtype, convs, dense, preset, normalization, affines)


class Tensor(Protocol):
    """An array, or the placeholder of a planned one."""

    @property
    def shape(self) -> tuple[int, ...]: ...


class Operations(Protocol):
    """The operations of a forward, as in ``base.Backend`` but with layers given by name."""

    def conv3x3(self, x: Any, layer: str, *, relu: bool, pool: bool) -> Any: ...

    def fused_conv1_block(self, x: Any, first: str, second: str) -> Any | None:
        """Apply two convolutions and a pool; return None if there is no fused operation."""
        ...

    def maxpool2x2(self, x: Any) -> Any: ...

    def avgpool(self, x: Any, grid: int) -> Any: ...

    def adaptive_maxpool(self, x: Any, grid: int) -> Any: ...

    def affine(self, x: Any, layer: str) -> Any: ...

    def flatten(self, x: Any) -> Any:
        """Reshape x [N,H,W,C] to [N,H*W*C]."""
        ...

    def linear(self, x: Any, layer: str, *, relu: bool) -> Any: ...

    def relu(self, x: Any) -> Any: ...

    def softmax(self, x: Any) -> Any: ...


def forward(
    config: Config, run: Operations, x: Tensor, wanted: Set[str]
) -> Iterator[tuple[str, Any]]:
    """Yield the taps of a forward of x [N,H,W,in_channels] and their tensors, in order.

    A convolution, its ReLU and its pool are one operation, unless a tensor between them is
    ``wanted``. So are the first two convolutions and their pool if ``run`` can fuse them. A global
    pool over single pixels is skipped unless it is ``wanted``.
    """
    layers, pooled = config.features, False
    block = fused_conv1_block(config, wanted) if config.in_channels == IN_CHANNELS else None
    if block and (y := run.fused_conv1_block(x, *block)) is not None:
        x, layers, pooled = y, layers[2:], True
    for layer, following in zip_longest(layers, layers[1:]):
        if isinstance(layer, Conv):
            raw = layer.name in wanted or not layer.relu
            inside = {layer.name, layer.relu_name} & wanted
            pooled = isinstance(following, Pool) and not inside
            x = run.conv3x3(x, layer.name, relu=not raw, pool=pooled)
            if raw and not pooled:
                yield layer.name, x
            if layer.relu and not pooled:
                x = run.relu(x) if raw else x
                yield layer.relu_name, x
        elif isinstance(layer, Affine):
            x = run.affine(x, layer.name)
            yield layer.name, x
        else:
            if not pooled:
                x = run.maxpool2x2(x)
            pooled = False
            yield layer.name, x
    tap = f"{config.reduces}pool"
    if config.reduces != "none" and (x.shape[1:3] != config.grid or tap in wanted):
        pool = run.avgpool if config.reduces == "avg" else run.adaptive_maxpool
        x = pool(x, config.pool_grid)
        yield tap, x
    if not config.dense:
        return
    x = run.flatten(x)
    for dense in config.dense:
        raw = dense.name in wanted or not dense.relu
        x = run.linear(x, dense.name, relu=not raw)
        if raw:
            yield dense.name, x
        if dense.relu:
            x = run.relu(x) if raw else x
            yield dense.relu_name, x
    if config.num_classes is not None:
        yield "prob", run.softmax(x)


def fused_conv1_block(config: Config, wanted: Set[str]) -> tuple[str, str] | None:
    """Return the two convolutions before the first pool, if no tensor inside is ``wanted``."""
    match config.features[:3]:
        case (Conv(relu=True) as a, Conv(relu=True) as b, Pool()):
            inside = {a.name, a.relu_name, b.name, b.relu_name}
            return None if inside & wanted else (a.name, b.name)
    return None


def collect(network: Network, run: Operations, x: Tensor, wanted: Set[str]) -> dict[str, Any]:
    """Return the tensors at the ``wanted`` taps; compute no deeper layer."""
    tensors: dict[str, Any] = {}
    for tap, y in forward(network.config, run, x, wanted) if wanted else ():
        if tap in wanted:
            tensors[tap] = y
        if len(tensors) == len(wanted):
            break
    return tensors
