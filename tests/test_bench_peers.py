"""The measured programs: each computes the same network, in the process that it is given."""

from __future__ import annotations

import gc
import itertools
import json
import math
import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bench_fakes import FLAT, TINY, locally, tiny_file

from vgg_cuda.arrays import numpy_dtype
from vgg_cuda.backends import why_missing
from vgg_cuda.backends.threads import cores
from vgg_cuda.bench import inputs, peers, session
from vgg_cuda.bench.clock import HostClock
from vgg_cuda.bench.interruption import Interruption
from vgg_cuda.bench.layers import network_layers
from vgg_cuda.bench.options import Options, resolve
from vgg_cuda.bench.peers import OURS, Absent
from vgg_cuda.bench.report import Report
from vgg_cuda.bench.session import Session
from vgg_cuda.bench.suite import Suite
from vgg_cuda.bench.truth import truth
from vgg_cuda.bench.work import Job, Work
from vgg_cuda.configs import Config

EMULATED = pytest.mark.skipif(
    why_missing("emulator") is not None, reason=str(why_missing("emulator"))
)
POOLS = Config("pools", (8, "M", "M", 16, "M"), (12, 10), pool_grid=2)


def needs(name: str) -> Any:
    library = {"onnxruntime": ("onnx", "onnxruntime"), "jax": ("jax",)}.get(name, ("torch",))
    missing = [each for each in library if find_spec(each) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


PROGRAMS = [
    pytest.param(OURS, id=OURS),
    *(pytest.param(name, marks=needs(name), id=name) for name in ("torch", "onnxruntime", "jax")),
]


def whole(config: Config, batch: int, side: int = 32, kind: Any = "model") -> Work:
    return Work(kind, config.name, (batch, side, side, 3), tuple(network_layers(config)))


def checked(job: Job, name: str, work: Work, folder: Path) -> tuple[float, float, Session]:
    """The relative error that a session finds, the bound, and the session, warm."""
    exact, bound = truth(
        work.layers, work.tensors(job), work.of_batch(min(work.batch, 3)).input(job.seed), job.dtype
    )
    np.save(folder / "exact.npy", exact.astype(np.float32))
    found = Session()
    message = {"do": "open", "peer": name, "job": vars(job)}
    assert found.handle(json.loads(json.dumps(message)))["load_s"] > 0
    found.handle(json.loads(json.dumps({"do": "prepare", "work": work.as_json()})))
    reply = found.handle({"do": "check", "exact": str(folder / "exact.npy")})
    return reply["relative_error"], bound, found


@pytest.fixture(autouse=True)
def _few_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "cache_bytes", lambda: 1 << 14)
    monkeypatch.setattr(inputs, "GPU_ROTATED_BYTES", 1 << 17)


@pytest.mark.parametrize("config", [TINY, FLAT, POOLS], ids=lambda config: config.name)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_network(name: str, config: Config, tmp_path: Path) -> None:
    job = Job("cpu", "float32", weights=tiny_file(tmp_path, config))
    error, bound, found = checked(job, name, whole(config, 4), tmp_path)
    assert error <= bound
    assert found.handle({"do": "warm"})["call_s"] > 0
    assert found.program.copies >= 1
    reply = found.handle({"do": "sample", "seconds": 0.0, "most": 5})
    assert len(reply["times"]) == 1
    assert reply["enqueue"] == []
    ended = found.handle({"do": "finish"})
    assert ended["host_to_device_s"] is None
    assert ended["peak_bytes"] > 1 << 20


