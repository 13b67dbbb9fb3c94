"""No program has more than another: threads, and a turn that begins as if it were alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.bench_fakes import TINY, tiny_file
from support.bench_programs import needs, whole

from vgg_cuda.bench import peers, session
from vgg_cuda.bench.session import Session
from vgg_cuda.bench.work import Job
from vgg_cuda.system.cpus import get_num_threads


@needs("torch")
def test_torch_has_as_many_threads() -> None:
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(get_num_threads() + 3)
        peers.start("torch", Job("cpu", "float32"))
        assert torch.get_num_threads() == get_num_threads()
    finally:
        torch.set_num_threads(before)


@needs("onnxruntime")
def test_onnxruntime_has_as_many_and_never_spins(
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
    assert options.intra_op_num_threads == get_num_threads()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


@needs("jax")
def test_jax_has_as_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PJRT_NPROC", "77")
    peers.start("jax", Job("cpu", "float32"))
    assert os.environ["PJRT_NPROC"] == str(get_num_threads())


PRODUCT = """
from vgg_cuda.backends.threads import blas_libraries
from vgg_cuda.bench.peers import ceilings
ceilings.COPY_BYTES, ceilings.SIDE = 1 << 20, 64
ours = ceilings.start(ceilings.Job("cpu", "float32"))
for work in ceilings.works(ceilings.Job("cpu", "float32")):
    ours.prepare(work).call(0)
print(*{library["num_threads"] for library in blas_libraries()})
"""


def test_the_product_has_as_many_threads() -> None:
    few = os.environ | {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "MKL")}
    made = subprocess.run([sys.executable, "-c", PRODUCT], env=few, capture_output=True, check=True)
    assert made.stdout.decode().split() == [str(get_num_threads())]


def test_first_call_of_a_slice_is_untimed(tmp_path: Path) -> None:
    """Unless a call takes several slices: that is not made twice."""
    calls: list[int] = []
    found = Session()
    clock = SimpleNamespace(time=lambda call: (call(), session.Span(0.5))[1])
    found._program = peers.Program(lambda i: calls.append(i), lambda: None, clock, copies=3)
    found._call_s = 0.0
    found.handle({"do": "sample", "seconds": 0.001, "max_calls": 2})
    assert calls[:3] == [0, 1, 2]
    calls.clear()
    found._call_s = 0.4
    found.handle({"do": "sample", "seconds": 0.25, "max_calls": 1})
    assert len(calls) == 2
    calls.clear()
    found._call_s = 10.0
    reply = found.handle({"do": "sample", "seconds": 0.0, "max_calls": 2})
    assert (len(calls), reply["times"]) == (1, [0.5])
