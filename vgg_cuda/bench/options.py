"""Options of a benchmark, and their resolution: bad options are reported before any work."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends import get_backend
from ..configs import CONFIGS, get_config
from ..forward.inputs import MAX_PIXELS, check_dtype
from ..weights import he_weights, load_weights
from .layers import network_layers, parse_shape, selected
from .measure import Timeouts
from .peers import NAMES
from .report import Kind
from .work import Job, Work

if TYPE_CHECKING:
    from ..configs import Config
    from ..weights import Weights

MAX_EMULATED_MACS = 2 * 10**8  # a few minutes
GPU_NOISE, CPU_NOISE = 0.005, 0.03
GPU_TIMEOUT_S, CPU_TIMEOUT_S = 5.0, 20.0
DEFAULT_PEERS: dict[Kind, tuple[str, ...]] = {
    "model": ("torch", "onnxruntime"), "kernel": ("torch",), "profile": (),
}  # fmt: skip
MIN_BUDGET_S = 1.0  # no work is started with less time left


@dataclass(frozen=True)
class Options:
    """Options as on the command line; None selects a default, which can depend on the device.

    ``layers`` and ``shapes`` select the work of a kernel benchmark; by default it has all layers.
    """

    kind: Kind
    network: str = "vgg16"
    batches: tuple[int, ...] = (1,)
    size: int | None = None
    dtype: str | None = None
    device: str = "auto"
    arch: str | None = None
    graph: bool = True
    peers: tuple[str, ...] | None = None
    layers: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    pool: bool = False
    relu: bool = False
    timeout: float | None = None
    noise: float | None = None
    budget: float | None = None
    seed: int = 0
    prepare_timeout: float = 300.0


@dataclass(frozen=True)
class Settings:
    """Resolved options. ``weights`` is still to be written to a file that the workers read."""

    options: Options
    job: Job
    works: tuple[Work, ...]
    peers: tuple[str, ...]
    weights: Weights | None
    size: int | None
    noise: float
    timeouts: Timeouts
    budget: float | None

    @property
    def on_emulator(self) -> bool:
        """True if the run counts instructions instead of measuring times."""
        return self.job.device == "emulator"


def resolve(options: Options) -> Settings:
    """Return the settings. Raises ``ValueError`` or ``DeviceError`` for bad options."""
    _check_numbers(options)
    _check_network(options.network)
    peers = _peers(options)
    backend = get_backend(options.device, options.arch)
    dtype = check_dtype(backend, options.dtype)
    on_gpu = backend.name == "cuda"
    arch = None if backend.name == "cpu" else options.arch
    job = Job(backend.device, dtype, arch=arch, graph=options.graph, seed=options.seed)
    weights = size = None
    if options.shapes:
        works = _shape_works(options)
    else:
        config, weights = _network(options.network)
        works, size = _network_works(options, config, weights)
    if backend.name == "emulator":
        _check_emulated(works)
        peers = () if options.peers is None else peers
    if not options.shapes and weights is None:
        weights = he_weights(config, options.seed)  # slow, so only after all checks
    timeout = GPU_TIMEOUT_S if on_gpu else CPU_TIMEOUT_S
    noise = GPU_NOISE if on_gpu else CPU_NOISE
    timeouts = Timeouts(options.timeout or timeout, prepare=options.prepare_timeout)
    return Settings(
        options, job, tuple(works), peers, weights, size, options.noise or noise, timeouts,
        options.budget,
    )  # fmt: skip


def _network(name: str) -> tuple[Config, Weights | None]:
    """Return a published network without weights, or a file's network with its weights.

    The softmax of a file's network is dropped, because logits are compared.
    """
    if name in CONFIGS:
        return get_config(name), None
    weights = replace(load_weights(name), activation=None, normalization=None)
    return weights.config, weights


def _check_network(name: str) -> None:
    """Raise ``ValueError`` for a name that is neither a network's nor a file's."""
    named = name in (*CONFIGS, "digits") or name.partition(":")[0] == "imagenet"
    if not named and not Path(name).exists():
        raise ValueError(
            f"unknown network {name!r}: expected one of {', '.join(CONFIGS)}, digits, imagenet, "
            "or the path of a weights file"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"network {name!r}: expected a path in UTF-8, because the report contains it; link or "
            "rename the file"
        ) from None


def _network_works(
    options: Options, config: Config, weights: Weights | None
) -> tuple[list[Work], int | None]:
    """Return the work for every batch, and the side of square images."""
    h, w = _size(options, config, weights)
    if (wrong := config.wrong_size(h, w)) is not None:
        raise ValueError(f"--size: {config.name}: {wrong}")
    for n in options.batches:
        if options.kind != "kernel" and n * h * w > MAX_PIXELS:
            raise ValueError(f"--batch: expected less than 2^31 pixels, got {n} x {h} x {w}")
    layers = tuple(network_layers(config))
    name = options.network if options.network in (*CONFIGS, "digits") else config.name
    wholes = [Work("model", name, (n, h, w, config.in_channels), layers) for n in options.batches]
    side = h if h == w else None
    if options.kind != "kernel":
        return [replace(work, kind=options.kind) for work in wholes], side
    chosen = selected(config, options.layers)
    found = [
        Work("kernel", layer.name, shape, (layer,))
        for work in wholes
        for layer, shape in work.shapes()
        if layer.name in chosen
    ]
    return found, side


def _size(options: Options, config: Config, weights: Weights | None) -> tuple[int, int]:
    if options.size is not None:
        return options.size, options.size
    return config.natural_size if weights is None else weights.natural_size


def _shape_works(options: Options) -> list[Work]:
    if options.layers:
        raise ValueError("--layer and --shape: expected one of them, got both")
    if options.batches != (1,) or options.size is not None:
        raise ValueError("--shape: expected no --batch or --size with it: a shape has both")
    found = [parse_shape(text, relu=options.relu, pool=options.pool) for text in options.shapes]
    return [Work("kernel", layer.name, shape, (layer,)) for layer, shape in dict.fromkeys(found)]


def _check_numbers(options: Options) -> None:
    for n in options.batches:
        if not 1 <= n < 2**31:
            raise ValueError(f"--batch: expected numbers of 1 or more, got {n}")
    if len(set(options.batches)) != len(options.batches):
        raise ValueError(f"--batch: expected each once, got {', '.join(map(str, options.batches))}")
    if (options.pool or options.relu) and not options.shapes:
        raise ValueError("--pool and --relu: expected with --shape; a network defines its layers")
    if not 0 <= options.seed < 2**63:
        raise ValueError(f"--seed: expected a whole number below 2^63, got {options.seed}")
    for name in ("timeout", "budget", "noise", "prepare_timeout"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{flag}: expected a positive number, got {value:g}")
    if options.budget is not None and options.budget < MIN_BUDGET_S:
        raise ValueError(f"--budget: expected {MIN_BUDGET_S:g} s or more, got {options.budget:g}")


def _peers(options: Options) -> tuple[str, ...]:
    given = DEFAULT_PEERS[options.kind] if options.peers is None else options.peers
    for name in given:
        if name not in NAMES and not ("." in name and _is_module(name)):
            raise ValueError(
                f"--peers: expected some of {', '.join(NAMES)}, or a module that can be imported, "
                f"got {name!r}"
            )
    return tuple(dict.fromkeys(given))


def _is_module(name: str) -> bool:
    """Return whether the module's top-level package exists, without importing the package."""
    try:
        return importlib.util.find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def _check_emulated(works: Sequence[Work]) -> None:
    macs = sum(work.flops() // 2 for work in works)
    if macs > MAX_EMULATED_MACS:
        raise ValueError(
            f"--device emulator: expected at most {MAX_EMULATED_MACS:.0e} multiply-adds, got "
            f"{macs:.1e}; choose a smaller --size, --batch or network"
        )
