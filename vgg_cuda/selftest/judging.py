"""Comparisons of the self-test's results: with float64 within derived bounds, and to the bit."""

from __future__ import annotations

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


def against_float64(case: Case, operands: Operands, result: Result) -> Row:
    """Compare every element of a result with float64, within the bounds of ``verify``."""
    x, y, plan = operands.x, result.y, result.plan
    row = Row(str(case), "", y.shape, [plan.kernel], y.dtype.name)
    step = Step(case.op, "", str(case), relu=case.relu, pool=case.pool)
    if case.op in ("relu", "convert"):
        exact = _moved(case, x).astype(np.float64)
        row.add(step, y, Exact(slice(None), slice(None), exact, exact, exact), True)
        return row
    if case.op == "fused_conv1_block":
        step = Step(case.op, "", str(case), relu=True, pool=True)
    if case.preset is not None:
        x = normalized(x, PRESETS[case.preset])
    rounded = [Filters(as_operand(w, case.dtype), bias) for w, bias in operands.layers]
    filters = rounded[-1] if rounded else None
    first = rounded[0] if len(rounded) == 2 else None
    if filters is not None:
        x = as_operand(x, case.dtype)
    stats = Stats(kernel=plan.kernel, plan=plan.as_dict(), counters={})
    grid = case.argument or 0
    for part in exactly(step, x, filters, grid, stats, case.dtype != "float32", first):
        row.add(step, y, part, True)
    return row


def differing(a: NDArray[Any], b: NDArray[Any]) -> int:
    """Return the number of elements with other bits."""
    bits = f"u{a.dtype.itemsize}"
    return int((a.view(bits) != b.view(bits)).sum())


def _moved(case: Case, x: NDArray[Any]) -> NDArray[Any]:
    if case.op == "relu":
        return np.asarray(np.maximum(x, 0))
    axes = {"NHWC": (0, 3, 1, 2), "NCHW": (0, 2, 3, 1)}.get(case.argument)
    return x if axes is None else np.ascontiguousarray(x.transpose(axes))
