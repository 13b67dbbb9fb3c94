"""Weights of ``vgg_cuda.from_torch``'s modules: changed, copied, saved, shared by threads."""

from __future__ import annotations

import copy
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tolerance import assert_close
from support.torch_modules import X, kernels, original, sequential
from support.torch_modules import torchvision_vgg as vgg
from support.torch_vgg import TorchVGG
from torch import nn
from torch.nn.utils import parametrizations

from vgg_cuda import WeightsError
from vgg_cuda.interop.torch_module import from_torch

# ---- Weights ----

pytestmark = pytest.mark.filterwarnings("ignore::vgg_cuda.FallbackWarning")


def changes() -> dict[str, Callable[[Any], Any]]:
    def optimizer(m: Any) -> None:
        for p in m.parameters():
            p.grad = torch.ones_like(p)
        torch.optim.SGD(m.parameters(), 0.01).step()

    def fused(kind: Any) -> Callable[[Any], None]:
        def step(m: Any) -> None:
            for p in m.parameters():
                p.grad = torch.ones_like(p)
            kind(m.parameters(), 0.01, fused=True).step()

        return step

    def more_norm(m: Any) -> None:
        m.train().features(X * 3)
        m.eval()

    def replaced(m: Any) -> None:
        m.classifier[6] = nn.Linear(32, 4).eval()

    def pruned(m: Any) -> None:
        m.features[2] = nn.Identity().eval()

    return {
        "in place": lambda m: m.classifier[3].weight.mul_(1.5),
        "a view of one": lambda m: m.features[0].weight[0].zero_(),
        "bias": lambda m: m.features[0].bias.add_(1),
        "statistics": more_norm,
        "epsilon": lambda m: setattr(m.features[1], "eps", 0.5),
        "optimizer": optimizer,
        "fused AdamW": fused(torch.optim.AdamW),
        "fused SGD": fused(torch.optim.SGD),
        "load_state_dict": lambda m: m.load_state_dict(vgg(batch_norm=True, seed=9).state_dict()),
        "assigned": lambda m: m.load_state_dict(
            vgg(batch_norm=True, seed=9).state_dict(), assign=True
        ),
        "another head": replaced,
        "a layer less": pruned,
        "half and back": lambda m: m.half().float(),
        "data replaced": lambda m: setattr(m.features[0].weight, "data", torch.ones(8, 3, 3, 3)),
        "without the head": lambda m: setattr(m, "classifier", nn.Identity().eval()),
    }


@pytest.mark.parametrize("change", changes())
def test_changed_weights_are_noticed(change: str) -> None:
    module = vgg(batch_norm=True)
    network: Any = from_torch(module)
    before = kernels(network, module)
    with torch.no_grad():
        changes()[change](module)
    after = kernels(network, module)
    assert before.shape != after.shape or not torch.equal(before, after)
    found = network.__dict__["_vgg_cuda_runtime"].packed._found
    kernels(network, module)
    assert network.__dict__["_vgg_cuda_runtime"].packed._found is found  # packed once


def test_reused_address_is_noticed() -> None:
    module = sequential(nn.Conv2d(3, 8, 3, padding=1)).requires_grad_(False)
    network = from_torch(module)
    for value in range(8):  # the allocator reuses the memory
        module[0].weight.data = torch.full((8, 3, 3, 3), float(value))
        assert_close(network(X), module(X))


