"""The measured programs: each computes the same network, in the process that it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bench_fakes import FLAT, TINY, tiny_file
from support.bench_programs import checked, needs, whole

from vgg_cuda.backends import why_missing
from vgg_cuda.bench import inputs, peers
from vgg_cuda.bench.clock import HostClock
from vgg_cuda.bench.layers import network_layers
from vgg_cuda.bench.peers import OURS, Absent
from vgg_cuda.bench.session import Session
from vgg_cuda.bench.work import Job, Work
from vgg_cuda.configs import Config

POOLS = Config("pools", (8, "M", "M", 16, "M"), (12, 10), pool_grid=2)


PROGRAMS = [
    pytest.param(OURS, id=OURS),
    *(pytest.param(name, marks=needs(name), id=name) for name in ("torch", "onnxruntime", "jax")),
]


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
    reply = found.handle({"do": "sample", "seconds": 0.0, "max_calls": 5})
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
def test_onnxruntime_refuses_uneven_pools(tmp_path: Path) -> None:
    job = Job("cpu", "float32", weights=tiny_file(tmp_path, FLAT))
    found = Session()
    found.handle({"do": "open", "peer": "onnxruntime", "job": job})
    assert "how" in found.handle({"do": "prepare", "work": whole(FLAT, 1, side=40)})
    reply = found.handle({"do": "prepare", "work": whole(FLAT, 1, side=38)})
    assert reply["absent"] == "onnxruntime has no pool of 9 x 9 to 2 cells"


@pytest.mark.parametrize("name", ["torch", "compile", "onnxruntime", "jax"])
def test_absent_programs_give_a_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("torch", "onnx", "onnxruntime", "jax"):
        monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(Absent, match="is not installed: pip install"):
        peers.start(name, Job("cpu", "float32"))


@pytest.mark.parametrize("name", PROGRAMS[1:])
def test_peers_are_absent_on_emulator_or_missing_gpu(name: str) -> None:
    with pytest.raises(Absent, match="this package's kernels alone"):
        peers.start(name, Job("emulator", "float16"))
    if why_missing("cuda") is not None:
        with pytest.raises(Absent, match=r"no (GPU|CUDA)"):
            peers.start(name, Job("cuda:0", "float16"))


def test_weights_and_inputs_are_deterministic(tmp_path: Path) -> None:
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
