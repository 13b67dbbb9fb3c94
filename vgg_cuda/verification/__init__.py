"""Verification: every element of every layer is compared with float64, within derived bounds.

Each step that a forward launches (such as a convolution with its ReLU and pool) is compared with
the same step in float64, computed from the device's input of that step and from the weights as the
device holds them. Errors therefore do not accumulate along the network, and the bound of every
element follows from the order of its additions: there is no tolerance to choose. ``sums.py``,
``winograd.py`` and ``steps.py`` derive the bounds, and ``compare.py`` defines the verdicts. A plain
call, whose intermediate tensors share memory, and a CUDA graph must give the same bits.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import require_float
from ..backends import Stats, recording
from ..configs import Affine, Conv, Dense
from ..vgg import VGG
from ..weights import Source, Weights, load_weights
from .compare import Row, Worst
from .convolutions import Filters
from .operands import as_operand, normalized, normalized_exactly
from .report import Verification
from .steps import SplitError, Step, exactly, kernels, launched_by, steps

__all__ = ["Row", "Verification", "Worst", "verify"]

MAX_IMAGES = 8  # of 224x224 per part: all float64 tensors of a part are in memory


def verify(
    model: VGG, weights: Source | Weights, x: NDArray[Any], *, graph: bool = True
) -> Verification:
    """Compare every layer of ``model`` with float64.

    x [N,H,W,3] holds preprocessed images, or uint8 pixels; ``weights`` are those that ``model`` was
    created from. ``graph``: whether the result of a CUDA graph is compared, too. Takes the time of
    about four forwards in float64. Raises ``ValueError`` for wrong shapes and for weights of
    another network, and ``TypeError`` for other dtypes.
    """
    weights = weights if isinstance(weights, Weights) else load_weights(weights)
    if weights.config != model.config:
        raise ValueError(
            f"verify: weights: expected the weights of {model!r}, got {weights.config.name} from "
            f"{weights.source}"
        )
    if not isinstance(x, np.ndarray) or x.ndim != 4 or not len(x):
        raise ValueError(
            f"verify: x: expected a NumPy array [N, H, W, {model.config.in_channels}] with N >= 1, "
            f"got {getattr(x, 'shape', type(x).__name__)}"
        )
    if x.dtype != np.uint8:
        require_float(x, "verify: x")
        x = x.astype(np.float32)
    if model.activation not in (None, "softmax"):  # no kernel computes the others
        model = copy.copy(model)
        model.activation = None
    limit = max(1, MAX_IMAGES * 224 * 224 // max(1, x[0, ..., 0].size))
    total: Verification | None = None
    done = 0
    while done < len(x):
        try:
            part = _verified(model, weights, x[done : done + limit], graph)
        except SplitError:
            if limit == 1:
                raise
            limit = -(-limit // 2)
            continue
        total = part if total is None else total.merge(part, done)
        done += limit
    assert total is not None
    return total


def _verified(model: VGG, weights: Weights, x: NDArray[Any], graph: bool) -> Verification:
    """Verify one batch that fits in memory."""
    tap = "prob" if model.activation else model.config.last
    with recording() as launched:
        plain: NDArray[Any] = model.features(x, [tap])[tap]
    found = steps(model.config, launched[0]["plan"].get("op") == "fused_conv1_block")
    with recording() as launched:
        taps: dict[str, NDArray[Any]] = model.features(x, [step.tap for step in found])
    groups = launched_by(found, launched)
    on_cpu = model.device == "cpu"
    before: NDArray[Any] = x
    exact_before: NDArray[Any] = x.astype(np.float64)
    if x.dtype == np.uint8:
        preset = weights.pixel_preset
        before = preset.normalize(x) if on_cpu else normalized(x, preset)
        exact_before = normalized_exactly(x, preset)
    elif weights.normalization is not None:
        before, exact_before = weights.normalization(x), weights.normalization.exactly(x)
    differs = _differs(model, x, taps[tap], plain, graph)
    rows = []
    for step, group in zip(found, groups, strict=True):
        y = taps.pop(step.tap)
        rows.append(_row(model, weights, step, group, before, y))
        exact_before = _since_input(model, weights, step, rows[-1], exact_before, y)
        before = y
    arch = launched[0]["plan"].get("arch")
    return Verification(model.device, arch, model.dtype, rows, differs)


def _differs(
    model: VGG, x: NDArray[Any], y: NDArray[Any], plain: NDArray[Any], graph: bool
) -> list[str]:
    """Name the ways of running the network whose result differs from ``y``, layer by layer."""
    others = {"a plain forward": plain}
    if graph and model.device != "cpu":
        others["a graph"] = model._backend.to_numpy(model.capture(x.shape, x.dtype)(x))
    return [name for name, other in others.items() if other.tobytes() != y.tobytes()]


def _row(
    model: VGG, weights: Weights, step: Step, group: list[Stats], x: NDArray[Any], y: NDArray[Any]
) -> Row:
    row = Row(step.name, step.tap, y.shape, kernels(group), y.dtype.name)
    filters, first = _filters(weights, step.layer), _filters(weights, step.first)
    if filters is not None and step.op != "affine":  # which has float32 operands
        x = as_operand(x, model.dtype)
        filters = _as_operands(filters, model.dtype, row)
    if first is not None:
        first = _as_operands(first, model.dtype, row)
    tensor_cores = model.device != "cpu" and model.dtype != "float32"
    input_finite = bool(np.isfinite(x).all())
    grid = model.config.pool_grid
    with np.errstate(invalid="ignore", over="ignore"):  # infinite inputs are counted instead
        for exact in exactly(step, x, filters, grid, group[0], tensor_cores, first):
            row.add(step, y, exact, input_finite and exact.finite)
    return row


def _since_input(
    model: VGG, weights: Weights, step: Step, row: Row, x: NDArray[Any], y: NDArray[Any]
) -> NDArray[Any]:
    """Compare ``y`` with the step of a forward in float64 of x, and return that step's result."""
    filters, first = _filters(weights, step.layer), _filters(weights, step.first)
    result = np.empty(y.shape, np.float64)
    for exact in exactly(step, x, filters, model.config.pool_grid, None, False, first):
        value = np.maximum(exact.y, 0) if step.relu else exact.y
        row.add_since_input(y, value, exact)
        result[exact.images, ..., exact.channels] = value
    return result


def _filters(weights: Weights, layer: Conv | Dense | Affine | None) -> Filters | None:
    if layer is None:
        return None
    return Filters(*(weights.tensors[f"{layer.name}.{part}"] for part in ("weight", "bias")))


def _as_operands(filters: Filters, dtype: str, row: Row) -> Filters:
    """Round the weights to ``dtype`` and count those that overflow."""
    w = as_operand(filters.w, dtype)
    row.infinite_weights += int((np.isinf(w) & np.isfinite(filters.w)).sum())
    return filters._replace(w=w)
