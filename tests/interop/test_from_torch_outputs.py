"""Modules of ``vgg_cuda.from_torch`` that return several tensors or begin with a max-pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from support.tolerance import assert_close
from support.torch_extractors import Collector, FeatureList, LayerGetter, Lpips
from support.torch_modules import Reader, block, sequential, torchvision_vgg
from torch import nn
from torch.utils._pytree import tree_leaves, tree_structure

from vgg_cuda import VGG, FallbackWarning
from vgg_cuda.interop.torch_module import from_torch, runtime

X = torch.randn(2, 3, 40, 33, generator=torch.Generator().manual_seed(5))
BOUND = 2e-5


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def check(module: nn.Module, x: torch.Tensor = X, network: Any = None) -> Any:
    """Compare every result of kernels with ``module``'s; return the accelerated module."""
    network = network or from_torch(module)
    before = network.calls.kernels
    found, expected = network(x), module(x.clone())
    assert network.why is None
    assert network.calls.kernels == before + 1
    assert tree_structure(found) == tree_structure(expected)
    for got, right in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        if not isinstance(right, torch.Tensor):
            assert got == right
            continue
        assert (got.shape, got.dtype) == (right.shape, right.dtype)
        assert_close(got, right, BOUND)
    return network


# ---- Modules as other packages write them ----


def test_lpips_slices() -> None:
    module = Lpips()
    network = check(module)
    for n in (1, 5):
        check(module, torch.rand(n, 3, 32, 48) * 2 - 1, network)
    for part in module.slices():  # two begin with a pool
        channels = next(m for m in part.modules() if isinstance(m, nn.Conv2d)).in_channels
        for size in (16, 13):
            check(part, torch.randn(2, channels, size, size))


def test_pool_before_a_network_of_one_size() -> None:
    layers = nn.MaxPool2d(2), *block(4, 8), nn.Flatten(), nn.Linear(8 * 6, 5)
    check(sequential(*layers), torch.randn(2, 4, 8, 12))


def test_timm_features_only() -> None:
    layers = torchvision_vgg(batch_norm=True).features
    pools = [n for n, layer in layers.named_children() if isinstance(layer, nn.MaxPool2d)]
    before = [str(int(n) - 1) for n in pools]  # timm takes the ReLU before each pool
    network = check(FeatureList(layers, (*before, pools[-1])))
    check(FeatureList(layers, (*before, pools[-1])), torch.randn(1, 3, 64, 64), network)


def test_torchvision_layer_getter() -> None:
    check(LayerGetter(torchvision_vgg().features, {"1": "first", "4": "pool", "8": "third"}))


