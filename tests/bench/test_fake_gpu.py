"""A GPU's side of the programs, with no GPU: a fake CuPy, whose launches go to the emulator."""

from __future__ import annotations

import gc
import itertools
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.bench_fakes import TINY, locally, tiny_file
from support.bench_programs import checked, needs, whole

from vgg_cuda import DeviceWarning
from vgg_cuda.arrays import numpy_dtype
from vgg_cuda.bench import inputs, peers
from vgg_cuda.bench.clock import HostClock
from vgg_cuda.bench.options import Options, resolve
from vgg_cuda.bench.peers import OURS
from vgg_cuda.bench.report import Report
from vgg_cuda.bench.session import Session
from vgg_cuda.bench.suite import Suite
from vgg_cuda.bench.work import Job, Work
from vgg_cuda.system.interruption import Interruption


@pytest.fixture(autouse=True)
def _few_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "cache_bytes", lambda: 1 << 14)
    monkeypatch.setattr(inputs, "GPU_ROTATED_BYTES", 1 << 17)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its events are a millisecond apart."""
    from support.fake_cupy import fake_gpus

    ticks = itertools.count()

    class Event:
        def record(self, stream: Any) -> None:
            assert stream.ptr
            self.at = next(ticks)

        done = False  # the host is ahead

        def synchronize(self) -> None: ...

    with fake_gpus(monkeypatch, (9, 0), (9, 0)) as log:
        cupy = __import__("sys").modules["cupy"]
        cupy.cuda.Event = Event
        cupy.cuda.get_elapsed_time = lambda start, stop: float(stop.at - start.at)
        pool = log.pool
        pool.held = 12345
        pool.total_bytes = lambda: pool.held
        pool.free_all_blocks = lambda: setattr(pool, "held", 0)
        yield SimpleNamespace(log=log, ticks=ticks, cupy=cupy)


@pytest.mark.emulator
@pytest.mark.parametrize("graph", [True, False], ids=["graph", "plain"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "tf32", "bfloat16"])
def test_a_network_on_a_gpu(gpu: Any, tmp_path: Path, dtype: str, graph: bool) -> None:
    job = Job("cuda:0", dtype, weights=tiny_file(tmp_path), graph=graph)
    error, bound, found = checked(job, OURS, whole(TINY, 4), tmp_path)
    assert error <= bound
    assert found.program.how == ("CUDA graph" if graph else "plain calls")
    assert found.program.copies > 1
    assert any(kernel.startswith("conv3x3") for kernel in found.program.kernels or [])
    found.handle({"do": "warm"})
    before = len(gpu.log.graphs_launched_on)
    reply = found.handle({"do": "sample", "seconds": 0.0, "max_calls": 1})
    assert reply["times"] == [0.001]
    assert len(reply["enqueue"]) == 1
    assert (len(gpu.log.graphs_launched_on) > before) == graph
    # on the program's own stream, which others' work does not wait for
    assert {stream for _, stream in gpu.log.launched_on[-3:]} == {2048}
    gpu.log.pool.held += 77
    ended = found.handle({"do": "finish"})
    assert ended["host_to_device_s"] > 0
    assert ended["peak_bytes"] == 77  # what was held before the program is not its own


@pytest.mark.emulator
@pytest.mark.parametrize("graph", [True, False], ids=["graph", "plain"])
@pytest.mark.parametrize("which", ["conv2_1", "fc7"])
@pytest.mark.parametrize("dtype", ["float16", "tf32"])
def test_a_layer_on_a_gpu(gpu: Any, tmp_path: Path, dtype: str, which: str, graph: bool) -> None:
    """The L2 cache is cleared before every call, on the same stream."""
    job = Job("cuda:0", dtype, weights=tiny_file(tmp_path), graph=graph)
    found = [(layer, shape) for layer, shape in whole(TINY, 5).shapes() if layer.name == which]
    ((layer, shape),) = found
    used = gpu.log.memory.used
    work = Work("kernel", layer.name, shape, (layer,))
    error, bound, session = checked(job, OURS, work, tmp_path)
    assert error <= bound
    assert (session.program.keep is not None) == graph  # a real graph knows addresses alone
    gc.collect()
    elements = math.prod(shape) + math.prod(layer.weight_shape) + math.prod(layer.out_shape(shape))
    held = elements * numpy_dtype(dtype).itemsize + inputs.GPU_ROTATED_BYTES
    assert gpu.log.memory.used - used >= held
    before, cleared = session.program.before, []
    assert before is not None
    session.program.before = partial(_noted, before, cleared)
    session.handle({"do": "warm"})
    assert cleared == [0, 0]
    assert session.program.kernels
    assert session.program.how == ("CUDA graph" if graph else "plain calls")


def _noted(before: Any, cleared: list[int], i: int) -> None:
    before(i)
    cleared.append(i)


@pytest.mark.emulator
def test_a_profile_on_a_gpu(gpu: Any, tmp_path: Path) -> None:
    job = Job("cuda:0", "float16", weights=tiny_file(tmp_path))
    error, bound, found = checked(job, OURS, whole(TINY, 2, kind="profile"), tmp_path)
    assert error <= bound
    steps = found.program.steps
    assert [step["name"] for step in steps][:2] == ["conv1_1 pool1", "conv2_1 pool2"]
    assert all(step["kernels"] for step in steps)
    found.handle({"do": "warm"})
    reply = found.handle({"do": "sample", "seconds": 0.0, "max_calls": 1})
    assert reply["parts"] == [[0.001] * len(steps)]
    assert reply["times"] == [pytest.approx(0.001 * len(steps))]


@pytest.mark.emulator
def test_programs_without_refused_kernels(gpu: Any, tmp_path: Path) -> None:
    """The driver refuses the family "dense" in a profile, and then in a layer on another GPU."""
    gpu.log.refuses = lambda plan: plan.family == "dense"
    network = whole(TINY, 2)
    layer, shape = network.shapes()[-1]
    alone = Work("kernel", layer.name, shape, (layer,))
    for device, work in (("cuda:0", whole(TINY, 2, kind="profile")), ("cuda:1", alone)):
        job = Job(device, "float16", weights=tiny_file(tmp_path))
        with pytest.warns(DeviceWarning, match="the family dense"):
            error, bound, found = checked(job, OURS, work, tmp_path)
        assert error <= bound
        kernels = found.program.kernels or []
        assert kernels
        assert not any("dense" in kernel for kernel in kernels)


@pytest.mark.emulator
@pytest.mark.parametrize(("needed", "made"), [(0, 16), (50, 16 + 32 + 64), (10**6, 496)])
def test_a_profile_does_not_time_launches(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: int, made: int
) -> None:
    """The GPU is kept busy, longer and longer, until the host has enqueued all of a forward."""
    job = Job("cuda:0", "float16", weights=tiny_file(tmp_path))
    program = peers.start(OURS, job).prepare(whole(TINY, 2, kind="profile"))
    fills = [0]  # before each forward

    def fill(x: Any, value: int) -> None:
        assert gpu.log.streams[-1] == 2048
        fills[-1] += 1

    def done(mark: Any) -> bool:
        fills.append(0)
        return fills[-2] < needed

    monkeypatch.setattr(gpu.cupy.ndarray, "fill", fill)
    monkeypatch.setattr(gpu.cupy.cuda.Event, "done", property(done))
    program.call(0)
    assert sum(fills) == made


def test_host_memory_is_not_reported_for_gpu() -> None:
    """A program that does not know its GPU memory reports none."""
    found = Session()
    found._peer, found._job = SimpleNamespace(versions={}), Job("cuda:0", "float16")  # type: ignore[assignment]
    found._program = peers.Program(lambda i: None, lambda: None, HostClock())
    assert found.handle({"do": "finish"})["peak_bytes"] is None


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs(name), id=name) for name in ("onnxruntime", "jax")]
)
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_peers_clear_the_cache_before_a_layer(name: str, tmp_path: Path) -> None:
    """The code for a GPU, run in host memory; networks use copies of x in turn instead."""
    weights = tiny_file(tmp_path)
    peer: Any = peers.start(name, Job("cpu", "float32", weights=weights))
    peer.job, peer.place = Job("cuda:0", "float32", weights=weights), ("cpu", 0)
    whole_work = whole(TINY, 4)
    layer, shape = whole_work.shapes()[1]
    network = peer.prepare(whole_work)
    assert (network.before, network.copies > 1) == (None, True)
    alone = peer.prepare(Work("kernel", layer.name, shape, (layer,)))
    assert alone.copies == 1
    for _ in range(2):
        alone.before(0)
        alone.call(0)
    assert alone.result().shape == layer.out_shape(shape)


def test_ceilings_use_the_requested_gpu(gpu: Any) -> None:
    from vgg_cuda.bench.peers import ceilings

    ran: list[int] = []
    gpu.cupy.random = SimpleNamespace(randint=lambda low, high, shape, dtype: None)
    gpu.cupy.uint8, gpu.cupy.empty_like = np.uint8, lambda x: None
    gpu.cupy.copyto = lambda target, source: ran.append(gpu.log.device)
    job = Job("cuda:3", "float32")
    copy, _ = ceilings.works(job)
    program = ceilings.OnGpu(job).prepare(copy)
    program.clock.time(lambda: program.call(0))
    assert (ran, gpu.log.device) == ([3], 0)


@pytest.mark.emulator
@pytest.mark.parametrize("kind", ["model", "kernel", "profile"])
def test_a_whole_run_on_a_gpu(gpu: Any, tmp_path: Path, kind: Any) -> None:
    """From options to a report; the fake has no products for the ceilings."""
    asked = resolve(
        Options(kind, tiny_file(tmp_path), (5,), 32, "float16", "cuda", timeout=0.01, peers=())
    )
    assert (asked.noise, asked.job.device) == (0.005, "cuda:0")
    report = Suite(asked, Interruption(), start=locally([])).run()
    assert (report.device, report.device_kind, report.driver) == ("GPU 0", "cuda", None)
    assert report.environment["before"]["power_w"] is None
    assert not report.ceilings
    for row in report.results:
        assert row.status == "ok", row.reason
        assert row.median_s == pytest.approx(0.001)
        assert row.kernels
        assert row.floor_s is None
        if kind != "profile":
            assert row.device_s == row.median_s
            assert row.enqueue_s > 0
    Report.to_json(report)
