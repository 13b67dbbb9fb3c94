"""``torch.compile(model, backend="vgg_cuda")`` compared with PyTorch, on whole networks."""

from __future__ import annotations

import gc
import runpy
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import entry_points
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from support.tolerance import assert_close
from support.torch_compiled import afresh, assert_like, compiled, counts, picture, reasons
from support.torch_vgg import CONFIGS, TimmVGG, TorchVGG
from torch import nn
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode

from vgg_cuda.interop import torch_cache, torch_compile

_afresh = pytest.fixture(autouse=True)(afresh)

CL = torch.channels_last


def narrow(name: str) -> str:
    """Return the network's layers with an eighth of the channels."""
    words = CONFIGS[name].split()
    return " ".join(word if word == "M" else str(int(word) // 8) for word in words)


SMALL = "8 M 16 16 M 24 M"
CONVOLUTIONS = 4
PARTS = CONVOLUTIONS + 3


def network(name: str = SMALL, batch_norm: bool = False, seed: int = 0) -> TorchVGG:
    return TorchVGG(name, num_classes=10, hidden=64, batch_norm=batch_norm, seed=seed)


# ---- Whole networks ----


@pytest.mark.parametrize("batch_norm", [False, True], ids=["", "bn"])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_published_networks(name: str, batch_norm: bool) -> None:
    model, x = network(narrow(name), batch_norm), picture(2, 3, 40, 33)
    assert_like(compiled(model)(x), model(x))
    assert counts() == (sum(word != "M" for word in CONFIGS[name].split()) + 3, 0)


@torch.no_grad()
def test_timm_network() -> None:
    model, x = TimmVGG(narrow("vgg11"), num_classes=10, hidden=32), picture(2, 3, 64, 64)
    assert_like(compiled(model)(x), model(x))
    assert counts() == (8 + 1, 0)


@pytest.mark.parametrize("dynamic", [None, True], ids=["automatic", "dynamic"])
@torch.no_grad()
def test_batches_change(dynamic: bool | None) -> None:
    model = network()
    run = compiled(model, dynamic=dynamic)
    for batch in (2, 1, 3, 5):
        x = picture(batch, 3, 32, 32, seed=batch)
        assert_like(run(x), model(x))
    # automatic: one graph for the first size, one for all others, one for a batch of 1
    assert counters["stats"]["unique_graphs"] <= 3
    assert counts() == (PARTS * counters["stats"]["unique_graphs"], 0)


@torch.no_grad()
def test_sizes_change() -> None:
    model = network().features
    run = compiled(model, dynamic=True)
    for side in (32, 47, 64, 33):
        x = picture(2, 3, side, 96 - side)
        assert_like(run(x), model(x))
    assert counters["stats"]["unique_graphs"] == 1
    assert counts() == (CONVOLUTIONS, 0)


@torch.no_grad()
def test_batch_marked_dynamic() -> None:
    model, x = network(), picture(3, 3, 32, 32)
    torch._dynamo.mark_dynamic(x, 0)
    run = compiled(model)
    assert_like(run(x), model(x))
    x = picture(6, 3, 32, 32)
    assert_like(run(x), model(x))
    assert counts() == (PARTS, 0)


@torch.no_grad()
def test_empty_batch_runs_in_pytorch() -> None:
    model, x = network(), picture(0, 3, 32, 32)
    assert_like(compiled(model)(x), model(x))
    assert reasons() == {"an empty batch": 1}


def tapped(features: nn.Sequential, taps: tuple[int, ...]) -> Callable[..., Any]:
    def run(x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for i, module in enumerate(features):
            x = module(x)
            if i in taps:
                found.append(x)
        return found

    return run


@pytest.mark.parametrize(
    "layout", [torch.contiguous_format, CL], ids=["contiguous", "channels_last"]
)
@pytest.mark.parametrize("weights", [torch.contiguous_format, CL], ids=["", "filters"])
@torch.no_grad()
def test_features_have_pytorchs_memory_format(layout: Any, weights: Any) -> None:
    """Compare formats before and after activations and pools, down to one pixel."""
    model = network("4 2 M 6 M 5 M").to(memory_format=weights)
    taps = tapped(model.features, (0, 1, 3, 4, 5, 7, 8, 10))
    run = compiled(taps)
    for shape in ((2, 3, 16, 16), (1, 3, 8, 8), (1, 3, 8, 40)):
        x = picture(*shape).to(memory_format=layout)
        for got, expected in zip(run(x), taps(x), strict=True):
            assert_like(got, expected)
    assert counts()[1] == 0


@pytest.mark.parametrize("inplace", [False, True], ids=["", "in place"])
@torch.no_grad()
def test_ambiguous_memory_formats(inplace: bool) -> None:
    """A tensor of one channel is channels_last and contiguous; later results may be either."""
    model = network("4 1 6").features
    for module in model:
        if isinstance(module, nn.ReLU):
            module.inplace = inplace
    run = compiled(model)
    for layout in (torch.contiguous_format, CL):
        x = picture(2, 3, 8, 8).to(memory_format=layout)
        assert_like(run(x), model(x))
    assert reasons() == {"an ambiguous memory format": 1}


# ---- Modes ----


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_gradients(mode: Callable[[], AbstractContextManager[Any]]) -> None:
    model, x = network(), picture(2, 3, 32, 32)
    with mode():
        assert_like(compiled(model)(x), model(x))
    assert counts() == (PARTS, 0)


@pytest.mark.parametrize("batch_norm", [False, True], ids=["", "bn"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_gradients_equal_pytorchs(training: bool, batch_norm: bool) -> None:
    model, reference = (network(batch_norm=batch_norm).train(training) for _ in range(2))
    run, found = compiled(model), []
    for each in (run, reference):
        torch.manual_seed(0)  # for dropout
        x = picture(4, 3, 32, 32).requires_grad_()
        y = each(x)
        y.square().sum().backward()
        found.append((y, x.grad))
    assert_like(found[0][0], found[1][0])
    assert_close(found[0][1], found[1][1])
    for (name, got), (_, expected) in zip(
        model.named_parameters(), reference.named_parameters(), strict=True
    ):
        assert_close(got.grad, expected.grad, what=name)
    for (name, got), (_, expected) in zip(
        model.named_buffers(), reference.named_buffers(), strict=True
    ):
        assert_close(got, expected, what=name)
    assert reasons() == {"a gradient is needed": 1}


@torch.no_grad()
def test_training_network_without_gradients() -> None:
    """Batch norms use the batch's statistics, and dropout is active."""
    model, reference = (network(batch_norm=True).train() for _ in range(2))
    x, run = picture(4, 3, 32, 32), compiled(model)
    for _ in range(2):
        torch.manual_seed(0)
        got = run(x)
        torch.manual_seed(0)
        assert_like(got, reference(x))
    for (name, got), (_, expected) in zip(
        model.named_buffers(), reference.named_buffers(), strict=True
    ):
        assert_close(got, expected, what=name)


def test_eval_after_train() -> None:
    model, x = network(batch_norm=True), picture(2, 3, 32, 32)
    run = compiled(model)
    for training in (True, False, True, False):
        model.train(training)
        with torch.no_grad():
            got = run(x)
        if not training:
            with torch.no_grad():
                assert_like(got, model(x))


def test_gradient_of_the_input_only() -> None:
    model = network().requires_grad_(False)
    run, found = compiled(model), []
    for each in (run, model):
        x = picture(2, 3, 32, 32).requires_grad_()
        each(x).sum().backward()
        found.append(x.grad)
    assert_close(*found)
    assert reasons() == {"a gradient is needed": 1}


def test_frozen_part_of_a_training_network() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = network().features.requires_grad_(False)
            self.scale = nn.Parameter(torch.ones(24, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.features(x) * self.scale).square().mean()

    net, x = Net(), picture(2, 3, 32, 32)
    gradients = []
    for run in (compiled(net), net):
        net.scale.grad = None
        run(x).backward()
        gradients.append(net.scale.grad)
    assert_close(*gradients)
    assert counts() == (CONVOLUTIONS, 0)


def test_no_grad_inside_the_graph() -> None:
    model, x = network().features, picture(2, 3, 32, 32)

    def run(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            y = model(x)
        return (y * scale).sum()

    scale = torch.ones((), requires_grad=True)
    compiled(run, fullgraph=True)(x, scale).backward()
    assert_close(scale.grad, model(x).detach().sum())
    assert counts() == (CONVOLUTIONS, 0)


@pytest.mark.parametrize("inside", [False, True], ids=["around", "inside"])
@torch.no_grad()
def test_autocast_runs_in_pytorch(inside: bool) -> None:
    model, x = network().features, picture(2, 3, 32, 32)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16)

    def forward(x: torch.Tensor) -> torch.Tensor:
        with autocast if inside else nullcontext():
            return model(x)

    with nullcontext() if inside else autocast:
        got, expected = compiled(forward)(x), forward(x)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, expected)
    assert reasons() == {"autocast is on": 1}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_other_dtypes_run_in_pytorch(dtype: torch.dtype) -> None:
    model, x = network().to(dtype), picture(2, 3, 32, 32).to(dtype)
    assert torch.equal(compiled(model)(x), model(x))
    assert reasons() == {f"{dtype} on cpu": 1}


@torch.no_grad()
def test_graph_breaks() -> None:
    model, x = network(), picture(2, 3, 32, 32)

    def forward(x: torch.Tensor) -> torch.Tensor:
        x = model.features[:3](x)
        torch._dynamo.graph_break()
        x = model.features[3:6](x)  # ends at a convolution, before its ReLU
        torch._dynamo.graph_break()
        x = model.features[6:](x)
        torch._dynamo.graph_break()
        return model.classifier(torch.flatten(model.avgpool(x), 1))

    assert_like(compiled(forward)(x), model(x))
    assert counts() == (PARTS + 1, 0)  # the pool after the separate ReLU is a part, too
    assert counters["stats"]["unique_graphs"] == 4


@torch.no_grad()
def test_frozen_weights_are_attributes() -> None:
    model, x = network(batch_norm=True), picture(2, 3, 32, 32)
    with torch._dynamo.config.patch(prepare_freezing=True):
        run = compiled(model)
        assert_like(run(x), model(x))
        model.features[0].weight.mul_(2)
        assert_like(run(x), model(x))
    assert counts() == (PARTS, 0)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@torch.no_grad()
def test_transforms_run_in_pytorch() -> None:
    model, x = network().features, picture(3, 2, 3, 32, 32)
    assert_like(compiled(torch.vmap(model))(x), torch.vmap(model)(x))
    _, derivative = torch.func.jvp(model, (x[0],), (x[1],))
    got = compiled(lambda x, t: torch.func.jvp(model, (x,), (t,)))(x[0], x[1])
    assert_close(got[1], derivative)


@torch.no_grad()
def test_modes_that_follow_operators() -> None:
    model, x = network(), picture(2, 3, 32, 32)
    run = compiled(lambda x: model(x))
    run(x)
    totals = []
    for each in (run, model):
        with FlopCounterMode(display=False) as flops:
            each(x)
        totals.append(flops.get_total_flops())
    assert totals[0] == totals[1] > 0


def test_subclasses_of_tensors_run_in_pytorch() -> None:
    class Tagged(torch.Tensor):
        pass

    model, x = network(), picture(2, 3, 32, 32).as_subclass(Tagged)
    with torch.no_grad():
        got = compiled(model)(x)
        assert_close(got, model(x))
    assert type(got) is Tagged


# ---- Weights that change ----


def change_in_place(model: TorchVGG) -> None:
    model.features[0].weight.mul_(2)


def change_a_batch_norm(model: TorchVGG) -> None:
    model.features[1].running_var.mul_(3)


def change_by_loading(model: TorchVGG) -> None:
    model.load_state_dict(network(batch_norm=True, seed=5).state_dict())


def change_by_assigning(model: TorchVGG) -> None:
    state = {name: tensor.clone() + 0.01 for name, tensor in model.state_dict().items()}
    model.load_state_dict(state, assign=True)


def change_of_storage(model: TorchVGG) -> None:
    for each in model.parameters():
        each.data = each.data * 0.9


def change_by_an_optimizer(model: TorchVGG) -> None:
    with torch.enable_grad():
        model(picture(1, 3, 32, 32)).square().sum().backward()
    torch.optim.SGD(model.parameters(), lr=1e-4).step()


def change_by_a_fused_optimizer(model: TorchVGG) -> None:
    for each in model.parameters():
        each.grad = torch.ones_like(each)
    torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True).step()


def change_through_data(model: TorchVGG) -> None:
    for each in model.parameters():
        each.data.mul_(0.9)
    torch_cache.refresh()


CHANGES = [
    change_in_place, change_a_batch_norm, change_by_loading, change_by_assigning,
    change_of_storage, change_by_an_optimizer, change_by_a_fused_optimizer, change_through_data,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@torch.no_grad()
def test_changed_weights_are_noticed(change: Callable[[TorchVGG], None]) -> None:
    model, x = network(batch_norm=True), picture(2, 3, 32, 32)
    run = compiled(model)
    before = run(x)
    change(model)
    after = model(x)
    assert_like(run(x), after)
    assert float((after - before).norm() / before.norm()) > 1e-3
    assert counts()[1] == 0


@torch.inference_mode()
def test_weights_made_in_inference_mode() -> None:
    model, x = network(), picture(2, 3, 32, 32)
    run = compiled(model)
    assert_like(run(x), model(x))
    model.features[0].weight.mul_(2)
    assert_like(run(x), model(x))
    assert counts()[1] == 0


@torch.no_grad()
def test_swapped_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
    model, x = network(batch_norm=True), picture(1, 3, 32, 32)
    run = compiled(model)
    run(x)
    model.load_state_dict(network(batch_norm=True, seed=5).state_dict())
    assert_like(run(x), model(x))
    model.double().float()
    assert_like(run(x), model(x))
    assert counts()[1] == 0


@torch.no_grad()
def test_packed_weights_are_freed_with_the_model() -> None:
    torch_cache.refresh()
    model = network(batch_norm=True)
    run = compiled(model)
    run(picture(2, 3, 32, 32))
    assert len(torch_cache._cache) == PARTS
    del model, run
    torch._dynamo.reset()
    gc.collect()
    assert len(torch_cache._cache) == 0


# ---- Threads, options ----


@torch.no_grad()
def test_threads() -> None:
    model = network(batch_norm=True)
    run = compiled(model)
    inputs = [picture(2, 3, 32, 32, seed=i) for i in range(4)]
    expected = [model(x) for x in inputs]
    run(inputs[0])
    found: dict[int, list[torch.Tensor]] = {i: [] for i in range(4)}

    def work(i: int) -> None:
        with torch.no_grad():
            for _ in range(5):
                found[i].append(run(inputs[i]))
        with torch.enable_grad():
            run(inputs[i])

    threads = [Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, outputs in found.items():
        assert len(outputs) == 5
        for y in outputs:
            assert_like(y, expected[i])
    assert reasons() == {"a gradient is needed": 4}
    assert counts()[1] == 4


def test_backend_is_an_entry_point() -> None:
    assert "vgg_cuda" in torch._dynamo.list_backends(exclude_tags=())
    (entry,) = entry_points(group="torch_dynamo_backends", name="vgg_cuda")
    assert entry.load() is torch_compile.backend


@pytest.mark.slow
def test_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = Path(__file__).parents[2] / "examples" / "torch_compile.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--size", "32", "--runs", "1"])
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    assert "VGG-16: {'matched': 16, 'fallback': 0}" in printed
    assert "residual: {'matched': 3, 'fallback': 0}" in printed


@torch.no_grad()
def test_mode_has_no_effect() -> None:
    model, x = network().features, picture(2, 3, 32, 32)
    assert_like(compiled(model, mode="reduce-overhead")(x), model(x))
    assert counts() == (CONVOLUTIONS, 0)


def test_graph_without_matches_is_unchanged() -> None:
    assert_close(compiled(torch.sin)(torch.ones(3)), torch.ones(3).sin())
    assert counts() == (0, 1)
    assert reasons() == {"nothing matched": 1}


@torch.no_grad()
def test_pytorchs_errors_are_raised() -> None:
    layer = nn.Conv2d(4, 8, 3, padding=1)
    with pytest.raises(RuntimeError):
        compiled(layer)(picture(1, 3, 8, 8))
    run = compiled(lambda x: F.max_pool2d(F.relu(layer(x)), 2), dynamic=True)
    run(picture(1, 4, 8, 8))
    with pytest.raises(RuntimeError, match="Output size is too small"):
        run(picture(1, 4, 1, 8))