def test_torchvision_feature_extractor() -> None:
    """Compare a ``GraphModule`` that returns intermediate nodes, as torchvision makes it."""
    graph = torch.fx.symbolic_trace(torchvision_vgg())
    nodes = {node.name: node for node in graph.graph.nodes}
    output = nodes.pop("output")
    wanted = {name: nodes[name] for name in ("features_3", "features_4", "classifier_1")}
    with graph.graph.inserting_before(output):
        graph.graph.output({**wanted, "logits": output.args[0]})
    graph.graph.erase_node(output)
    graph.recompile()
    check(graph.eval(), torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize("how", ["", "clone", "detach"])
@pytest.mark.parametrize("inplace", [False, True], ids=["", "in place"])
def test_style_transfer_loops(inplace: bool, how: str) -> None:
    """Compare convolutions' results: with ReLUs in place, PyTorch returns those after them."""
    module = Collector((0, 2, 4, 5, 11), how=how)
    for layer in module.model:
        if isinstance(layer, nn.ReLU):
            layer.inplace = inplace
    check(module)


def test_vgg_loss_calls_slices_one_after_another() -> None:
    features = torchvision_vgg().features
    ends = (2, 5, 7, 10)
    parts = [from_torch(features[a:b]) for a, b in zip((0, *ends), ends, strict=False)]
    x, y = X, X
    for part, begin, end in zip(parts, (0, *ends), ends, strict=False):
        x, y = part(x), features[begin:end](y)
        assert_close(x, y, BOUND)
        assert part.calls == (1, 0)


# ---- Kinds of results ----

RESULTS: dict[str, Callable[[Any, torch.Tensor], Any]] = {
    "list and constants": lambda m, x: [m.features(x), x.shape[0], None, "name", 1.5],
    "nested": lambda m, x: {"a": [y := m.features[0](x)], "b": (m.features[1](y), {"c": y})},
    "an earlier result": lambda m, x: (y := m.features[0](x), m.features[1](y))[0],
    "the input": lambda m, x: (x, m.features(x)),
    "logits and classes": lambda m, x: (y := m.fc(m.features(x).flatten(1)), y.softmax(1)),
    "logits and sigmoid": lambda m, x: (y := m.fc(m.features(x).flatten(1)), y.sigmoid()),
    "vectors and features": lambda m, x: (y := m.features(x), y.mean((2, 3))),
    "hidden": lambda m, x: (y := m.features(x).flatten(1), m.fc(y)),
}


@pytest.mark.parametrize("how", RESULTS)
def test_results(how: str) -> None:
    check(Reader(RESULTS[how]), torch.randn(2, 3, 32, 32))


def test_the_same_tensor_twice() -> None:
    module = Reader(lambda m, x: (y := m.features(x), y, y.clone()))
    network = check(module)
    first, second, copy = network(X)
    assert first is second
    first.zero_()
    assert copy.abs().sum() > 0


def test_results_in_place_through_a_view() -> None:
    def how(m: Any, x: torch.Tensor) -> Any:
        y = m.features(x)
        return y, y.flatten(1).relu_()

    with pytest.raises(ValueError, match="returns a tensor that is overwritten in place"):
        from_torch(Reader(how))


@pytest.mark.parametrize("folded", ["batch norm", "pool"])
def test_results_that_kernels_do_not_store(folded: str) -> None:
    pooled = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()).eval()
    layers = torchvision_vgg(batch_norm=True).features if folded == "batch norm" else pooled
    index = "0" if folded == "batch norm" else "1"
    text = f"cannot return the result of {index}: one kernel computes it and the batch norm or ReLU"
    with pytest.raises(ValueError, match=text):
        from_torch(LayerGetter(layers, {index: "inner", "2": "out"}))


# ---- DataParallel ----


def test_data_parallel() -> None:
    module = torchvision_vgg()
    network = check(nn.DataParallel(module))
    assert list(network.state_dict()) == [f"module.{name}" for name in module.state_dict()]
    one = nn.DataParallel(module)
    one.device_ids = [0]  # as on a GPU: its own forward would scatter the input
    network = from_torch(one)
    assert_close(network(X), module(X), BOUND)
    assert network.calls == (1, 0)
    one.device_ids = [0, 1]
    with pytest.raises(ValueError, match=r"expected one device, got 2; pass module\.module"):
        from_torch(one)


# ---- Batch norms that no convolution takes over ----


class Taken(nn.Module):
    """Layers in order, and the results of those at two positions."""

    def __init__(self, layers: list[nn.Module], position: int) -> None:
        super().__init__()
        self.layers, self.position = nn.ModuleList(layers), position
        self.eval()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        taken = []
        for position, layer in enumerate(self.layers):
            x = layer(x)
            if position in (self.position, len(self.layers) - 1):
                taken.append(x)
        return taken


def norm(smallest: float = 0.3) -> nn.Module:
    """Return a batch norm of 8 channels with scales from ``smallest`` to 1, and its numbers."""
    layer = nn.BatchNorm2d(8)
    for values, low, high in (
        (layer.running_mean, -1, 1), (layer.running_var, 0.5, 2), (layer.weight, smallest, 1),
        (layer.bias, -1, 1),
    ):  # fmt: skip
        assert values is not None
        values.detach().uniform_(low, high)
    return layer


def conv(channels: int = 8) -> nn.Module:
    return nn.Conv2d(channels, 8, 3, padding=1)


