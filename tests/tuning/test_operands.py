"""Operands whose sums are exact: kernels return the rounded integers, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vgg_cuda import reference
from vgg_cuda.arrays import numpy_dtype
from vgg_cuda.backends.emulator import EmulatorBackend
from vgg_cuda.backends.operations import Planner, Spec
from vgg_cuda.backends.options import options
from vgg_cuda.images.presets import get_preset
from vgg_cuda.tuning import operands
from vgg_cuda.tuning.problems import APART, FUSED, BlockProblem, ConvProblem, LinearProblem, Problem
from vgg_cuda.tuning.trial import Trial

pytestmark = pytest.mark.emulator


def layer(on: EmulatorBackend, K: int, *shape: int, dtype: str) -> Any:
    pack = on.pack_conv3x3 if len(shape) == 3 else on.pack_linear
    return pack(np.ones((K, *shape), np.float32), np.ones(K, np.float32), dtype)


def results(on: EmulatorBackend, problem: Problem, variants: list[str | None]) -> Any:
    """Return x, exact layers and the results of ``variants``."""
    check, planner = operands.checked(problem), Planner(on.arch)
    layers = operands.exact_layers(on, problem)
    chains = [check.chain(planner, name, layers) for name in variants]
    trial, found = Trial(on, problem, chains), []
    operands.fill_exact(on, problem, trial.x)
    with options(races=False):
        for chain in chains:
            trial.run(chain, trial.y, on.executor)
            found.append(trial.y.copy())
    return trial.x.astype(np.float64), layers, found


def rounded(y: np.ndarray, dtype: str) -> np.ndarray:
    return np.maximum(y, 0).astype(numpy_dtype(dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "tf32", "float32"])
def test_every_variant_returns_rounded_integers(dtype: str) -> None:
    on = EmulatorBackend("sm_90a")
    x = Spec((2, 8, 8, 64), numpy_dtype(dtype).name)
    conv = ConvProblem(x, (layer(on, 64, 3, 3, 64, dtype=dtype),), relu=True, pool=False)
    linear = LinearProblem(Spec((3, 1000), x.dtype), (layer(on, 16, 1000, dtype=dtype),), relu=True)
    for problem in (conv, linear):
        x64, [packed], found = results(on, problem, [None, *problem.variants(on.arch)])
        w, bias = packed.w.astype(np.float64), packed.bias.astype(np.float64)
        if problem is conv:
            y = reference.conv3x3(x64, w[:, : 9 * 64].reshape(64, 3, 3, 64), bias[:64])
        else:
            y = reference.linear(x64, w[:, :1000], bias[:16])
        assert abs(y).max() < 65504
        assert len(np.unique(y)) > min(900, 0.9 * y.size)
        for got in found:
            assert operands.same(got, rounded(y, dtype))
        wrong = found[0].copy()
        wrong[-1, ..., -1] += 1
        assert not operands.same(wrong, found[0])


@pytest.mark.parametrize(("x_dtype", "dtype"), [("uint8", "float16"), ("float32", "bfloat16")])
def test_fused_block_is_exact(x_dtype: str, dtype: str) -> None:
    on = EmulatorBackend("sm_90a")
    layers = tuple(layer(on, 64, 3, 3, C, dtype=dtype) for C in (3, 64))
    preset = get_preset("torchvision") if x_dtype == "uint8" else None
    problem = BlockProblem(Spec((1, 10, 12, 3), x_dtype), layers, preset)
    _, _, (fused, apart) = results(on, problem, [FUSED, APART])
    assert np.isfinite(fused.astype(np.float32)).all()
    assert (fused != 0).mean() > 0.3
    assert operands.same(fused, apart)


def test_signs_of_zeros_and_nans() -> None:
    x = np.array([0.0, -0.0, 1.0, np.nan], np.float16)
    assert operands.same(x, np.array([-0.0, 0.0, 1.0, np.nan], np.float16))
    assert not operands.same(x, np.array([0.0, 0.0, 1.0, 2.0], np.float16))
