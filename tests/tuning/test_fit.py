"""Constants of estimates that are fitted to made-up times."""

from __future__ import annotations

import numpy as np
import pytest

from vgg_cuda import _C
from vgg_cuda.cli.tune_table import LIMITED, fit_table
from vgg_cuda.tuning import Entry
from vgg_cuda.tuning.fit import fit

HIDDEN = {"l2_bytes": 34.0, "halo_subtile_cycles": 620.0, "launch_cycles": 6500.0}
CLOCK = 1700.0  # cycles per us
SHAPES = [(56, 128, 256), (28, 256, 512), (28, 512, 512), (14, 512, 512)]
OPTIONS = {"dtype": "float16", "x_dtype": "float16", "relu": True, "pool": False, "aligned": True}


NOISE = 0.01


def made_up(arch: _C.Arch) -> list[Entry]:
    """Return entries for halo kernels whose times are the estimates of ``arch``, with noise."""
    entries, random = [], np.random.default_rng(0)
    for n in (1, 4, 64):
        for side, C, K in SHAPES:
            sizes = (n, side, side, C, K)
            times = {}
            for name in _C.conv3x3_variants(*sizes, **OPTIONS, arch=arch):
                plan = _C.plan_conv3x3(*sizes, **OPTIONS, arch=arch, variant=name)
                if plan.family == "halo":
                    factor = float(np.exp(NOISE * random.standard_normal()))
                    times[name] = plan.estimate["cycles"] / CLOCK * factor
            best = min(times, key=lambda name: times[name])
            entries.append(Entry("conv3x3", sizes, dict(OPTIONS), best, best, times, {}, 9))
    return entries


def test_known_constants_are_recovered() -> None:
    arch = _C.arch("sm_90a")
    found = fit(arch, made_up(arch.with_rates(**HIDDEN)))
    assert {name: found.after[name] for name in HIDDEN} == pytest.approx(HIDDEN, rel=0.1)
    assert found.clock == pytest.approx(CLOCK, rel=0.05)
    assert found.errors[0] > 0.1
    assert found.errors[1] < 1.1 * NOISE
    assert "swap_ab_subtile_cycles" not in found.after  # no such kernel was measured
    assert "wgmma_macs" not in found.after
    assert arch.rates["l2_bytes"] == 26  # nothing is changed


def test_too_few_measurements() -> None:
    arch = _C.arch("sm_90a")
    with pytest.raises(ValueError, match=r"--fit: expected at least \d+ measured kernels, got 0"):
        fit(arch, [])


def test_constant_at_the_limit_is_marked() -> None:
    arch = _C.arch("sm_90a")
    found = fit(arch, made_up(arch.with_rates(l2_bytes=arch.rates["l2_bytes"] / 20)))
    assert "l2_bytes" in found.limited
    assert found.after["l2_bytes"] == arch.rates["l2_bytes"] / 4
    [line] = [line for line in fit_table(found, "us").splitlines() if "l2_bytes" in line]
    assert line.split()[3:] == ["0.25", *LIMITED.split()]
