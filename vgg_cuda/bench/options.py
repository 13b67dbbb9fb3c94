"""What a benchmark is asked for, and what that comes to: all that can be refused is, beforehand."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends import get_backend
from ..configs import CONFIGS, get_config
from ..forward.inputs import check_dtype
from ..images.presets import PRESETS
from ..weights import he_weights, load_weights
from . import memory
from .layers import network_layers, parse_shape, selected
from .measure import Patience
from .peers import NAMES, OURS
from .report import Kind
from .work import Job, Work

if TYPE_CHECKING:
    from ..configs import Config
    from ..weights import Weights

MAX_EMULATED_MACS = 2 * 10**8  # some minutes
GPU_NOISE, CPU_NOISE = 0.005, 0.03
GPU_TIMEOUT_S, CPU_TIMEOUT_S = 5.0, 20.0
DEFAULT_PEERS: dict[Kind, tuple[str, ...]] = {
    "model": ("torch", "onnxruntime"), "kernel": ("torch",), "profile": (),
}  # fmt: skip
LEAST_S = 1.0  # of a budget: nothing is begun with less time left
DEFAULT_SIZE = 224  # where the network and its preset do not say


@dataclass(frozen=True)
class Options:
    """As on the command line; None: the default, for the device where it depends on that.

    ``layers`` and ``shapes`` are of a kernel benchmark; with neither it has all layers.
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
    patience: float = 300.0


@dataclass(frozen=True)
class Asked:
    """The same, resolved; ``weights`` are still to be written where the workers read them."""

    options: Options
    job: Job
    works: tuple[Work, ...]
    peers: tuple[str, ...]
    weights: Weights | None
    size: int | None
    noise: float
    patience: Patience
    budget: float | None

    @property
    def on_emulator(self) -> bool:
        """Are there counters in place of times?"""
        return self.job.device == "emulator"


def resolve(options: Options) -> Asked:
    """What is to be done. Raises ``ValueError`` or ``DeviceError`` for what a user can mend."""
    _check_numbers(options)
    _check_network(options.network)
    peers = _peers(options)
    backend = get_backend(options.device, options.arch)
    dtype = check_dtype(backend, options.dtype)
    on_gpu = backend.name == "cuda"
    job = Job(backend.device, dtype, arch=options.arch, graph=options.graph, seed=options.seed)
    weights = config = size = None
    if options.shapes:
        works = _of_shapes(options)
    else:
        config, weights = _network(options.network)
        works, size = _of_network(options, config, weights)
    if backend.name == "emulator":
        _check_emulated(works)
        peers = () if options.peers is None else peers
    memory.check(works, job, (OURS, *peers), config)
    if config is not None and weights is None:
        weights = he_weights(config, options.seed)  # takes its time: after all that is refused
    default_s = GPU_TIMEOUT_S if on_gpu else CPU_TIMEOUT_S
    timeout = default_s if options.timeout is None else options.timeout
    default_noise = GPU_NOISE if on_gpu else CPU_NOISE
    noise = default_noise if options.noise is None else options.noise
    patience = Patience(timeout, prepare=options.patience)
    return Asked(options, job, tuple(works), peers, weights, size, noise, patience, options.budget)


def _network(name: str) -> tuple[Config, Weights | None]:
    """A published one, whose weights are still to be drawn, or a file's.

    Those without a softmax: logits are compared.
    """
    if name in CONFIGS:
        return get_config(name), None
    weights = replace(load_weights(name), activation=None)
    return weights.config, weights


def _check_network(name: str) -> None:
    """Raises ``ValueError`` for a name that is no network's and no file's."""
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
            f"network {name!r}: expected a path in UTF-8, for the report names it; link or rename "
            "the file"
        ) from None


def _of_network(
    options: Options, config: Config, weights: Weights | None
) -> tuple[list[Work], int | None]:
    """Work for every batch, and the side of the images where they are square."""
    h, w = _size(options, config, weights)
    if (wrong := config.wrong_size(h, w)) is not None:
        raise ValueError(f"--size: {config.name}: {wrong}")
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
    preset = weights.preset if weights is not None else PRESETS["torchvision"]
    size = options.size or config.input_size or preset.crop or preset.resize or DEFAULT_SIZE
    return size if isinstance(size, tuple) else (size, size)


def _of_shapes(options: Options) -> list[Work]:
    if options.layers:
        raise ValueError("--layer and --shape: expected one of them, got both")
    if options.batches != (1,) or options.size is not None:
        raise ValueError("--shape: expected no --batch and no --size beside it: it says both")
    found = [parse_shape(text, relu=options.relu, pool=options.pool) for text in options.shapes]
    return [Work("kernel", layer.name, shape, (layer,)) for layer, shape in dict.fromkeys(found)]


def _check_numbers(options: Options) -> None:
    for n in options.batches:
        if not 1 <= n < 2**31:
            raise ValueError(f"--batch: expected numbers of 1 or more, got {n}")
    if len(set(options.batches)) != len(options.batches):
        raise ValueError(f"--batch: expected each once, got {', '.join(map(str, options.batches))}")
    if (options.pool or options.relu) and not options.shapes:
        raise ValueError(
            "--pool and --relu: expected beside --shape; a layer has what its network gives it"
        )
    if not 0 <= options.seed < 2**63:
        raise ValueError(f"--seed: expected a whole number below 2^63, got {options.seed}")
    positive = {"--timeout": options.timeout, "--budget": options.budget}
    positive |= {"--noise": options.noise, "--patience": options.patience}
    for name, value in positive.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}: expected a positive number, got {value:g}")
    if options.budget is not None and options.budget < LEAST_S:
        raise ValueError(
            f"--budget: expected {LEAST_S:g} s or more, got {options.budget:g}: nothing is begun "
            "with less time left"
        )


def _peers(options: Options) -> tuple[str, ...]:
    given = DEFAULT_PEERS[options.kind] if options.peers is None else options.peers
    for name in given:
        known = name in NAMES or ("." in name and _is_module(name))
        if name == OURS or not known:
            raise ValueError(
                f"--peers: expected some of {', '.join(NAMES)}, or a module that can be imported, "
                f"got {name!r}"
            )
    return tuple(dict.fromkeys(given))


def _is_module(name: str) -> bool:
    """Is the package there? To look further would import it here, whatever it does then."""
    try:
        return importlib.util.find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def _check_emulated(works: Sequence[Work]) -> None:
    macs = sum(work.flops() // 2 for work in works)
    if macs > MAX_EMULATED_MACS:
        raise ValueError(
            f"--device emulator: it executes one instruction after another: expected at most "
            f"{MAX_EMULATED_MACS:.0e} multiply-adds, got {macs:.1e}; take a smaller --size, "
            "--batch or network"
        )