def test_statistics_without_a_counter() -> None:
    """Update statistics by ``F.batch_norm``, which does not count in ``num_batches_tracked``."""
    module = sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)).requires_grad_(False)
    network = from_torch(module)
    kernels(network, module)
    norm: Any = module[1]
    nn.functional.batch_norm(
        torch.randn(4, 8, 3, 3), norm.running_mean, norm.running_var, training=True
    )
    kernels(network, module)
    found = network.__dict__["_vgg_cuda_runtime"].packed._found
    kernels(network, module)
    assert network.__dict__["_vgg_cuda_runtime"].packed._found is found


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_gpu_memory_is_freed_after_its_kernels(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check the wait for all streams before the weights' memory is reused."""
    network: Any = from_torch(vgg())
    packed = network.__dict__["_vgg_cuda_runtime"].packed
    packed._found.device = device
    waited: list[Any] = []
    monkeypatch.setattr(
        torch.cuda, "synchronize", lambda given: waited.append((given, packed._found is None))
    )
    network.refresh()
    assert packed._found is None
    assert waited == ([] if device == "cpu" else [(device, False)])


def test_data_needs_refresh() -> None:
    module = vgg().requires_grad_(False)
    network: Any = from_torch(module)
    before = network(X)
    for p in module.parameters():
        p.data.mul_(1.1)
    assert torch.equal(network(X), before)  # consistently the old weights
    network.refresh()
    kernels(network, module)
    assert not torch.equal(network(X), before)


def test_inference_tensors() -> None:
    with torch.inference_mode():
        module = vgg()
        network: Any = from_torch(module)
        kernels(network, module)
        module.features[0].weight.mul_(2)
        kernels(network, module)


def test_swapped_tensors() -> None:
    """Convert modules by swapping tensors, which fails for tensors with weak references."""
    module = vgg()
    network: Any = from_torch(module)
    kernels(network, module)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        module.load_state_dict(vgg(seed=4).state_dict())
        module.double().float()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    kernels(network, module)


def test_weights_with_nan_or_infinity() -> None:
    module = vgg()
    network: Any = from_torch(module)
    with torch.no_grad():
        module.classifier[3].bias[2] = torch.nan
        for _ in range(2):
            assert network(X).isnan().all()
            assert "classifier.3" in network.why or "finite" in network.why
        module.classifier[3].bias[2] = 0
    kernels(network, module)
    module.features[0].weight.data.fill_(torch.inf)
    with pytest.raises(WeightsError, match="finite"):
        from_torch(module)


def test_lazy_layers() -> None:
    """Lazy layers have hooks that initialise them in the first call."""
    module = nn.Sequential(nn.LazyConv2d(8, 3, padding=1), nn.ReLU()).eval()
    network: Any = from_torch(module)
    with torch.no_grad():
        original(network, module, X, "0 has hooks")
    kernels(network, module)


def test_batch_norms_without_a_counter() -> None:
    """Without ``num_batches_tracked``, updates of the statistics cannot be detected."""
    module = vgg(batch_norm=True)
    module.features[4].num_batches_tracked = None
    with pytest.raises(ValueError, match=r"features\.4: expected batch norms with num_batches"):
        from_torch(module)


def test_computed_weights() -> None:
    module = vgg()
    parametrizations.weight_norm(module.features[0])
    with pytest.raises(
        ValueError, match=r"features\.0: expected plain parameters, got a Tensor in Par"
    ):
        from_torch(module)


# ---- The module ----


def test_state_dict() -> None:
    module = vgg(batch_norm=True)
    network: Any = from_torch(module)
    ours, theirs = network.state_dict(), module.state_dict()
    assert list(ours) == list(theirs)
    assert all(ours[name].data_ptr() == theirs[name].data_ptr() for name in ours)
    assert ours._metadata == theirs._metadata
    assert [n for n, _ in network.named_parameters()] == [n for n, _ in module.named_parameters()]
    assert isinstance(network, TorchVGG)
    assert network.load_state_dict(vgg(batch_norm=True, seed=2).state_dict()).missing_keys == []
    with pytest.raises(RuntimeError, match="Error"):
        network.load_state_dict({})
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    vgg(batch_norm=True).load_state_dict(torch.load(file, weights_only=True))
    kernels(network, module)


def test_copies() -> None:
    module = vgg()
    network: Any = from_torch(module, dtype="float32")
    y = kernels(network, module)
    twin = copy.deepcopy(network)
    assert type(twin) is type(network)
    assert twin.calls == (0, 0)
    with torch.no_grad():
        module.features[0].weight.zero_()
    assert_close(kernels(twin, copy.deepcopy(twin)), y)
    kernels(network, module)
    assert twin.__dict__["_vgg_cuda_runtime"].dtype == "float32"
    kernels(copy.copy(network), module)


def test_pickles(tmp_path: Path) -> None:
    module = sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
    torch.save(from_torch(module), tmp_path / "m.pt")
    network: Any = torch.load(tmp_path / "m.pt", weights_only=False)
    kernels(network, module)


def test_threads_and_forks() -> None:
    module = vgg()
    network: Any = from_torch(module)
    network.refresh()
    results: list[Any] = []

    def work() -> None:
        with torch.inference_mode():
            results.extend(network(X) for _ in range(4))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 16
    assert all(torch.equal(y, results[0]) for y in results)
    assert network.calls == (16, 0)
    with network.__dict__["_vgg_cuda_runtime"].packed._lock:  # as if held by another thread
        child = os.fork()
        if child == 0:
            os._exit(0 if network.__dict__["_vgg_cuda_runtime"].packed._lock.acquire(False) else 1)
    assert os.waitpid(child, 0)[1] == 0
