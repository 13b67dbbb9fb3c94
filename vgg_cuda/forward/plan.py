"""A forward planned before it runs: its launches, and where in one arena its tensors lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from ..backends.kernels import KernelBackend
from ..backends.operations import Array, Operation, Planner, Spec
from .graph import Network, collect

ALIGNMENT = 256  # of tensors in an arena: as a GPU's allocator gives
INPUT = -1


@dataclass(frozen=True)
class Value:
    """A tensor that is to come: the result of step ``source``, or the ``INPUT``."""

    source: int
    spec: Spec

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape


@dataclass(frozen=True)
class Step:
    """One operation on ``x``, with the weights of ``layers``.

    ``y`` and the workspace lie at these bytes of the arena; ``y`` is None where a caller gets the
    result, in memory of its own.
    """

    operation: Operation
    x: Value
    layers: tuple[str, ...] = ()
    y: int | None = None
    workspace: int = 0


class Recorder:
    """Operations that are entered in a list, to be carried out later; see ``graph.Operations``."""

    def __init__(self, network: Network, plan: Planner) -> None:
        self._network, self._plan = network, plan
        self.steps: list[Step] = []

    def conv3x3(self, x: Value, layer: str, *, relu: bool, pool: bool) -> Value:
        preset = self._network.preset if x.spec.dtype == "uint8" else None
        packed = self._network.convs[layer]
        return self._enter(
            x, self._plan.conv3x3(x.spec, packed, relu=relu, pool=pool, preset=preset), layer
        )

    def fused_conv1_block(self, x: Value, first: str, second: str) -> Value | None:
        preset = self._network.preset if x.spec.dtype == "uint8" else None
        convs = self._network.convs[first], self._network.convs[second]
        operation = self._plan.fused_conv1_block(x.spec, *convs, preset=preset)
        return None if operation is None else self._enter(x, operation, first, second)

    def maxpool2x2(self, x: Value) -> Value:
        return self._enter(x, self._plan.maxpool2x2(x.spec))

    def avgpool(self, x: Value, grid: int) -> Value:
        return self._enter(x, self._plan.avgpool(x.spec, grid))

    def adaptive_maxpool(self, x: Value, grid: int) -> Value:
        return self._enter(x, self._plan.adaptive_maxpool(x.spec, grid))

    def flatten(self, x: Value) -> Value:
        n, h, w, c = x.shape
        return Value(x.source, x.spec._replace(shape=(n, h * w * c)))

    def linear(self, x: Value, layer: str, *, relu: bool) -> Value:
        packed = self._network.dense[layer]
        return self._enter(x, self._plan.linear(x.spec, packed, relu=relu), layer)

    def relu(self, x: Value) -> Value:
        return self._enter(x, self._plan.relu(x.spec))

    def softmax(self, x: Value) -> Value:
        return self._enter(x, self._plan.softmax(x.spec))

    def _enter(self, x: Value, operation: Operation, *layers: str) -> Value:
        self.steps.append(Step(operation, x, layers))
        return Value(len(self.steps) - 1, operation.y)


@dataclass(frozen=True)
class Forward:
    """``steps`` in order; ``results``: the taps, by the number of the step that makes each."""

    steps: Sequence[Step]
    results: Mapping[int, str]
    arena_bytes: int

    def result_specs(self) -> dict[str, Spec]:
        return {tap: self.steps[i].operation.y for i, tap in self.results.items()}

    @property
    def result_bytes(self) -> int:
        return sum(spec.nbytes for spec in self.result_specs().values())

    def run(self, on: KernelBackend, x: Array, arena: Array, results: Mapping[str, Array]) -> None:
        """Enqueues every launch on the current stream; allocates nothing, waits for nothing.

        x as planned for; ``arena`` of ``arena_bytes``, whose content is lost; ``results`` by tap.
        """
        made: list[Array] = []
        with on.active():
            for i, step in enumerate(self.steps):
                operation = step.operation
                source = x if step.x.source == INPUT else made[step.x.source]
                if source.shape != step.x.shape:
                    source = source.reshape(step.x.shape)
                if step.y is None:
                    y = results[self.results[i]]
                else:
                    y = on.view(arena, step.y, operation.y)
                workspace = None
                if operation.workspace_bytes:
                    scratch = Spec((operation.workspace_bytes,), "uint8")
                    workspace = on.view(arena, step.workspace, scratch)
                # the first begins when all that is enqueued, weights being made, say, has ended
                on.launch(operation, source, y, workspace, early=i > 0)
                made.append(y)


def plan_forward(network: Network, plan: Planner, x: Spec, wanted: Set[str]) -> Forward:
    """The forward of ``network`` from x to the deepest of the ``wanted`` taps."""
    recorder = Recorder(network, plan)
    found = collect(network, recorder, Value(INPUT, x), wanted)
    results = {value.source: tap for tap, value in found.items()}
    return lay_out(recorder.steps, results)


def lay_out(steps: Sequence[Step], results: Mapping[int, str]) -> Forward:
    """Places in an arena that is no larger than what the hungriest step needs at once.

    A tensor is read by the next step alone. So results alternate between the arena's two ends,
    and a step's workspace lies behind the one in front.
    """

    def room(i: int) -> int:
        """Of step i's result, in the arena."""
        return 0 if i == INPUT or i in results else _aligned(steps[i].operation.y.nbytes)

    size = max(
        (room(s.x.source) + room(i) + _aligned(s.operation.workspace_bytes))
        for i, s in enumerate(steps)
    )
    placed: list[Step] = []
    for i, step in enumerate(steps):
        front = i if i % 2 == 0 else step.x.source  # the tensor that lies at the arena's start
        place = None if i in results else 0 if i % 2 == 0 else size - room(i)
        placed.append(replace(step, y=place, workspace=room(front)))
    return Forward(tuple(placed), results, size)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Memory:
    """Bytes that a forward needs on the device; ``weights`` are there already.

    ``input``: the batch, where it comes from the host; ``arena``: the tensors between layers, and
    partial sums; ``results``: what the caller gets.
    """

    weights: int
    input: int
    arena: int
    results: int

    @property
    def total(self) -> int:
        return self.weights + self.input + self.arena + self.results


def memory(network: Network, x: Spec, forward: Forward) -> Memory:
    """What ``forward``, of x in host memory, needs."""
    layers: list[Any] = [*network.convs.values(), *network.dense.values()]
    weights = sum(int(layer.w.nbytes) + int(layer.bias.nbytes) for layer in layers)
    return Memory(weights, x.nbytes, forward.arena_bytes, forward.result_bytes)
