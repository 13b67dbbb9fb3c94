"""Made-up times of launches on the fake GPU, and a small network with kernels to choose from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vgg_cuda import _C, VGG
from vgg_cuda.backends.operations import Spec
from vgg_cuda.configs import Config
from vgg_cuda.tuning import Entries, Entry, header_of, meters
from vgg_cuda.weights import Weights, he_weights

CONFIG = Config("tiny", (64, 64, "M", 64, "M", 128, "M"), (64, 6), pool_grid=1)
SIDE = 16
OPERATIONS = ("conv3x3", "fused_conv1_block", "linear")
FAST = {"conv3x3": "m64n64", "linear": "dense_m16"}


def price(plan: _C.Plan) -> float:
    """Return seconds: 1 us for the variants in ``FAST``, 9 us for the fused block."""
    if plan.variant and plan.variant == FAST[plan.op]:
        return 1e-6
    return 9e-6 if plan.op == "fused_conv1_block" else 2e-6 + len(plan.variant) * 1e-9


class Launches:
    """The plans that are launched; results of the variants in ``wrong`` are."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.plans: list[_C.Plan] = []
        self.wrong: set[str] = set()
        for op in OPERATIONS:
            patch.setattr(_C, op, self._intercepted(getattr(_C, op)))

    def _intercepted(self, function: Callable[..., None]) -> Callable[..., None]:
        def run(plan: _C.Plan, *arrays: Any, **options: Any) -> None:
            self.plans.append(plan)
            function(plan, *arrays, **options)
            if plan.variant in self.wrong:
                out = arrays[3 if plan.op != "fused_conv1_block" else 5]
                out.reshape(-1)[-1:] += 1

        return run


class MadeUpTimer:
    """A clock that adds a price for every launch."""

    cache_bytes = 1 << 20
    scratch_bytes = 0

    def __init__(self, launches: Launches) -> None:
        self._launches = launches
        self.price: Callable[[_C.Plan], float] = price
        self.measured: list[tuple[str, ...]] = []
        self.cleared: list[bool] = []

    def measure(self, run: Callable[[], None], clear_cache: bool) -> float:
        self._launches.plans.clear()
        run()
        plans = list(self._launches.plans)
        self.measured.append(tuple(plan.variant or plan.op for plan in plans))
        self.cleared.append(clear_cache)
        return sum(map(self.price, plans))


def made_up(patch: pytest.MonkeyPatch, launches: Launches) -> MadeUpTimer:
    """Make all models on the fake GPU measure with one clock, and return it."""
    timer = MadeUpTimer(launches)
    patch.setattr(meters, "CudaTimer", lambda backend: timer)
    return timer


def weights() -> Weights:
    return he_weights(CONFIG, 0)


def model(tune: str, device: str = "cuda", **options: Any) -> VGG:
    return VGG(weights(), device=device, tune=tune, **options)


def entries_of(model: VGG) -> dict[str, Entry]:
    """Return the entries in the cache file of the model's device."""
    backend: Any = model._backend
    return Entries(header_of(backend)).file.read() or {}


def planned(model: VGG, n: int = 2) -> list[str]:
    """Return the variants, or operations, of a forward of n uint8 images."""
    runner: Any = model._run
    forward = runner.plan(Spec((n, SIDE, SIDE, 3), "uint8"), frozenset(["prob"]))
    return [step.operation.plan.variant or step.operation.name for step in forward.steps]


def images(n: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 3), np.uint8)
