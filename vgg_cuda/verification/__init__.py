"""Every layer of a network beside float64: is each element as near as its additions allow?

The result of each step that a network launches (a convolution with its ReLU and pool, say) is held
against the same step in float64, computed from the device's own input of that step and from the
weights as the device holds them. So errors do not add up along the network, and a bound can be
derived for every element: nothing is chosen. ``sums.py``, ``winograd.py`` and ``steps.py`` derive
them; ``compare.py`` says what a verdict is. A plain call, whose tensors in between share memory,
and a graph must give the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import require_float
from ..backends import Stats, recording
from ..configs import Conv, Dense
from ..vgg import VGG
from ..weights import Source, Weights, load_weights
from .compare import Row, Worst
from .convolutions import Filters
from .operands import as_operand, normalized, normalized_exactly
from .report import Verification
from .steps import SplitError, Step, exactly, kernels, launched_by, steps

__all__ = ["Row", "Verification", "Worst", "verify"]

MAX_IMAGES = 8  # of 224x224 at a time, whose float64 tensors are all held


def verify(model: VGG, weights: Source | Weights, x: NDArray[Any]) -> Verification:
    """``model``'s layers for x [N,H,W,3], preprocessed images or uint8 pixels, beside float64.

    ``weights`` is what ``model`` was made of. Takes about four forwards in float64. Raises
    ``ValueError`` for shapes and for weights of another network, ``TypeError`` for other dtypes.
    """
    weights = weights if isinstance(weights, Weights) else load_weights(weights)
    if weights.config != model.config:
        raise ValueError(
            f"verify: weights: expected those of {model!r}, got {weights.config.name} from "
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
    most = max(1, MAX_IMAGES * 224 * 224 // max(1, x[0, ..., 0].size))
    total: Verification | None = None
    done = 0
    while done < len(x):
        try:
            part = _verified(model, weights, x[done : done + most])
        except SplitError:
            if most == 1:
                raise
            most = -(-most // 2)
            continue
        if total is None:
            total = part
        else:
            total.merge(part, done)
        done += most
    assert total is not None
    return total


def _verified(model: VGG, weights: Weights, x: NDArray[Any]) -> Verification:
    """Of one batch that a forward holds."""
    tap = "prob" if model.activation else model.config.last
    with recording() as launched:
        plain: NDArray[Any] = model.features(x, [tap])[tap]
    found = steps(model.config, one_block=launched[0]["plan"].get("op") == "fused_conv1_block")
    with recording() as launched:
        taps: dict[str, NDArray[Any]] = model.features(x, [step.tap for step in found])
    groups = launched_by(found, launched)
    on_cpu = model.device == "cpu"
    before: NDArray[Any] = x
    exact_before: NDArray[Any] = x.astype(np.float64)
    if x.dtype == np.uint8:
        preset = model.preset
        before = preset.normalize(x) if on_cpu else normalized(x, preset)
        exact_before = normalized_exactly(x, preset)
    differs = _differs(model, x, taps[tap], plain)
    rows = []
    for step, group in zip(found, groups, strict=True):
        y = taps.pop(step.tap)
        rows.append(_row(model, weights, step, group, before, y))
        exact_before = _since_input(model, weights, step, rows[-1], exact_before, y)
        before = y
    arch = launched[0]["plan"].get("arch")
    return Verification(model.device, arch, model.dtype, rows, differs)


def _differs(model: VGG, x: NDArray[Any], y: NDArray[Any], plain: NDArray[Any]) -> list[str]:
    """What else computes the network's result, and gives other bits than layer by layer, ``y``."""
    others = {"a plain forward": plain}
    if model.device != "cpu":
        found = model.capture(x.shape, x.dtype)(x)
        others["a graph"] = found if isinstance(found, np.ndarray) else found.get()
    return [what for what, other in others.items() if other.tobytes() != y.tobytes()]


def _row(
    model: VGG, weights: Weights, step: Step, group: list[Stats], x: NDArray[Any], y: NDArray[Any]
) -> Row:
    row = Row(step.name, step.tap, y.shape, kernels(group), y.dtype.name)
    w, bias = _parameters(weights, step.layer)
    first = _first(weights, step)
    if w is not None:
        x, given, w = as_operand(x, model.dtype), w, as_operand(w, model.dtype)
        row.infinite_weights = _overflown(w, given)
    if first is not None:
        given, first = first.w, first._replace(w=as_operand(first.w, model.dtype))
        row.infinite_weights += _overflown(first.w, given)
    tensor_cores = model.device != "cpu" and model.dtype != "float32"
    input_finite = bool(np.isfinite(x).all())
    grid = model.config.pool_grid
    with np.errstate(invalid="ignore", over="ignore"):  # infinite inputs are counted, not warned of
        for exact in exactly(step, x, w, bias, grid, group[0], tensor_cores, first):
            row.add(step, y, exact, input_finite and exact.finite)
    return row


def _since_input(
    model: VGG, weights: Weights, step: Step, row: Row, x: NDArray[Any], y: NDArray[Any]
) -> NDArray[Any]:
    """The step of the forward in float64, whose result is returned."""
    w, bias = _parameters(weights, step.layer)
    result = np.empty(y.shape, np.float64)
    grid, first = model.config.pool_grid, _first(weights, step)
    for exact in exactly(step, x, w, bias, grid, None, False, first):
        value = np.maximum(exact.y, 0) if step.relu else exact.y
        row.add_since_input(y, value, exact)
        result[exact.images, ..., exact.channels] = value
    return result


def _parameters(
    weights: Weights, layer: Conv | Dense | None
) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    if layer is None:
        return None, None
    return weights.tensors[f"{layer.name}.weight"], weights.tensors[f"{layer.name}.bias"]


def _first(weights: Weights, step: Step) -> Filters | None:
    w, bias = _parameters(weights, step.first)
    return None if w is None or bias is None else Filters(w, bias)


def _overflown(w: NDArray[Any], given: NDArray[Any]) -> int:
    return int((np.isinf(w) & np.isfinite(given)).sum())
