"""Parts of the self-test that run whole forwards; they run in child processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..backends import recording
from ..backends.options import SCHEDULES, options
from ..configs import CONFIGS, Config
from ..verification import verify
from ..vgg import VGG
from ..weights import he_weights
from .launches import Target
from .tally import Tally

SMALL = Config("small", (64, 64, "M", 128, 128, "M", 256, "M"), (64, 10), pool_grid=2)
SMALL_SHAPE = (2, 32, 32, 3)
LARGE = Config("large", tuple(CONFIGS["vgg16"]), (512, 10))
LARGE_SIDE = 224
LARGE_BATCHES = {1: 1.0, 16: 1.0, 64: 0.1}
"""Batches of the large network, each with the part of the repeats that it gets."""
CHUNK = 10  # repeats between messages to the parent


class Forward(NamedTuple):
    """The forward of a network for a batch x, and how often it is repeated."""

    model: VGG
    x: Any
    repeats: int

    def __str__(self) -> str:
        shape = "x".join(map(str, self.x.shape))
        return f"{self.model.dtype} forward of {self.model.config.name}, {shape}"


def forward(target: Target, tally: Tally, repeats: int) -> None:
    """Verify every layer of a small network, and repeat forwards to the bit."""
    for each in _forwards(target, tally, repeats):
        if each.model.config is SMALL:
            _verify(each, tally)
        _repeat(target, tally, each, partial(each.model, each.x), {})


def again(target: Target, tally: Tally, repeats: int, expected: Mapping[str, str]) -> None:
    """Repeat forwards, whose results must have the digests ``expected``."""
    for each in _forwards(target, tally, repeats):
        _repeat(target, tally, each, partial(each.model, each.x), expected)


def graph(target: Target, tally: Tally, repeats: int, expected: Mapping[str, str]) -> None:
    """Capture forwards and repeat them, with results as for :func:`again`."""
    for each in _forwards(target, tally, repeats):
        tally.say(f"capture of the {each}")
        captured = each.model.capture(each.x.shape, each.x.dtype)
        _repeat(target, tally, each, partial(captured, each.x), expected)


def _forwards(target: Target, tally: Tally, repeats: int) -> Iterator[Forward]:
    """Yield forwards of uint8 images: small ones in all dtypes, on a GPU also large ones."""
    rng, on = np.random.default_rng(0), target.backend
    weights = he_weights(SMALL, 0)
    for dtype in target.dtypes:
        model = VGG(weights, device=on.device, dtype=dtype, arch=target.arch.name)
        yield Forward(model, rng.integers(0, 256, SMALL_SHAPE, np.uint8), repeats)
    if on.name == "emulator":
        return
    tally.say(f"weights of the network {LARGE.name}")
    weights = he_weights(LARGE, 0)
    model = VGG(weights, device=on.device, dtype=target.dtypes[0], arch=target.arch.name)
    for n, part in LARGE_BATCHES.items():
        x = rng.integers(0, 256, (n, LARGE_SIDE, LARGE_SIDE, 3), np.uint8)
        yield Forward(model, on.asarray(x, "uint8"), max(1, int(repeats * part)))


def _verify(each: Forward, tally: Tally) -> None:
    with tally.case(f"layers of the {each}"):
        with recording() as launched:
            found = verify(each.model, each.model.weights, each.x, graph=False)
        tally.worst = max(tally.worst, *(row.of_bound for row in found.rows))
        if not found.ok:
            bad = found.first_bad
            kernels = (
                launched
                if bad is None
                else [stats for stats in launched if stats["kernel"] in bad.kernels]
            )
            families = {stats["plan"]["family"] for stats in kernels}
            tally.fail("wrong", families, f"{each}: {found.sentence()}")


def _repeat(
    target: Target, tally: Tally, each: Forward, run: Callable[[], Any],
    expected: Mapping[str, str],
) -> None:  # fmt: skip
    """Compare the bits of repeated results with each other, or with ``expected``.

    On the emulator, every repeat has another order of threads.
    """
    name, emulated = str(each), target.backend.name == "emulator"
    first = expected.get(name)
    with tally.case(name):
        for i in range(each.repeats):
            if i % CHUNK == 0:
                tally.say(f"{name}, repeat {i + 1} of {each.repeats}")
            order = options(schedule=SCHEDULES[i % len(SCHEDULES)]) if emulated else nullcontext()
            with order, recording() as launched:
                y = target.backend.to_numpy(run())
            digest = hashlib.sha256(np.ascontiguousarray(y).tobytes()).hexdigest()[:16]
            if digest == (first or digest):
                first = digest
                continue
            families = {stats["plan"]["family"] for stats in launched}
            other = "a forward without early launches" if expected else "the first"
            tally.fail("wrong", families, f"{name}: repeat {i + 1} differs from {other}")
            return
    if first is not None:
        tally.digests[name] = first
