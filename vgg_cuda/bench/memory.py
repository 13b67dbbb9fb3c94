"""What a benchmark will hold, before it starts, beside what the device has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arrays import numpy_dtype
from ..forward.inputs import MAX_PIXELS
from .inputs import MAX_COPIED_BYTES, cache_bytes, copies
from .layers import network_layers
from .machine import MEMINFO, nvidia_smi
from .work import Job, Work

if TYPE_CHECKING:
    from ..configs import Config

CGROUP = Path("/sys/fs/cgroup")
READING = 4
"""Times the weights: what onnxruntime's process holds while it reads them, makes a model of them
and loads that; and the command's own, which draws them, reads them and makes float64 of each."""

WINOGRAD = 4  # times a convolution's weights, as this package's CPU backend lays them out
GB = 1e9


def check(works: list[Work], job: Job, programs: Sequence[str], config: Config | None) -> None:
    """Raises ``ValueError`` with one line for the first work that does not fit.

    On the CPU a process for each of ``programs`` holds it at once, beside the command's own. On a
    GPU this package's forward is what is predicted: a peer that needs more is told when it fails.
    """
    free = available(job)
    for work in works:
        if work.kind != "kernel" and math.prod(work.shape[:3]) > MAX_PIXELS:
            raise ValueError(
                f"batch {work.batch}: expected less than 2^31 pixels, got {_shape(work)}"
            )
        needed = needs(work, job, programs, config)
        if free is not None and needed > free:
            where = job.device if job.on_gpu else "this machine"
            raise ValueError(
                f"{work.name}, batch {work.batch}: needs about {needed / GB:.1f} GB for "
                f"{_shape(work)}, {free / GB:.1f} GB are free on {where}; smaller batches need less"
            )


def needs(work: Work, job: Job, programs: Sequence[str], config: Config | None) -> int:
    """Bytes, about."""
    if job.on_gpu and config is not None and work.kind != "kernel":
        return _forward(work, job, config)
    item = numpy_dtype(job.dtype).itemsize
    largest = max(math.prod(shape) for shape in _shapes(work))
    weights = {"conv": 0, "dense": 0}
    for layer in work.layers:
        if layer.multiplies:
            weights[layer.kind] += math.prod(layer.weight_shape)
    x = 4 * math.prod(work.shape)
    # the input and its copies, two tensors between layers, and as much again for what unfolds them
    tensors = x + min(MAX_COPIED_BYTES, max(x, 2 * cache_bytes())) + 4 * item * largest
    laid_out = WINOGRAD * weights["conv"] + 2 * weights["dense"]
    held = tensors + item * laid_out
    if job.on_gpu:
        return held
    read = READING * sum(weights.values())
    loading = sum(name == "onnxruntime" for name in programs) * item * max(0, read - laid_out)
    return held * len(programs) + loading + _own(work, config)


def _own(work: Work, config: Config | None) -> int:
    """Of the process that starts the others: all weights, and the float64 reference."""
    every = work.layers if config is None else network_layers(config)
    drawn, used = (
        sum(math.prod(layer.weight_shape) for layer in layers if layer.multiplies)
        for layers in (every, work.layers)
    )
    largest = max(math.prod(shape) for shape in _shapes(work.few()))
    return 4 * (drawn + (READING - 1) * used) + 3 * 8 * largest


def _forward(work: Work, job: Job, config: Config) -> int:
    """As ``VGG.memory`` says, without weights and without a context on the GPU."""
    from ..backends import get_backend
    from ..backends.operations import Spec
    from ..forward.plan import plan_forward
    from ..planning import network_of_sizes

    on: Any = get_backend(job.device, job.arch)
    network = network_of_sizes(config, on.arch, job.dtype)
    x = Spec(work.shape, numpy_dtype(job.dtype).name)
    forward = plan_forward(network, on.plan, x, {config.last})
    weights = sum(math.prod(layer.weight_shape) for layer in work.layers if layer.multiplies)
    copied = copies(x.nbytes, True) * x.nbytes
    item = numpy_dtype(job.dtype).itemsize
    return weights * item + copied + x.nbytes + forward.arena_bytes + forward.result_bytes


def available(job: Job) -> int | None:
    """Bytes that are free, as far as anybody tells."""
    if job.on_gpu:
        free = nvidia_smi(int(job.device.partition(":")[2] or 0))["free_mib"]
        return None if free is None else int(free) << 20
    found = []
    if MEMINFO.exists():
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    most = _number(CGROUP / "memory.max")
    if most is not None:
        found.append(max(0, most - _taken()))
    return min(found, default=None)


def _taken() -> int:
    """Bytes of the cgroup that are in use, without files that it need not keep."""
    stat = CGROUP / "memory.stat"
    lines = stat.read_text(encoding="ascii").splitlines() if stat.exists() else []
    cached = [int(line.split()[1]) for line in lines if line.startswith("inactive_file ")]
    return max(0, (_number(CGROUP / "memory.current") or 0) - sum(cached))


def _number(path: Path) -> int | None:
    """None for "max", and where there is no such file."""
    text = path.read_text(encoding="ascii").strip() if path.exists() else ""
    return int(text) if text.isdigit() else None


def _shapes(work: Work) -> list[tuple[int, ...]]:
    found = [work.shape]
    for layer, shape in work.shapes():
        found += [shape, layer.out_shape(shape)]
        if layer.pool:  # of a library that does not fuse it
            found.append((*shape[:-1], layer.outputs))
    return found


def _shape(work: Work) -> str:
    return f"x {list(work.shape)}"
