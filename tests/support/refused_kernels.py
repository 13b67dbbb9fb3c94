"""Helpers for tests of kernels that the driver of a fake GPU refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support.fake_cupy import Log, fake_gpus

from vgg_cuda import DeviceWarning, backends
from vgg_cuda.backends.switches import DISABLE, switches

IN_TURN = (
    ("halo",),  # swap_ab replaces it
    ("dense",),
    ("fused_conv1_block",),
    ("halo", "swap_ab"),  # the second one is refused in the second attempt
    ("halo", "swap_ab", "dense", "fused_conv1_block"),
)
families_in_turn = pytest.mark.parametrize("names", IN_TURN, ids="+".join)

Without = Callable[[tuple[str, ...], Callable[[], Any]], Any]


def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Install two fake Hopper GPUs; the body of a fixture."""
    with fake_gpus(monkeypatch, (9, 0), (9, 0)) as log:
        yield log
    switches.cache_clear()


def run_without(monkeypatch: pytest.MonkeyPatch) -> Without:
    """Return a function that runs another with kernel families switched off by the user."""

    def run(names: tuple[str, ...], function: Callable[[], Any]) -> Any:
        with monkeypatch.context() as patch:
            patch.setenv(DISABLE, ",".join(names))
            switches.cache_clear()
            backends._cuda.cache_clear()
            result = function()
        switches.cache_clear()
        backends._cuda.cache_clear()
        return result

    return run


def refuse(log: Log, names: tuple[str, ...]) -> None:
    """Let the driver refuse all kernels of these families."""
    log.refuses = lambda plan: plan.family in names


def refusals(names: tuple[str, ...]) -> Any:
    """Expect one warning for each family, in this order or another."""
    return pytest.warns(DeviceWarning, match=rf"cuda:0: the driver refused .*({'|'.join(names)})")


def reported(found: Any) -> list[str]:
    """Return the families that the warnings ``found`` name, in alphabetical order."""
    return sorted(str(each.message).split("family ")[1].split()[0] for each in found)


def bits(y: Any) -> bytes:
    """Return the bytes of an array on a fake GPU."""
    return np.asarray(y.view(np.ndarray)).tobytes()
