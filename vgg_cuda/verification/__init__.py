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
from ..configs import MIN_SIZE
from ..vgg import VGG
from ..weights import Source, Weights, load_weights
from .compare import Row, Worst
from .operands import as_operand, normalized, normalized_exactly
from .report import Verification
from .steps import SplitError, Step, exactly, kernels, launched_by, steps

__all__ = ["Row", "Verification", "Worst", "verify"]

MOST_IMAGES = 8  # of 224x224 at a time, whose float64 tensors are all held


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
            f"verify: x: expected a NumPy array [N, H, W, 3] with N >= 1 and H, W >= {MIN_SIZE}, "
            f"got {getattr(x, 'shape', type(x).__name__)}"
        )
    if x.dtype != np.uint8:
        require_float(x, "verify: x")
        x = x.astype(np.float32)
    found = steps(model.config)
    most = max(1, MOST_IMAGES * 224 * 224 // max(1, x[0, ..., 0].size))
    total: Verification | None = None
    done = 0
    while done < len(x):
        try:
            part = _verified(model, weights, x[done : done + most], found)
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


def _verified(model: VGG, weights: Weights, x: NDArray[Any], found: list[Step]) -> Verification:
    """Of one batch that a forward holds."""
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
    differs = _differs(model, x, taps)
    rows = []
    for step, group in zip(found, groups, strict=True):
        y = taps.pop(step.tap)
        rows.append(_row(model, weights, step, group, before, y))
        exact_before = _since_input(model, weights, step, rows[-1], exact_before, y)
        before = y
    arch = launched[0]["plan"].get("arch")
    return Verification(model.device, arch, model.dtype, rows, differs)


def _differs(model: VGG, x: NDArray[Any], taps: dict[str, NDArray[Any]]) -> list[str]:
    """What else computes the network's result, and gives other bits than layer by layer."""
    dense = model.config.dense
    tap = "pool5" if not dense else "prob" if model.activation else dense[-1].name
    others = {"a plain forward": model.features(x, [tap])[tap]}
    if model.device != "cpu":
        y = model.capture(x.shape, x.dtype)(x)
        others["a graph"] = y if isinstance(y, np.ndarray) else y.get()
    return [what for what, y in others.items() if y.tobytes() != taps[tap].tobytes()]


def _row(
    model: VGG, weights: Weights, step: Step, group: list[Stats], x: NDArray[Any], y: NDArray[Any]
) -> Row:
    row = Row(step.name, step.tap, y.shape, kernels(group), y.dtype.name)
    w, bias = _parameters(weights, step)
    if w is not None:
        given = w
        x, w = as_operand(x, model.dtype), as_operand(w, model.dtype)
        row.infinite_weights = int((np.isinf(w) & np.isfinite(given)).sum())
    tensor_cores = model.device != "cpu" and model.dtype != "float32"
    input_finite = bool(np.isfinite(x).all())
    grid = model.config.pool_grid
    with np.errstate(invalid="ignore", over="ignore"):  # infinite inputs are counted, not warned of
        for exact in exactly(step, x, w, bias, grid, group[0], tensor_cores):
            row.add(step, y, exact, input_finite)
    return row


def _since_input(
    model: VGG, weights: Weights, step: Step, row: Row, x: NDArray[Any], y: NDArray[Any]
) -> NDArray[Any]:
    """The step of the forward in float64, whose result is returned."""
    w, bias = _parameters(weights, step)
    result = np.empty(y.shape, np.float64)
    for exact in exactly(step, x, w, bias, model.config.pool_grid, None, False):
        value = np.maximum(exact.y, 0) if step.relu else exact.y
        row.add_since_input(y, value, exact)
        result[exact.images, ..., exact.channels] = value
    return result


def _parameters(weights: Weights, step: Step) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    if step.layer is None:
        return None, None
    name = step.layer.name
    return weights.tensors[f"{name}.weight"], weights.tensors[f"{name}.bias"]
