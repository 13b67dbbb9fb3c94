"""Runner of planned forwards, which splits batches that do not fit in memory."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence, Set
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np

from ..arrays import is_cupy, numpy_dtype
from ..backends import Array
from ..backends.kernels import KernelBackend, spec_of
from ..backends.operations import Planner, Spec
from ..configs import IN_CHANNELS
from ..text import format_bytes
from . import max_images
from .captured import CapturedForward
from .graph import Network
from .inputs import batch_on, check_image_spec, normalized
from .plan import Forward, Memory, memory, plan_forward


class PlannedRunner:
    """Runner that allocates all memory before the first launch, on a ``KernelBackend``.

    ``planner`` returns the current planner, by default the backend's. A forward whose kernel the
    driver refuses is planned again, with the planner that is current then, and runs from its start.
    """

    def __init__(self, network: Network, planner: Callable[[], Planner] | None = None) -> None:
        backend: Any = network.backend
        self._network, self._on = network, cast(KernelBackend, backend)
        self._planner = planner or (lambda: backend.plan)
        # a cached bound method would form a reference cycle and delay freeing the model
        self._forward: Callable[[Planner, Spec, frozenset[str]], Forward]
        self._forward = lru_cache(maxsize=256)(partial(plan_forward, network))

    def plan(self, x: Spec, wanted: frozenset[str]) -> Forward:
        """Return the forward of x to the ``wanted`` taps, by the current planner."""
        return self._forward(self._planner(), x, wanted)

    def _estimated(self, x: Spec, wanted: frozenset[str]) -> Forward:
        """Return the forward by estimates, for sizes of batches that may never run.

        The current planner would measure the kernels for each of them with ``tune="now"``.
        """
        return self._forward(self._on.plan, x, wanted)

    def __call__(self, x: Array, layout: str, wanted: Set[str]) -> dict[str, Array]:
        n, taps = x.shape[0], frozenset(wanted)
        if not taps:
            return {}
        step = min(n, max_images(self._on.batch_limit, x.shape, layout))
        step = self._fitting(x, layout, taps, step)
        whole: dict[str, Array] = {}
        parts: list[dict[str, Array]] = []
        i = 0
        while i < max(n, 1):
            try:
                if step < n and is_cupy(x) and not whole:
                    whole = self._reserve_results(x, layout, taps)
                part = self._part(x[i : i + step], layout, taps)
            except MemoryError:  # free memory is fragmented, or less than reported
                if step <= 1:
                    raise
                step = -(-step // 2)
                continue
            if whole:
                with self._on.active():
                    for tap, y in part.items():
                        whole[tap][i : i + step] = y
            else:
                parts.append(
                    part if is_cupy(x) else {t: self._on.to_numpy(y) for t, y in part.items()}
                )
            i += max(step, 1)
        if whole or len(parts) == 1:
            return whole or parts[0]
        return {tap: np.concatenate([part[tap] for part in parts]) for tap in parts[0]}

    def memory(self, shape: Sequence[int], dtype: Any, tap: str) -> Memory:
        """Return the memory that a forward of x [N,H,W,3] of ``dtype`` in host memory needs."""
        host, _ = self._planned(shape, dtype, tap, "memory")
        on_device = self._image_dtype(np.empty(0, numpy_dtype(host.dtype)))
        x, forward = self._planned(shape, on_device, tap, "memory")
        return memory(self._network, x, forward)

    def capture(self, shape: Sequence[int], dtype: Any, tap: str) -> CapturedForward:
        """Capture a forward of x [N,H,W,3] of ``dtype`` to ``tap``."""

        def work() -> CapturedForward:
            x, forward = self._planned(shape, dtype, tap, "capture")
            if self._network.normalization is None or x.dtype == "uint8":
                return CapturedForward(self._network, forward, x, tap)
            inner = Spec(x.shape, self._image_dtype(np.empty(0, np.float32)))
            forward = self.plan(inner, frozenset([tap]))
            return CapturedForward(self._network, forward, x, tap, inner)

        return self._on.with_fallback(work)

    def _planned(
        self, shape: Sequence[int], dtype: Any, tap: str, what: str
    ) -> tuple[Spec, Forward]:
        own = numpy_dtype(self._network.dtype).name
        config = self._network.config
        known = ("uint8", "float32", own) if config.in_channels == IN_CHANNELS else (own,)
        x = Spec(*check_image_spec(shape, own if dtype is None else dtype, known, what, config))
        return x, self.plan(x, frozenset([tap]))

    def _part(self, x: Array, layout: str, wanted: frozenset[str]) -> dict[str, Array]:
        on = self._on
        with on.active():
            x = normalized(self._network.normalization, x, layout)
        x = batch_on(on, x, layout, self._network.dtype)
        with on.active():
            return on.with_fallback(lambda: self._run(x, wanted))

    def _run(self, x: Array, wanted: frozenset[str]) -> dict[str, Array]:
        on, forward = self._on, self.plan(spec_of(x), wanted)
        uses = [f"{format_bytes(forward.arena_bytes)} for the tensors between layers"]
        uses += [f"{format_bytes(forward.result_bytes)} for its results"]
        what = f"a forward of {list(x.shape)}"
        smaller = "smaller batches" if len(x) > 1 else "smaller images"
        with on.reserving(what, forward.arena_bytes + forward.result_bytes, uses, smaller):
            arena = on.new_array((forward.arena_bytes,), "uint8")
            specs = forward.result_specs()
            results = {tap: on.new_array(y.shape, y.dtype) for tap, y in specs.items()}
        forward.run(on, x, arena, results)
        return results

    def _reserve_results(self, x: Array, layout: str, wanted: frozenset[str]) -> dict[str, Array]:
        """Allocate the results of a whole batch that is run in parts."""
        on, one = self._on, self._estimated(self._spec(x, layout, 1), wanted).result_specs()
        specs = {tap: Spec((x.shape[0], *y.shape[1:]), y.dtype) for tap, y in one.items()}
        needed = sum(spec.nbytes for spec in specs.values())
        what = f"a batch of {list(x.shape)}"
        with on.active(), on.reserving(what, needed, [f"{format_bytes(needed)} for its results"]):
            return {tap: on.new_array(y.shape, y.dtype) for tap, y in specs.items()}

    def _spec(self, x: Array, layout: str, n: int) -> Spec:
        """Return the spec of the first ``n`` images of x on the device."""
        height, width = x.shape[1:3] if layout == "NHWC" else x.shape[2:]
        return Spec((n, height, width, self._network.config.in_channels), self._image_dtype(x))

    def _image_dtype(self, x: Array) -> str:
        """Return the dtype of images x on the device, after the network's input layers."""
        own = self._network.dtype
        if self._network.normalization is not None and x.dtype != np.uint8:
            x = np.empty(0, np.float32)
        images = self._network.config.in_channels == IN_CHANNELS
        return self._on.image_dtype(x, own) if images else numpy_dtype(own).name

    def _fitting(self, x: Array, layout: str, wanted: frozenset[str], limit: int) -> int:
        """Return the largest equal-sized part, at most ``limit`` images, that fits in memory."""
        n = x.shape[0]

        def needed(part: int) -> int:
            spec = self._spec(x, layout, part)
            forward = self._estimated(spec, wanted)
            copied = 0 if _is_read_in_place(x, layout, spec.dtype) else spec.nbytes
            if self._network.normalization is not None and is_cupy(x) and x.dtype != np.uint8:
                copied += 4 * math.prod(spec.shape)  # the normalized images, in float32
            results = forward.result_bytes
            if part < n and is_cupy(x):
                results += -(-forward.result_bytes * n // part)
            return copied + forward.arena_bytes + results

        if limit <= 1:
            return limit
        with self._on.active():
            free = self._on.free_bytes(needed(limit))
        if free is None or needed(limit) <= free:
            return limit
        largest = bisect_right(range(1, limit), free, key=needed)  # 0 if not even one image fits
        parts = -(-n // max(largest, 1))
        return int(-(-n // parts))


def _is_read_in_place(x: Array, layout: str, dtype: str) -> bool:
    on_device = is_cupy(x) and layout == "NHWC"
    return bool(on_device and x.flags.c_contiguous and x.dtype == numpy_dtype(dtype))
