"""Plans of forwards: their launches, and the offsets of their tensors in one arena."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from ..backends.kernels import KernelBackend
from ..backends.operations import Array, Operation, Planner, Spec
from .graph import Network, collect

ALIGNMENT = 256  # bytes, of tensors in an arena, as of a GPU's allocator
INPUT = -1


@dataclass(frozen=True)
class Value:
    """A planned tensor: the result of step ``source``, or the ``INPUT``."""

    source: int
    spec: Spec

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape


@dataclass(frozen=True)
class Step:
    """One operation on ``x``, with the weights of ``layers``.

    ``y`` and ``workspace`` are byte offsets in the arena. ``y`` is None for a result of the
    forward, which is not in the arena.
    """

    operation: Operation
    x: Value
    layers: tuple[str, ...] = ()
    y: int | None = None
    workspace: int = 0


class Recorder:
    """Implementation of ``graph.Operations`` that records steps for a later run."""

    def __init__(self, network: Network, plan: Planner) -> None:
        self._network, self._plan = network, plan
        self.steps: list[Step] = []

    def conv3x3(self, x: Value, layer: str, *, relu: bool, pool: bool) -> Value:
        preset = self._network.preset if x.spec.dtype == "uint8" else None
        packed = self._network.convs[layer]
        operation = self._plan.conv3x3(x.spec, packed, relu=relu, pool=pool, preset=preset)
        return self._record(x, operation, layer)

    def fused_conv1_block(self, x: Value, first: str, second: str) -> Value | None:
        preset = self._network.preset if x.spec.dtype == "uint8" else None
        convs = self._network.convs[first], self._network.convs[second]
        operation = self._plan.fused_conv1_block(x.spec, *convs, preset=preset)
        return None if operation is None else self._record(x, operation, first, second)

    def maxpool2x2(self, x: Value) -> Value:
        return self._record(x, self._plan.maxpool2x2(x.spec))

    def avgpool(self, x: Value, grid: int) -> Value:
        return self._record(x, self._plan.avgpool(x.spec, grid))

    def adaptive_maxpool(self, x: Value, grid: int) -> Value:
        return self._record(x, self._plan.adaptive_maxpool(x.spec, grid))

    def affine(self, x: Value, layer: str) -> Value:
        packed = self._network.affines[layer]
        return self._record(x, self._plan.affine(x.spec, packed), layer)

    def flatten(self, x: Value) -> Value:
        n, h, w, c = x.shape
        return Value(x.source, x.spec._replace(shape=(n, h * w * c)))

    def linear(self, x: Value, layer: str, *, relu: bool) -> Value:
        packed = self._network.dense[layer]
        return self._record(x, self._plan.linear(x.spec, packed, relu=relu), layer)

    def relu(self, x: Value) -> Value:
        return self._record(x, self._plan.relu(x.spec))

    def softmax(self, x: Value) -> Value:
        return self._record(x, self._plan.softmax(x.spec))

    def _record(self, x: Value, operation: Operation, *layers: str) -> Value:
        self.steps.append(Step(operation, x, layers))
        return Value(len(self.steps) - 1, operation.y)


@dataclass(frozen=True)
class Forward:
    """Planned steps in order; ``results`` are the taps by the index of their step."""

    steps: Sequence[Step]
    results: Mapping[int, str]
    arena_bytes: int

    def result_specs(self) -> dict[str, Spec]:
        return {tap: self.steps[i].operation.y for i, tap in self.results.items()}

    @property
    def result_bytes(self) -> int:
        return sum(spec.nbytes for spec in self.result_specs().values())

    def run(self, on: KernelBackend, x: Array, arena: Array, results: Mapping[str, Array]) -> None:
        """Enqueue all launches on the current stream, without allocating or waiting.

        x has the planned shape and dtype. ``arena`` has ``arena_bytes`` bytes and is overwritten.
        ``results`` are the output arrays by tap.
        """
        tensors: list[Array] = []
        with on.active():
            for i, step in enumerate(self.steps):
                operation = step.operation
                source = x if step.x.source == INPUT else tensors[step.x.source]
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
                # the first launch waits for all earlier work, such as the packing of weights
                on.launch(operation, source, y, workspace, early=i > 0)
                tensors.append(y)


def plan_forward(network: Network, plan: Planner, x: Spec, wanted: Set[str]) -> Forward:
    """Plan the forward of ``network`` from x to the deepest of the ``wanted`` taps."""
    recorder = Recorder(network, plan)
    values = collect(network, recorder, Value(INPUT, x), wanted)
    return assign_offsets(recorder.steps, {value.source: tap for tap, value in values.items()})


def assign_offsets(steps: Sequence[Step], results: Mapping[int, str]) -> Forward:
    """Assign arena offsets to tensors; the arena is as large as the largest step needs.

    Only the next step reads a tensor. So tensors alternate between both ends of the arena, and the
    workspace of a step lies behind the tensor at the start.
    """

    def arena_bytes(i: int) -> int:
        """Return the bytes that the result of step i takes in the arena."""
        return 0 if i == INPUT or i in results else _aligned(steps[i].operation.y.nbytes)

    size = max(
        arena_bytes(s.x.source) + arena_bytes(i) + _aligned(s.operation.workspace_bytes)
        for i, s in enumerate(steps)
    )
    placed: list[Step] = []
    for i, step in enumerate(steps):
        first = i if i % 2 == 0 else step.x.source  # the tensor at the start of the arena
        y = None if i in results else 0 if i % 2 == 0 else size - arena_bytes(i)
        placed.append(replace(step, y=y, workspace=arena_bytes(first)))
    return Forward(tuple(placed), results, size)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Memory:
    """Device memory of a forward, in bytes.

    - ``weights``: packed weights, which the model holds.
    - ``input``: the batch, if it is copied from host memory.
    - ``arena``: tensors between layers, and partial sums.
    - ``results``: the returned arrays.
    """

    weights: int
    input: int
    arena: int
    results: int

    @property
    def total(self) -> int:
        return self.weights + self.input + self.arena + self.results


def memory(network: Network, x: Spec, forward: Forward) -> Memory:
    """Return the memory that ``forward`` needs, for x in host memory."""
    layers: list[Any] = [*network.convs.values(), *network.dense.values()]
    weights = sum(int(layer.w.nbytes) + int(layer.bias.nbytes) for layer in layers)
    affines: list[Any] = list(network.affines.values())
    weights += sum(int(layer.scale.nbytes) + int(layer.shift.nbytes) for layer in affines)
    return Memory(weights, x.nbytes, forward.arena_bytes, forward.result_bytes)