@pytest.mark.parametrize("name", PROGRAMS)
def test_layers(name: str, tmp_path: Path) -> None:
    """Every layer of a network alone, and one that no network has."""
    job = Job("cpu", "float32", weights=tiny_file(tmp_path))
    layers = [(layer, shape) for layer, shape in whole(TINY, 5).shapes() if layer.multiplies]
    works = [Work("kernel", layer.name, shape, (layer,)) for layer, shape in layers]
    for work in [works[0], works[1], works[-1]]:
        error, bound, _ = checked(job, name, work, tmp_path)
        assert error <= bound, work.name
    drawn = Job("cpu", "float32")
    shape = Work("kernel", "odd", (2, 7, 5, 6), (layers[1][0].__class__("odd", "conv", 6, 9),))
    error, bound, _ = checked(drawn, name, shape, tmp_path)
    assert error <= bound


@needs("compile")
@pytest.mark.slow  # g++
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled(tmp_path: Path) -> None:
    job = Job("cpu", "float32", weights=tiny_file(tmp_path))
    work = whole(TINY, 2)
    first = Work("kernel", "conv1_1", work.shape, work.layers[:1])
    error, bound, found = checked(job, "compile", first, tmp_path)
    assert error <= bound
    assert "max-autotune" in found.program.how


