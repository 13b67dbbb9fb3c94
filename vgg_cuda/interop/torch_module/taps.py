"""Layers' names, as in :mod:`vgg_cuda.layers`, of the results of recorded steps."""

from __future__ import annotations

from collections.abc import Sequence

from ...configs import Affine, Config, Conv, Dense, Pool
from ...weights.chain.layers import (
    AdaptiveAvgPool,
    Flatten,
    GlobalPool,
    MaxPool2x2,
    Relu,
    UnsupportedError,
)
from .inputs import AT_INPUT
from .operations import conv3x3_of, linear_of
from .recording import Recorder
from .records import Step


def leading_pools(steps: Sequence[Step]) -> int:
    """Return the number of max-pools before the first other step."""
    return next((i for i, s in enumerate(steps) if s.make is not MaxPool2x2), len(steps))


def check_outputs(recorder: Recorder, config: Config) -> None:
    """Raise ``UnsupportedError`` for outputs that kernels do not store."""
    steps = recorder.steps
    inner = [output for output in recorder.outputs if output.position < len(steps)]
    names = taps_of(steps, config) if inner else []
    for output in inner:
        if output.position and names[output.position] is None:
            source = type(recorder.module).__name__
            name = steps[output.position - 1].name or "a layer"
            raise UnsupportedError(
                f"{source}: forward: cannot return the result of {name}: one kernel computes it "
                "and the batch norm or ReLU behind it; return the result of that one"
            )


def taps_of(steps: Sequence[Step], config: Config) -> list[str | None]:
    """Return the tap with the result of the first 0, 1, 2, ... of ``steps``, all but the last.

    None stands for a result without a tap: before a batch norm that is folded, for example. Results
    of leading max-pools are in ``pool0``.
    """
    features = iter([layer for layer in config.features if not isinstance(layer, Affine)])
    dense = iter(config.dense)
    owner: Conv | Dense | None = None
    began = 0  # the position of its result before the activation
    tap: str | None = None
    active = False  # whether a ReLU has followed `owner`
    names: list[str | None] = [None]
    for position, step in enumerate(steps, 1):
        if step.make in (conv3x3_of, linear_of):
            found = next(features if step.make is conv3x3_of else dense)
            assert not isinstance(found, Pool)
            owner, began, tap, active = found, position, found.name, False
        elif step.make in AT_INPUT and owner is not None:
            folds = began == position - 1
            names[-1] = None if folds else names[-1]
            tap = owner.name if folds else None
        elif step.make is Relu and owner is not None and not active:
            if tap == owner.name:
                tap = owner.relu_name
            else:  # the kernel computes the ReLU before the layers in between
                names[began + 1 :] = [None] * (position - began - 1)
            active = True
        elif step.make is MaxPool2x2 and owner is None:
            tap = "pool0"
        elif step.make is MaxPool2x2:
            pool = next(features).name
            tap = tap and pool
        elif step.make in (AdaptiveAvgPool, GlobalPool):
            tap = tap and f"{config.reduces}pool"
        elif step.make not in (Relu, Flatten):
            tap = None
        names.append(tap)
    return names
