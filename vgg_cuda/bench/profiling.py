"""The time of every operation of a forward, by clock readings or events around each."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..configs import Conv, Pool
from ..forward import max_images
from ..forward.eager import Eager
from ..forward.graph import collect
from ..vgg import VGG
from .clock import Clock, EventClock, Span
from .inputs import cache_clearer_bytes

if TYPE_CHECKING:
    from .peers import Program

Here = Callable[[], AbstractContextManager[Any]]

FIRST_FILLS, MAX_FILLS = 16, 256  # about 0.1 ms each; a stream holds 1024


def profiled(model: VGG, clock: Clock, x: Any, here: Here) -> Program:
    """Return a program that runs a forward of x, on the model's device, and times its operations.

    The times are the ``parts`` of a call's :class:`Span`.
    """
    from .peers import Program

    on = model._backend
    steps = _EagerSteps(model, x) if on.name == "cpu" else _PlannedSteps(model, x, clock, here)
    return Program(
        lambda _: steps.forward(), steps.result, _StepClock(steps), how=steps.how,
        steps=steps.described,
    )  # fmt: skip


class _StepClock:
    """Returns the times that the steps measured."""

    def __init__(self, steps: Any) -> None:
        self._steps = steps

    def time(self, call: Callable[[], Any]) -> Span:
        call()
        parts = tuple(self._steps.seconds())
        return Span(sum(parts), None, parts)


class _Timed(Eager):
    """Operations that record their names and times."""

    def __init__(self, network: Any, now: Callable[[], float]) -> None:
        super().__init__(network)
        self._now = now
        self.entries: list[tuple[str, float]] = []
        for name in ("maxpool2x2", "avgpool", "adaptive_maxpool", "relu", "softmax"):
            label = name.removesuffix("2x2")
            setattr(self, name, partial(self._time, label, getattr(self, name)))

    def _time(self, label: str, run: Callable[..., Any], *args: Any, **options: Any) -> Any:
        start = self._now()
        y = run(*args, **options)
        self.entries.append((label, self._now() - start))
        return y

    def conv3x3(self, x: Any, layer: str, *, relu: bool, pool: bool) -> Any:
        return self._time(layer, super().conv3x3, x, layer, relu=relu, pool=pool)

    def affine(self, x: Any, layer: str) -> Any:
        return self._time(layer, super().affine, x, layer)

    def linear(self, x: Any, layer: str, *, relu: bool) -> Any:
        return self._time(layer, super().linear, x, layer, relu=relu)


class _EagerSteps:
    """Operations on the CPU, timed by the host's clock."""

    how = "operation by operation"

    def __init__(self, model: VGG, x: Any, now: Callable[[], float] = time.perf_counter) -> None:
        self._network, self._x, self._now = model._network, x, now
        self._tap = model._result
        self._run = _Timed(self._network, now)
        self._y: Any = None
        self._times: list[list[float]] = []
        self.forward()
        self.described = [
            {"name": self._name(name), "layers": [name]} for name, _ in self._run.entries
        ]

    def forward(self) -> None:
        """Run the forward in the parts that a call splits it into."""
        on, n = self._network.backend, len(self._x)
        step = max_images(on.batch_limit, self._x.shape, "NHWC")
        ys, self._times = [], []
        for i in range(0, n, step):
            self._run = _Timed(self._network, self._now)
            with on.session():
                found = collect(self._network, self._run, self._x[i : i + step], {self._tap})
            ys.append(found[self._tap])
            self._times.append([seconds for _, seconds in self._run.entries])
        self._y = np.concatenate(ys)

    def seconds(self) -> list[float]:
        return [sum(parts) for parts in zip(*self._times, strict=True)]

    def result(self) -> Any:
        self.forward()
        return self._y

    def _name(self, layer: str) -> str:
        return named(self._network.config, [layer])


class _PlannedSteps:
    """Launches on a GPU, timed between events on the clock's stream; not timed on the emulator.

    The GPU fills memory until a whole forward is enqueued. Otherwise the time between two events
    would be the host's launch time if that is longer than the kernel's time.
    """

    how = "launch by launch, between events"

    def __init__(self, model: VGG, x: Any, clock: Clock, here: Here) -> None:
        from ..backends.kernels import spec_of

        network: Any = model._network
        self._on, self._x, self._here = network.backend, x, here
        self._tap = model._result
        plan = model._planned("profile").plan
        self._forward = plan(spec_of(x), frozenset([self._tap]))
        with self._on.active():
            self._arena = self._on.new_array((self._forward.arena_bytes,), "uint8")
            y = self._forward.result_specs()[self._tap]
            self._results = {self._tap: self._on.new_array(y.shape, y.dtype)}
            if isinstance(clock, EventClock):
                self._scratch = self._on.new_array((cache_clearer_bytes(),), "uint8")
        self._on.synchronize()
        self._clock = clock
        self._fills = FIRST_FILLS
        self._marks: list[Any] = []
        self.described = [
            {"name": named(network.config, step.layers) or step.operation.name,
             "layers": list(step.layers), "kernels": _kernels(step)}
            for step in self._forward.steps
        ]  # fmt: skip

    def forward(self) -> None:
        with self._here():
            if not isinstance(self._clock, EventClock):
                self._enqueue(self._on)
                return
            while not self._ahead() and self._fills < MAX_FILLS:
                self._fills *= 2

    def _ahead(self) -> bool:
        """Enqueue fills and a forward; return whether the GPU was still busy with the fills."""
        for _ in range(self._fills):
            self._scratch.fill(0)
        on = _Marking(self._on, self._clock)
        self._enqueue(on)
        self._marks = on.marks
        return not self._marks[0].done

    def _enqueue(self, on: Any) -> None:
        self._forward.run(on, self._x, self._arena, self._results)

    def seconds(self) -> list[float]:
        assert isinstance(self._clock, EventClock)
        self._marks[-1].synchronize()
        pairs = zip(self._marks, self._marks[1:], strict=False)
        return [self._clock.seconds(a, b) for a, b in pairs]

    def result(self) -> Any:
        self.forward()
        self._on.synchronize()
        return np.asarray(self._on.to_numpy(self._results[self._tap]))


class _Marking:
    """A backend that records an event before its first launch and after each launch."""

    def __init__(self, on: Any, clock: Any) -> None:
        self._on, self._clock = on, clock
        self.marks: list[Any] = []
        self.active, self.view = on.active, on.view

    def launch(self, *arguments: Any, **options: Any) -> None:
        if not self.marks:
            self.marks.append(self._clock.mark())
        self._on.launch(*arguments, **options)
        self.marks.append(self._clock.mark())


def named(config: Any, layers: Any) -> str:
    """Return the names of an operation's layers and their fused pool: "conv1_2 pool1"."""
    after = {}
    for layer, following in zip(config.features, config.features[1:], strict=False):
        if isinstance(layer, Conv) and isinstance(following, Pool):
            after[layer.name] = following.name
    return " ".join(name for layer in layers for name in (layer, after.get(layer)) if name)


def _kernels(step: Any) -> list[str]:
    plan = step.operation.plan
    return [] if plan is None else [launch["kernel"] for launch in plan.as_dict()["launches"]]
