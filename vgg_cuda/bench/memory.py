"""What a benchmark will hold, before it starts, beside what the device has."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arrays import numpy_dtype
from ..inputs import MOST_PIXELS
from .inputs import MOST_COPIED_BYTES, cache_bytes, copies
from .machine import MEMINFO, nvidia_smi
from .work import Job, Work

if TYPE_CHECKING:
    from ..configs import Config

CGROUP = Path("/sys/fs/cgroup/memory.max")
WINOGRAD = 4  # times a convolution's weights, as this package's CPU backend lays them out
GB = 1e9


def check(works: list[Work], job: Job, programs: int, config: Config | None) -> None:
    """Raises ``ValueError`` with one line for the first work that does not fit.

    On the CPU ``programs`` processes hold it at once. On a GPU this package's forward is what is
    predicted: a peer that needs more is told when it fails.
    """
    free = available(job)
    for work in works:
        if work.kind != "kernel" and math.prod(work.shape[:3]) > MOST_PIXELS:
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


def needs(work: Work, job: Job, programs: int, config: Config | None) -> int:
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
    tensors = x + min(MOST_COPIED_BYTES, max(x, 2 * cache_bytes())) + 4 * item * largest
    held = tensors + item * (WINOGRAD * weights["conv"] + 2 * weights["dense"])
    return held * (1 if job.on_gpu else programs)


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
    if CGROUP.exists():
        text = CGROUP.read_text(encoding="ascii").strip()
        found += [int(text)] if text.isdigit() else []
    return min(found, default=None)


def _shapes(work: Work) -> list[tuple[int, ...]]:
    found = [work.shape]
    for layer, shape in work.shapes():
        found += [shape, layer.out_shape(shape)]
        if layer.pool:  # of a library that does not fuse it
            found.append((*shape[:-1], layer.outputs))
    return found


def _shape(work: Work) -> str:
    return f"x {list(work.shape)}"
