"""Layers' names, as in :mod:`vgg_cuda.layers`, of the results of recorded steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ...configs import Affine, Config, Conv, Dense
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
    features, dense = deque(config.features), deque(config.dense)

    def affine_name() -> str | None:
        """Return the name of the affine map that comes next in ``features``, if there is one."""
        following = isinstance(features[0], Affine) if features else False
        return features.popleft().name if following else None

    owner: Conv | Dense | None = None
    began = 0  # the position of its result before the activation
    folding = False  # whether only affine maps have followed `owner`
    mapped = 0  # the position of the first of the affine maps that become one layer; 0: none
    tap: str | None = None
    active = False  # whether a ReLU has followed `owner`
    names: list[str | None] = [None]
    for position, step in enumerate(steps, 1):
        folding = folding and step.make in AT_INPUT
        if step.make in (conv3x3_of, linear_of):
            found = features.popleft() if step.make is conv3x3_of else dense.popleft()
            assert isinstance(found, (Conv, Dense))
            owner, began, tap, active = found, position, found.name, False
            folding, mapped = True, 0
        elif step.make in AT_INPUT and owner is not None:
            if folding:
                names[-1] = None
            elif mapped:
                names[mapped:] = [None] * (position - mapped)
            else:
                mapped, tap = position, affine_name()  # None: a layer behind it may take it over
        elif step.make is Relu and owner is not None and not active:
            if tap == owner.name:
                tap = owner.relu_name
            else:  # the kernel computes the ReLU before the layers in between
                names[began + 1 :] = [None] * (position - began - 1)
            active = True
        elif step.make is MaxPool2x2 and owner is None:
            tap = "pool0"
        elif step.make is MaxPool2x2:
            pool = features.popleft().name
            if mapped and tap is None:
                tap = affine_name()  # computed behind the pool
            else:
                tap, mapped = tap and pool, 0
        elif step.make in (AdaptiveAvgPool, GlobalPool):
            tap = tap and f"{config.reduces}pool"
        elif step.make not in (Relu, Flatten):
            tap = None
        names.append(tap)
    return names
