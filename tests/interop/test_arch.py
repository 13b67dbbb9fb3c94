"""``arch`` of ``from_torch`` and ``torch.compile``, and their report about a GPU's kernels."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.fake_cupy import fake_gpus
from support.torch_compiled import afresh, compiled
from support.torch_vgg import TorchVGG
from torch._subclasses.fake_tensor import FakeTensorMode

from vgg_cuda import DeviceWarning, from_torch
from vgg_cuda.backends import get_backend, recording
from vgg_cuda.interop import torch_compile, torch_ops
from vgg_cuda.interop.torch_compile import stage
from vgg_cuda.interop.torch_module import runtime

_afresh = pytest.fixture(autouse=True)(afresh)

UNKNOWN = r"arch: expected one of sm_80, .*, got 'hopper'"


@pytest.fixture
def no_backends() -> Iterator[None]:
    """Keep backends of fake GPUs from other tests."""
    torch_ops.backend_of.cache_clear()
    yield
    torch_ops.backend_of.cache_clear()


def on_gpu() -> torch.Tensor:
    with FakeTensorMode():
        return torch.empty(1, device="cuda")


def network() -> TorchVGG:
    return TorchVGG("8 M 16 M", num_classes=10, hidden=16)


@pytest.mark.emulator
@torch.no_grad()
def test_compiled_graph_plans_for_arch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "backend_of", lambda device, arch: get_backend("emulator", arch))
    model, x = network(), torch.randn(1, 3, 32, 32)
    with recording() as launched:
        y = compiled(model, options={"arch": "sm_90"})(x)
    torch.testing.assert_close(y, model(x), rtol=1e-3, atol=1e-4)
    assert {entry["plan"]["arch"] for entry in launched} == {"sm_90"}


@torch.no_grad()
def test_arch_has_no_effect_on_the_cpu() -> None:
    model, x = network(), torch.randn(1, 3, 32, 32)
    network_on_cpu: Any = from_torch(model, arch="sm_90")
    assert torch.equal(network_on_cpu(x), from_torch(model)(x))
    assert network_on_cpu.calls == (1, 0)
    assert copy.deepcopy(network_on_cpu).__dict__["_vgg_cuda_runtime"].arch == "sm_90"
    compiled(model, options={"arch": "sm_90"})(x)
    assert torch._dynamo.utils.counters["vgg_cuda"]["fallback"] == 0


def test_unknown_arch_and_options() -> None:
    model, x = network(), torch.randn(1, 3, 32, 32)
    with pytest.raises(ValueError, match=f"^from_torch: {UNKNOWN}"):
        from_torch(model, arch="hopper")
    with pytest.raises(TypeError, match=r"^from_torch: arch: expected a name such as"):
        from_torch(model, arch=90)  # type: ignore[arg-type]
    with pytest.raises(Exception, match=f"torch.compile: options: {UNKNOWN}"):
        compiled(model, options={"arch": "hopper"})(x)
    with pytest.raises(Exception, match="expected only arch for backend vgg_cuda, got 'layout"):
        compiled(model, options={"layout": "NHWC", "arch": "sm_80"})(x)


@pytest.mark.emulator
@pytest.mark.usefixtures("no_backends")
def test_compilation_reports_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    x = on_gpu()
    with fake_gpus(monkeypatch, (9, 0), verdicts=None):
        with pytest.warns(DeviceWarning, match="GPU 0: its kernels have not been tested"):
            assert torch_compile._arch({}, [3, x]) is None
        assert torch_compile._arch({"options": {"arch": "sm_90"}}, [x]) == "sm_90"
        with pytest.raises(ValueError, match=r"torch.compile: options: arch: .* for GPU 0 \(sm_90"):
            torch_compile._arch({"options": {"arch": "sm_120"}}, [x])
    with fake_gpus(monkeypatch, (7, 0)):
        torch_ops.backend_of.cache_clear()
        torch_compile._arch({}, [x])  # a GPU without kernels: PyTorch runs the graph


def test_from_torch_passes_arch_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(runtime, "make_weights", lambda *_: None)
    monkeypatch.setattr(
        runtime, "VGG", lambda _, **options: given.append(options) or SimpleNamespace(config=None)
    )
    like = SimpleNamespace(device=torch.device("cuda:0"), dtype=torch.float16, is_cuda=True)
    recorder: Any = SimpleNamespace(steps=[], outputs=[], one_size=False, module=None)
    runtime.Runtime("tf32", "sm_80").network(recorder, like, (32, 32))
    assert given == [{"device": "cuda:0", "dtype": "tf32", "arch": "sm_80"}]