NORMS: dict[str, tuple[Callable[[], list[nn.Module]], set[int]]] = {
    # the positions are those whose results no kernel stores
    "before-a-convolution": (lambda: [conv(3), nn.ReLU(), norm(), conv(), nn.ReLU()], set()),
    "two": (lambda: [conv(3), nn.ReLU(), norm(), norm(), conv(), nn.ReLU()], {2}),
    "before-a-pool": (
        lambda: [conv(3), nn.ReLU(), norm(), nn.MaxPool2d(2), conv(), nn.ReLU()], {2},
    ),
    "negative-before-a-pool": (
        lambda: [conv(3), nn.ReLU(), norm(-1), nn.MaxPool2d(2), conv(), nn.ReLU()], set(),
    ),
    "around-a-pool": (
        lambda: [conv(3), nn.ReLU(), norm(), nn.MaxPool2d(2), norm(), conv(), nn.ReLU()], {2, 3},
    ),
    "negative-around-a-pool": (
        lambda: [conv(3), nn.ReLU(), norm(-1), nn.MaxPool2d(2), norm(), conv(), nn.ReLU()], set(),
    ),
    "folded-twice": (lambda: [conv(3), norm(), norm(), nn.ReLU(), norm(), conv()], {0, 1}),
    "folded-twice-without-relu": (lambda: [conv(3), norm(), norm(), conv(), nn.ReLU()], {0, 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_results_around_batch_norms(name: str) -> None:
    make, missing = NORMS[name]
    torch.manual_seed(3)
    layers = make()
    for position in range(len(layers) - 1):
        module = Taken(layers, position)
        if position in missing:
            with pytest.raises(ValueError, match=f"cannot return the result of layers.{position}"):
                from_torch(module)
        else:
            check(module)


# ---- Warning and report ----


def test_warning_and_report() -> None:
    module = Lpips()
    network: Any = from_torch(module)
    assert str(network.report()) == "no calls yet"
    network(X), network(X)
    given = X, X, X[:1].clone().requires_grad_()
    with torch.enable_grad(), pytest.warns(FallbackWarning) as seen:
        [network(x) for x in given]
    texts = [str(each.message) for each in seen]
    assert texts == [
        "Lpips: PyTorch runs this call, since a gradient is needed: parameters of slice1.0 require "
        "grad; call under torch.no_grad() or torch.inference_mode()",
        "Lpips: PyTorch runs this call, since a gradient is needed: the input requires grad; pass "
        "x.detach(), or call it under torch.no_grad()",
    ]
    assert {each.filename for each in seen} == {__file__}
    rows = network.report()
    assert [(row.calls, row.where) for row in rows] == [
        (2, "kernels"), (2, "original"), (1, "original"),
    ]  # fmt: skip
    assert rows[0].input == "[2, 3, 40, 33] float32 on cpu"
    assert rows[0].layers == ("5 convolutions, 2 max-pools; returns relu1_2, relu2_1, relu3_2")
    assert "torch.no_grad()" in str(rows).splitlines()[1]


def test_gradients_of_several_results() -> None:
    module = Lpips()
    network: Any = from_torch(module)
    found = []
    for one in (network, module):
        x = X.clone().requires_grad_()
        expected = pytest.warns(FallbackWarning) if one is network else nullcontext()
        with torch.enable_grad(), expected:
            sum(y.square().mean() for y in one(x).values()).backward()
        found.append(x.grad)
    assert torch.equal(*found)


@pytest.mark.emulator
def test_pools_and_outputs_on_gpu_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_emulator(weights: Any, *, device: str, dtype: str, arch: str | None) -> VGG:
        return VGG(weights, device="emulator", dtype=dtype)

    monkeypatch.setattr(runtime, "VGG", on_emulator)
    layers = torchvision_vgg("16 M 16 M 16").features[2:]
    module = LayerGetter(nn.Sequential(*layers), {"0": "pool", "2": "relu", "4": "last"})
    x = torch.randn(2, 16, 8, 12)
    for key, right in module(x).items():
        assert_close(from_torch(module)(x)[key], right, 3e-5)
