"""Comparisons of the self-test's results: with float64 within derived bounds, and to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Stats
from ..images.presets import PRESETS
from ..verification import Row
from ..verification.convolutions import Filters
from ..verification.operands import as_operand, normalized
from ..verification.steps import Exact, Step, exactly
from .cases import Case
from .launches import Result
from .operands import Operands

ORDER = ("gemm_k", "split_k", "steps", "block_k", "partial_sum", "walk")
"""Values of a plan's tiling that determine the order of additions."""


class Judge:
    """Compares results with float64 within the bounds of ``verify``.

    The exact results of the last operands are kept: many variants add in the same order.
    """

    def __init__(self) -> None:
        self._case: Case | None = None
        self._kept: dict[str, list[Exact]] = {}

    def row(self, case: Case, operands: Operands, result: Result) -> Row:
        """Compare every element of a result."""
        y, plan = result.y, result.plan
        row = Row(str(case), "", y.shape, [plan.kernel], y.dtype.name)
        fused = case.op == "fused_conv1_block"
        step = Step(case.op, "", str(case), relu=case.relu or fused, pool=case.pool or fused)
        for part in self._exact(step, case, operands, plan.as_dict()):
            row.add(step, y, part, input_finite=True)
        return row

    def _exact(
        self, step: Step, case: Case, operands: Operands, plan: dict[str, Any]
    ) -> list[Exact]:
        same = replace(case, variant=None)
        if same != self._case:
            self._case, self._kept = same, {}
        tilings = [plan.get(name, {}) for name in ("tiling", "first_tiling")]
        key = str([[tiling.get(name) for name in ORDER] for tiling in tilings])
        if key not in self._kept:
            self._kept[key] = list(_exact(step, case, operands, plan))
        return self._kept[key]


def _exact(step: Step, case: Case, operands: Operands, plan: dict[str, Any]) -> Iterator[Exact]:
    """Yield the exact result, part by part, with bounds for the plan's order of additions."""
    x = operands.x
    if case.op in ("relu", "convert"):
        y = _moved(case, x).astype(np.float64)
        yield Exact(slice(None), slice(None), y, y, y)
        return
    if case.preset is not None:
        x = normalized(x, PRESETS[case.preset])
    layers = list(operands.layers)
    if layers and case.op != "affine":  # which has float32 operands
        layers = [Filters(as_operand(w, case.dtype), bias) for w, bias in layers]
        x = as_operand(x, case.dtype)
    stats = Stats(kernel="", plan=plan, counters={})
    first = layers[0] if len(layers) == 2 else None
    tensor_cores, grid = case.dtype != "float32", case.argument or 0
    yield from exactly(step, x, layers[-1] if layers else None, grid, stats, tensor_cores, first)


def differing(a: NDArray[Any], b: NDArray[Any]) -> int:
    """Return the number of elements with other bits."""
    bits = f"u{a.dtype.itemsize}"
    return int((a.view(bits) != b.view(bits)).sum())


def _moved(case: Case, x: NDArray[Any]) -> NDArray[Any]:
    if case.op == "relu":
        return np.asarray(np.maximum(x, 0))
    axes = {"NHWC": (0, 3, 1, 2), "NCHW": (0, 2, 3, 1)}.get(case.argument)
    return x if axes is None else np.ascontiguousarray(x.transpose(axes))
