"""vgg_cuda: a network as a model, in a CUDA graph on a GPU, or a layer as one launch."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, cast

import numpy as np

from ...arrays import numpy_dtype
from ...backends import get_backend, recording
from ...backends.kernels import KernelBackend, spec_of
from ...ops.packing import pack_conv3x3, pack_linear
from ...vgg import VGG
from ...weights import load_weights
from ..clock import Clock, HostClock, cupy_clock
from ..inputs import cache_clearer_bytes, copies, in_turn, repeated
from ..profiling import profiled
from ..work import Job, Work
from . import Program


def start(job: Job) -> Ours:
    """Load this package for the job's device."""
    return Ours(job)


class Ours:
    """vgg_cuda; work on a GPU is enqueued on a separate stream."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.backend: Any = get_backend(job.device, job.arch)
        self.versions = {"vgg_cuda": version("vgg-cuda")}
        self.clock: Clock = HostClock()
        self.stream: Any = None
        if job.on_gpu:
            import cupy

            self.versions["cupy"] = cupy.__version__
            on: Any = self.backend
            with on.active():
                self.stream = cupy.cuda.Stream(non_blocking=True)
                self.clock = cupy_clock(self.stream)
        self._model: VGG | None = None

    @property
    def model(self) -> VGG:
        """The network of the job's weights, loaded once."""
        if self._model is None:
            weights = load_weights(str(self.job.weights))
            self._model = VGG(
                weights, device=self.job.device, dtype=self.job.dtype, arch=self.job.arch
            )
        return self._model

    def prepare(self, work: Work) -> Program:
        """Build a program for ``work``, without kernels that the driver refuses."""
        self._free()
        with self.here():
            if self.backend.name == "cpu":
                return self._prepared(work)
            return cast(KernelBackend, self.backend).with_fallback(lambda: self._prepared(work))

    def _prepared(self, work: Work) -> Program:
        program = self._layer(work) if work.kind == "kernel" else self._network(work)
        if self.job.device == "emulator":
            return self._counted(program)
        with recording() as stats:
            program.result()
        program.kernels = [each["kernel"] for each in stats] or program.kernels
        return program

    @contextlib.contextmanager
    def here(self) -> Any:
        """Use the stream, if the device has streams."""
        if self.stream is None:
            yield
            return
        with self.backend.active(), self.stream:
            yield

    def _network(self, work: Work) -> Program:
        model, on, x = self.model, self.backend, work.input(self.job.seed)
        if work.kind == "profile":
            return profiled(model, self.clock, self._placed(x), self.here)
        count = 1 if on.name == "emulator" else copies(x.nbytes, self.job.on_gpu)
        xs = in_turn(self._placed(x), count)
        program = Program(
            lambda i: self._run(lambda: model(xs[i])),
            lambda: on.to_numpy(self._run(lambda: model(xs[0]))),
            self.clock, copies=count,
        )  # fmt: skip
        if not self.job.on_gpu:
            return program
        with recording() as stats:  # launches of a CUDA graph are not recorded
            model(xs[0])
        on.synchronize()
        program.kernels = [each["kernel"] for each in stats]
        program.upload = lambda: (self._run(lambda: self._placed(x)), on.synchronize())
        if self.job.graph and cast(KernelBackend, on).captures:
            graph = model.capture(x.shape)
            program.before = lambda i: self._run(lambda: _copy(graph.x, xs[i]))
            program.call = lambda i: self._run(graph)

            def result() -> Any:
                assert program.before is not None
                program.before(0)
                program.call(0)
                on.synchronize()
                return on.to_numpy(graph.y)

            program.result, program.how = result, "CUDA graph"
        return program

    def _layer(self, work: Work) -> Program:
        layer, on = work.layers[0], self.backend
        tensors = work.tensors(self.job)
        given = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
        conv = layer.kind == "conv"
        packed: Any = (pack_conv3x3 if conv else pack_linear)(on, *given, dtype=self.job.dtype)
        placed = self._repeated(work)
        if on.name == "cpu":
            count = copies(placed.nbytes, False)
            xs, out = in_turn(placed, count), np.empty(layer.out_shape(work.shape), placed.dtype)

            def run(i: int) -> Any:
                if conv:
                    return on.conv3x3(xs[i], packed, relu=layer.relu, pool=layer.pool, out=out)
                return on.linear(xs[i], packed, relu=layer.relu, out=out)

            return Program(run, lambda: run(0), self.clock, copies=count)
        kernels = cast(KernelBackend, on)
        if conv:
            plan = kernels.plan.conv3x3(spec_of(placed), packed, relu=layer.relu, pool=layer.pool)
        else:
            plan = kernels.plan.linear(spec_of(placed), packed, relu=layer.relu)
        with on.active():
            y = kernels.new_array(plan.y.shape, plan.y.dtype)
            workspace = None
            if plan.workspace_bytes:
                workspace = kernels.new_array((plan.workspace_bytes,), "uint8")

        def launch() -> None:
            kernels.launch(plan, placed, y, workspace)

        program = Program(lambda _: self._run(launch), lambda: None, self.clock)
        if self.job.on_gpu:
            on.synchronize()
            scratch = kernels.new_array((cache_clearer_bytes(),), "uint8")
            program.before = lambda _: self._run(lambda: scratch.fill(0))
            with recording() as stats:
                launch()
            program.kernels = [each["kernel"] for each in stats]
            if self.job.graph and kernels.captures:
                again = on.capture(launch)
                program.call, program.how = lambda _: self._run(again), "CUDA graph"
                program.keep = launch

        def result() -> Any:
            program.call(0)
            on.synchronize()
            return on.to_numpy(y)

        program.result = result
        return program

    def _counted(self, program: Program) -> Program:
        """Run the program once on the emulator, for its counters."""
        with recording() as stats:
            y = program.result()
        counters: dict[str, int] = {}
        for each in stats:
            for name, count in each["counters"].items():
                counters[name] = counters.get(name, 0) + count
        program.counters = counters
        program.kernels = [each["kernel"] for each in stats]
        program.result = lambda: y
        return program

    def _placed(self, x: Any) -> Any:
        return self.backend.asarray(x, numpy_dtype(self.job.dtype))

    def _repeated(self, work: Work) -> Any:
        """Return x on the device, where repeating its images is much faster than on the host."""
        few = self._placed(work.few().input(self.job.seed))
        if len(few) == work.batch:
            return few
        if self.backend.name == "cpu":
            return repeated(few, work.batch)
        x = self.backend.new_array(work.shape, few.dtype.name)
        for i in range(len(few)):
            x[i :: len(few)] = few[i]
        return x

    def _run(self, call: Callable[[], Any]) -> Any:
        with self.here():
            return call()

    def peak_bytes(self) -> int | None:
        """Return the size of CuPy's memory pool, which grows to the program's peak."""
        return int(self._pool().total_bytes()) if self.job.on_gpu else None

    def _free(self) -> None:
        """Free the memory of an earlier program, so that it is not counted for this one."""
        if self.job.on_gpu:
            gc.collect()
            self._pool().free_all_blocks()

    def _pool(self) -> Any:
        import cupy

        with self.backend.active():
            return cupy.get_default_memory_pool()


def _copy(target: Any, source: Any) -> None:
    """Copy ``source`` into the array ``target`` on the device."""
    target[...] = source