@needs("compile")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_graphs_copy_neither_weights_nor_x(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are at addresses that the compiler may rely on; x comes there before a call, untimed."""
    import torch

    made, inputs = torch.compile, []

    def backend(graph: Any, _: Any) -> Any:
        found = [node.meta["tensor_dict"] for node in graph.graph.find_nodes(op="placeholder")]
        inputs.extend("_dynamo_static_input_type" in each for each in found)
        return graph.forward

    def compiled(run: Any, mode: str, **options: Any) -> Any:
        return made(run, backend=backend, **options)

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    job = Job("cpu", "float32", weights=tiny_file(tmp_path))
    peer = peers.start("compile", job)
    work = whole(TINY, 2)
    run: Any = peer.function(work)  # type: ignore[attr-defined]
    xs = [torch.randn(2, 3, 32, 32) for _ in range(3)]
    program = peers.Program(lambda i: None, lambda: None, HostClock(), copies=3)
    peer.capture(program, run, xs, kernel=False)  # type: ignore[attr-defined]
    assert inputs == [True] * (2 * 7 + 1)
    eager: Any = peers.start("torch", job).function(work)  # type: ignore[attr-defined]
    assert program.before is not None
    program.before(2)
    torch.testing.assert_close(program.call(2), eager(xs[2]))
    np.testing.assert_allclose(program.result(), eager(xs[0]).numpy(), rtol=1e-4, atol=1e-5)
    assert program.how.endswith("CUDA graph")


@needs("onnxruntime")
def test_pools_that_onnxruntime_has_not(tmp_path: Path) -> None:
    job = Job("cpu", "float32", weights=tiny_file(tmp_path, FLAT))
    found = Session()
    found.handle({"do": "open", "peer": "onnxruntime", "job": vars(job)})
    assert "how" in found.handle({"do": "prepare", "work": whole(FLAT, 1, side=40).as_json()})
    reply = found.handle({"do": "prepare", "work": whole(FLAT, 1, side=38).as_json()})
    assert reply["absent"] == "onnxruntime has no pool of 9 x 9 to 2 cells"


@pytest.mark.parametrize("name", ["torch", "compile", "onnxruntime", "jax"])
def test_absent_programs_say_why(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("torch", "onnx", "onnxruntime", "jax"):
        monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(Absent, match="is not installed: pip install"):
        peers.start(name, Job("cpu", "float32"))


@pytest.mark.parametrize("name", PROGRAMS[1:])
def test_none_but_ours_runs_on_the_emulator_or_an_absent_gpu(name: str) -> None:
    with pytest.raises(Absent, match="this package's kernels alone"):
        peers.start(name, Job("emulator", "float16"))
    if why_missing("cuda") is not None:
        with pytest.raises(Absent, match=r"no (GPU|CUDA)"):
            peers.start(name, Job("cuda:0", "float16"))


def test_weights_and_inputs_are_those_of_everybody(tmp_path: Path) -> None:
    job = Job("cpu", "float32", weights=tiny_file(tmp_path), seed=7)
    work = whole(TINY, 2)
    tensors = work.tensors(job)
    assert set(tensors) == {
        f"{layer.name}.{part}" for layer in work.layers if layer.multiplies
        for part in ("weight", "bias")
    }  # fmt: skip
    np.testing.assert_array_equal(work.input(7), work.input(7))
    drawn = Work("kernel", "odd", (2, 7, 5, 6), (network_layers(TINY)[1],))
    first, second = (drawn.tensors(Job("cpu", "float32", seed=seed)) for seed in (1, 2))
    assert not (first["conv2_1.weight"] == second["conv2_1.weight"]).all()
    x = drawn.input(0)
    assert x.min() == 0
    assert 0.4 < (x > 0).mean() < 0.6


@needs("torch")
def test_torch_has_every_core() -> None:
    """Whatever OMP_NUM_THREADS says; the others have as many."""
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(cores() + 3)
        peers.start("torch", Job("cpu", "float32"))
        assert torch.get_num_threads() == cores()
    finally:
        torch.set_num_threads(before)


@needs("onnxruntime")
def test_onnxruntime_has_every_core_and_leaves_it_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of its threads may spin in another program's turn."""
    import onnxruntime

    made, started = onnxruntime.InferenceSession, []

    def session(*given: Any, **named: Any) -> Any:
        started.append(made(*given, **named))
        return started[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    job = Job("cpu", "float32", weights=tiny_file(tmp_path))
    peers.start("onnxruntime", job).prepare(whole(TINY, 1))
    (options,) = [each.get_session_options() for each in started]
    assert options.intra_op_num_threads == cores()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


@needs("jax")
def test_jax_has_every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PJRT_NPROC", "77")
    peers.start("jax", Job("cpu", "float32"))
    assert os.environ["PJRT_NPROC"] == str(cores())


PRODUCT = """
from vgg_cuda.backends.threads import blas_libraries
from vgg_cuda.bench.peers import ceilings
ceilings.COPY_BYTES, ceilings.SIDE = 1 << 20, 64
ours = ceilings.start(ceilings.Job("cpu", "float32"))
for work in ceilings.works(ceilings.Job("cpu", "float32")):
    ours.prepare(work).call(0)
print(*{library["num_threads"] for library in blas_libraries()})
"""


def test_the_product_has_every_core() -> None:
    few = os.environ | {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    made = subprocess.run([sys.executable, "-c", PRODUCT], env=few, capture_output=True, check=True)
    assert made.stdout.decode().split() == [str(cores())]


def test_ceilings_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from vgg_cuda.bench.peers import ceilings

    monkeypatch.setattr(ceilings, "COPY_BYTES", 1 << 20)
    monkeypatch.setattr(ceilings, "SIDE", 64)
    job = Job("cpu", "float32")
    works = ceilings.works(job)
    assert [work.name for work in works] == ["copy", "matmul"]
    assert ceilings.flops(works[1]) == 2 * 64**3
    for work in works:
        program = peers.start(peers.CEILINGS, job).prepare(work)
        assert program.clock.time(lambda program=program: program.call(0)).total_s > 0


# ---- A GPU's side, with no GPU: a fake CuPy, whose launches go to the emulator ----


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its events are a millisecond apart."""
    from fake_cupy import fake_gpus

    ticks = itertools.count()

    class Event:
        def record(self, stream: Any) -> None:
            assert stream.ptr
            self.at = next(ticks)

        done = False  # the host is ahead

        def synchronize(self) -> None: ...

    with fake_gpus(monkeypatch, (9, 0)) as log:
        cupy = __import__("sys").modules["cupy"]
        cupy.cuda.Event = Event
        cupy.cuda.get_elapsed_time = lambda start, stop: float(stop.at - start.at)
        pool = log.pool
        pool.held = 12345
        pool.total_bytes = lambda: pool.held
        pool.free_all_blocks = lambda: setattr(pool, "held", 0)
        yield SimpleNamespace(log=log, ticks=ticks, cupy=cupy)


@EMULATED
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
    reply = found.handle({"do": "sample", "seconds": 0.0, "most": 1})
    assert reply["times"] == [0.001]
    assert len(reply["enqueue"]) == 1
    assert (len(gpu.log.graphs_launched_on) > before) == graph
    # on the program's own stream, which others' work does not wait for
    assert {stream for _, stream in gpu.log.launched_on[-3:]} == {2048}
    gpu.log.pool.held += 77
    ended = found.handle({"do": "finish"})
    assert ended["host_to_device_s"] > 0
    assert ended["peak_bytes"] == 77  # what was held before the program is not its own


@EMULATED
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


@EMULATED
def test_a_profile_on_a_gpu(gpu: Any, tmp_path: Path) -> None:
    job = Job("cuda:0", "float16", weights=tiny_file(tmp_path))
    error, bound, found = checked(job, OURS, whole(TINY, 2, kind="profile"), tmp_path)
    assert error <= bound
    steps = found.program.steps
    assert [step["name"] for step in steps][:2] == ["conv1_1 pool1", "conv2_1 pool2"]
    assert all(step["kernels"] for step in steps)
    found.handle({"do": "warm"})
    reply = found.handle({"do": "sample", "seconds": 0.0, "most": 1})
    assert reply["parts"] == [[0.001] * len(steps)]
    assert reply["times"] == [pytest.approx(0.001 * len(steps))]


@EMULATED
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


def test_the_host_s_memory_is_no_gpu_s() -> None:
    """Of a program that cannot tell what it holds there, nothing is reported."""
    found = Session()
    found._peer, found._job = SimpleNamespace(versions={}), Job("cuda:0", "float16")  # type: ignore[assignment]
    found._program = peers.Program(lambda i: None, lambda: None, HostClock())
    assert found.handle({"do": "finish"})["peak_bytes"] is None


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs(name), id=name) for name in ("onnxruntime", "jax")]
)
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_the_cache_is_cleared_before_a_layer_of_others(name: str, tmp_path: Path) -> None:
    """What is for a GPU, here in the host's memory: networks take copies of x in turn instead."""
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


def test_ceilings_are_those_of_the_gpu_that_is_asked_for(gpu: Any) -> None:
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


@EMULATED
def test_memory_of_a_gpu_is_predicted_without_it(gpu: Any, tmp_path: Path) -> None:
    from vgg_cuda import VGG
    from vgg_cuda.bench import memory

    work = whole(TINY, 4)
    job = Job("cuda:0", "float16", weights=tiny_file(tmp_path))
    expected = VGG.load(str(job.weights), device="cuda").memory(work.shape, "float16").total
    needed = memory.needs(work, job, 3, TINY)
    assert expected <= needed <= expected + 17 * 4 * 32 * 32 * 3 * 2 + 4096


def test_samples_settle_after_others_had_their_turn(tmp_path: Path) -> None:
    """Unless a call takes several slices: that is not made twice."""
    calls: list[int] = []
    found = Session()
    clock = SimpleNamespace(time=lambda call: (call(), session.Span(0.5))[1])
    found._program = peers.Program(lambda i: calls.append(i), lambda: None, clock, copies=3)
    found._call_s = 0.0
    found.handle({"do": "sample", "seconds": 0.001, "most": 2})
    assert calls[:3] == [0, 1, 2]
    calls.clear()
    found._call_s = 0.4
    found.handle({"do": "sample", "seconds": 0.25, "most": 1})
    assert len(calls) == 2
    calls.clear()
    found._call_s = 10.0
    reply = found.handle({"do": "sample", "seconds": 0.0, "most": 2})
    assert (len(calls), reply["times"]) == (1, [0.5])


@EMULATED
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
