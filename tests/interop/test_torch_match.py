"""Parts of a graph that are replaced: every spelling of a layer, and no other operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from support.torch_compiled import afresh, assert_like, compiled, counts, picture, reasons
from torch import nn

_afresh = pytest.fixture(autouse=True)(afresh)

C, K = 6, 5


def weights(*shape: int, seed: int = 1) -> torch.Tensor:
    return picture(*shape, seed=seed) * 0.3


W, B = weights(K, C, 3, 3), weights(K)
OTHERS = {
    shape: weights(*shape)
    for shape in (
        (4, 3, 3, 3),
        (C, 1, 3, 3),
        (4, C, 1, 1),
        (4, C, 5, 5),
        (4, C, 3, 1),
        (C, 4, 3, 3),
    )
}
DENSE, SHIFT = weights(7, C), weights(7)
MEAN, VARIANCE, GAMMA, BETA = weights(K), weights(K).square() + 0.1, weights(K), weights(K)


def conv(x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, W, B, padding=1)


def check(
    f: Callable[..., Any], *inputs: torch.Tensor, matched: int, why: str | None = None
) -> None:
    """Compare f with f compiled: their results, and their inputs after the call."""
    given = [[x.clone() for x in inputs] for _ in range(2)]
    with torch.no_grad():
        found, expected = compiled(f, fullgraph=True)(*given[0]), f(*given[1])
    pairs = zip(
        torch.utils._pytree.tree_leaves(found),
        torch.utils._pytree.tree_leaves(expected),
        strict=True,
    )
    for got, wanted in pairs:
        assert_like(got, wanted)
    for got, wanted in zip(*given, strict=True):
        assert_like(got, wanted)
    assert counts() == (matched, int(why is not None))
    assert list(reasons()) == ([] if why is None else [why])


# ---- Spellings ----

CONVOLUTIONS = {
    "F.conv2d": lambda x: F.conv2d(x, W, B, 1, 1),
    "torch.conv2d": lambda x: torch.conv2d(x, W, B, padding=(1, 1)),
    "no bias": lambda x: torch.conv2d(x, W, padding=1),
    "same": lambda x: F.conv2d(x, W, B, padding="same"),
    "all arguments": lambda x: F.conv2d(x, W, B, (1, 1), [1, 1], (1, 1), 1),
    "names": lambda x: F.conv2d(input=x, weight=W, bias=B, stride=(1,), padding=1, groups=1),
    "aten": lambda x: torch.ops.aten.conv2d.default(x, W, B, [1, 1], [1, 1]),
    "aten same": lambda x: torch.ops.aten.conv2d.padding(x, W, B, [1, 1], "same"),
}
RELUS = {
    "F.relu": F.relu,
    "in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "module": nn.ReLU(inplace=True),
    "aten": torch.ops.aten.relu.default,
    "aten in place": torch.ops.aten.relu_.default,
}
POOLS = {
    "F.max_pool2d": lambda x: F.max_pool2d(x, 2),
    "stride": lambda x: F.max_pool2d(x, (2, 2), stride=2),
    "torch.max_pool2d": lambda x: torch.max_pool2d(x, [2, 2], [2, 2], 0, 1, False),
    "module": nn.MaxPool2d(2, 2),
    "aten": lambda x: torch.ops.aten.max_pool2d.default(x, [2, 2], [2, 2]),
    "aten, no stride": lambda x: torch.ops.aten.max_pool2d.default(x, [2, 2]),
}
LINEARS = {
    "F.linear": lambda x: F.linear(x, DENSE, SHIFT),
    "names": lambda x: F.linear(x, weight=DENSE, bias=SHIFT),
    "no bias": lambda x: F.linear(x, DENSE),
    "aten": lambda x: torch.ops.aten.linear.default(x, DENSE, SHIFT),
}


@pytest.mark.parametrize("spelling", CONVOLUTIONS)
def test_convolutions(spelling: str) -> None:
    layer = CONVOLUTIONS[spelling]
    check(lambda x: F.max_pool2d(F.relu(layer(x)), 2), picture(2, C, 9, 8), matched=1)


@pytest.mark.parametrize("spelling", RELUS)
def test_relus(spelling: str) -> None:
    check(lambda x: F.max_pool2d(RELUS[spelling](conv(x)), 2), picture(2, C, 9, 8), matched=1)


@pytest.mark.parametrize("spelling", POOLS)
def test_pools(spelling: str) -> None:
    pool = POOLS[spelling]
    check(lambda x: (pool(F.relu(conv(x))), pool(x)), picture(2, C, 9, 8), matched=2)


@pytest.mark.parametrize("spelling", LINEARS)
def test_linears(spelling: str) -> None:
    check(lambda x: F.relu(LINEARS[spelling](x)), picture(3, C), matched=1)


@pytest.mark.parametrize("shape", [(C,), (2, 3, C), (2, 1, 3, C)], ids=str)
def test_dense_layers_of_any_rank(shape: tuple[int, ...]) -> None:
    check(lambda x: F.linear(x, DENSE, SHIFT), picture(*shape), matched=1)


@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
@pytest.mark.parametrize("bias", [None, B], ids=["", "bias"])
def test_batch_norms_are_folded(bias: torch.Tensor | None, affine: bool) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = F.conv2d(x, W, bias, padding=1)
        y = F.batch_norm(y, MEAN, VARIANCE, *(GAMMA, BETA) if affine else (), eps=1e-3)
        return F.max_pool2d(F.relu(y), 2)

    check(f, picture(2, C, 8, 8), matched=1)


# ---- Operations that do not match, or not together ----

UNMATCHED = {
    "padding 0": lambda x: F.conv2d(x, W),
    "padding 2": lambda x: F.conv2d(x, W, padding=2),
    "valid": lambda x: F.conv2d(x, W, padding="valid"),
    "stride 2": lambda x: F.conv2d(x, W, stride=2, padding=1),
    "stride (1, 2)": lambda x: F.conv2d(x, W, stride=(1, 2), padding=1),
    "dilation": lambda x: F.conv2d(x, W, padding=2, dilation=2),
    "dilation and same": lambda x: F.conv2d(x, W, padding="same", dilation=2),
    "groups": lambda x: F.conv2d(x, OTHERS[4, 3, 3, 3], padding=1, groups=2),
    "depthwise": lambda x: F.conv2d(x, OTHERS[C, 1, 3, 3], padding=1, groups=C),
    "1x1": lambda x: F.conv2d(x, OTHERS[4, C, 1, 1], padding=1),
    "5x5": lambda x: F.conv2d(x, OTHERS[4, C, 5, 5], padding="same"),
    "3x1": lambda x: F.conv2d(x, OTHERS[4, C, 3, 1], padding=1),
    "transposed": lambda x: F.conv_transpose2d(x, OTHERS[C, 4, 3, 3], padding=1),
    "computed weights": lambda x: F.conv2d(x, W * 2, B, padding=1),
    "pool 3": lambda x: F.max_pool2d(x, 3),
    "pool with stride 1": lambda x: F.max_pool2d(x, 2, stride=1),
    "padded pool": lambda x: F.max_pool2d(x, 2, padding=1),
    "dilated pool": lambda x: F.max_pool2d(x, 2, dilation=2),
    "ceil": lambda x: F.max_pool2d(x, 2, ceil_mode=True),
    "indices": lambda x: F.max_pool2d(x, 2, return_indices=True),
    "average": lambda x: F.avg_pool2d(x, 2),
    "bilinear": lambda x: F.relu(x) * F.relu6(x),
    "weights of x": lambda x: F.linear(x.mean((2, 3)), DENSE * 1),
}  # fmt: skip


@pytest.mark.parametrize("name", UNMATCHED)
def test_other_operations_are_unchanged(name: str) -> None:
    check(UNMATCHED[name], picture(2, C, 9, 8), matched=0, why="nothing matched")


def used_twice(x: torch.Tensor) -> Any:
    y = conv(x)
    return F.relu(y) + y


def relu_in_place_of_a_used_value(x: torch.Tensor) -> Any:
    y = conv(x)
    F.relu_(y)
    return y * 2, y


def relu_in_place_of_a_view(x: torch.Tensor) -> Any:
    y = conv(x)
    y[:, :2].relu_()
    return F.max_pool2d(y, 2)


def returned_before_the_pool(x: torch.Tensor) -> Any:
    y = F.relu(conv(x))
    return y, F.max_pool2d(y, 2)


def pool_before_relu(x: torch.Tensor) -> Any:
    return F.relu(F.max_pool2d(conv(x), 2))


def input_written_in_between(x: torch.Tensor) -> Any:
    y = conv(x)
    x.add_(1)
    return F.max_pool2d(F.relu(y), 2) + x.sum()


def input_written_before(x: torch.Tensor) -> Any:
    x.mul_(2)
    return F.relu(conv(x))


def relu_in_place_of_an_input(x: torch.Tensor) -> Any:
    return conv(x.relu_())


def convolution_between(x: torch.Tensor) -> Any:
    y, z = conv(x), conv(x)
    return F.relu(y), F.relu(z)


def relu_twice(x: torch.Tensor) -> Any:
    return F.relu(F.relu(conv(x)))


def other_operators_in_between(x: torch.Tensor) -> Any:
    return F.max_pool2d(F.relu(conv(x) + 1), 2)


def view_of_the_result(x: torch.Tensor) -> Any:
    y = F.relu(conv(x))
    z = y.flatten(1)
    z.add_(1)
    return y, z


def result_written(x: torch.Tensor) -> Any:
    y = F.relu(conv(x))
    y.add_(1)
    return F.max_pool2d(y, 2)


def training_batch_norm(x: torch.Tensor) -> Any:
    return F.relu(F.batch_norm(conv(x), MEAN.clone(), VARIANCE.clone(), training=True))


def two_batch_norms(x: torch.Tensor) -> Any:
    y = F.batch_norm(conv(x), MEAN, VARIANCE)
    return F.relu(F.batch_norm(y, VARIANCE, VARIANCE))


def batch_norm_after_relu(x: torch.Tensor) -> Any:
    return F.batch_norm(F.relu(conv(x)), MEAN, VARIANCE)


def computed_batch_norm(x: torch.Tensor) -> Any:
    return F.batch_norm(conv(x), MEAN + 1, VARIANCE + 1)


def values_as_its_own_weights(x: torch.Tensor) -> Any:
    return F.conv2d(conv(x), W[:, :K].contiguous(), padding=1)


TOGETHER: dict[Callable[..., Any], int] = {
    used_twice: 1,
    relu_in_place_of_a_used_value: 1,
    relu_in_place_of_a_view: 2,
    returned_before_the_pool: 2,
    pool_before_relu: 1,
    input_written_in_between: 2,
    input_written_before: 1,
    relu_in_place_of_an_input: 1,
    convolution_between: 2,
    relu_twice: 1,
    other_operators_in_between: 2,
    view_of_the_result: 1,
    result_written: 2,
    training_batch_norm: 1,
    two_batch_norms: 1,
    batch_norm_after_relu: 1,
    computed_batch_norm: 1,
    values_as_its_own_weights: 1,
}


@pytest.mark.parametrize("f", TOGETHER, ids=lambda f: f.__name__)
def test_fused_operations(f: Callable[..., Any]) -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        torch._dynamo.utils.counters.clear()
        check(f, picture(2, C, 9, 8).to(memory_format=layout), matched=TOGETHER[f])


def test_weights_as_inputs() -> None:
    check(lambda x, w: F.relu(F.conv2d(x, w, padding=1)), picture(2, C, 6, 6), W, matched=1)


def test_weights_written_by_the_graph() -> None:
    def f(x: torch.Tensor, w: torch.Tensor) -> Any:
        y = F.conv2d(x, w, padding=1)
        w.mul_(2)
        return y, F.conv2d(x, w, padding=1)

    check(f, picture(2, C, 6, 6), W, matched=2)


# ---- Networks with parts that match ----


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 5, stride=2, padding=2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(12) for _ in range(3))
        self.first = nn.Conv2d(12, 12, 3, padding=1, bias=False)
        self.second = nn.Conv2d(12, 12, 3, padding="same")
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.grouped = nn.Conv2d(12, 20, 3, padding=1, groups=2)
        self.reflected = nn.Conv2d(20, 20, 3, padding=1, padding_mode="reflect")
        self.dilated = nn.Conv2d(20, 17, 3, padding=2, dilation=2)
        self.wide = nn.Conv2d(17, 33, 3, padding=1)
        self.up = nn.ConvTranspose2d(33, 9, 2, stride=2)
        self.head = nn.Linear(9, 4)
        generator = torch.Generator().manual_seed(3)
        for norm in self.norms:
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norms[0](self.stem(x)))
        x = x + F.relu(self.norms[1](self.first(x)), inplace=True)
        x = F.relu_(self.norms[2](self.second(x)) + x)
        x = F.silu(self.depthwise(x)) * x
        x = self.dilated(F.relu(self.reflected(F.relu(self.grouped(x)))))
        x = F.max_pool2d(self.wide(x).relu(), 2)
        return self.head(self.up(x).amax((2, 3)))


@pytest.fixture
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.usefixtures("_seeded")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["", "cl"])
def test_network_with_parts_that_match(layout: torch.memory_format) -> None:
    net = Residual().eval()
    x = picture(2, 3, 32, 24).to(memory_format=layout)
    check(net, x, matched=4)


@pytest.mark.usefixtures("_seeded")
def test_gradients_of_a_partly_matched_network() -> None:
    net = Residual().eval()
    x, run = picture(2, 3, 32, 24), compiled(net)
    found = []
    for each in (run, net):
        net.zero_grad()
        each(x).square().sum().backward()
        found.append([p.grad.clone() for p in net.parameters()])
    for got, expected in zip(*found, strict=True):
        assert torch.equal(got, expected)


# ---- Inputs at run time ----


def test_image_without_a_batch() -> None:
    check(lambda x: F.relu(conv(x)), picture(C, 8, 8), matched=1, why="input of rank 3")


def test_pool_of_an_empty_image() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x[:, :, :0], 2)

    with pytest.raises(RuntimeError):
        check(f, picture(1, C, 4, 4), matched=1)


@pytest.mark.parametrize("view", ["sliced", "expanded", "flipped", "permuted", "negative"])
def test_views_as_inputs(view: str) -> None:
    x = picture(2, C, 8, 16)
    x = {
        "sliced": x[..., 1::2],
        "expanded": x[:, :1, :, ::2].expand(2, C, 8, 8),
        "flipped": x.flip(3)[..., :8],
        "permuted": picture(8, C, 8, 2).permute(3, 1, 0, 2),
        "negative": torch._neg_view(x[..., :8]),
    }[view]
    f = lambda x: F.max_pool2d(F.relu(conv(x)), 2)  # noqa: E731
    with torch.no_grad():
        assert_like(compiled(f)(x), f(x))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_propagate(value: float) -> None:
    x = picture(1, C, 9, 9)
    x[0, 0, 4, 4] = value
    f = lambda x: conv(x)  # noqa: E731
    with torch.no_grad():
        got, expected = compiled(f)(x), f(x)
    assert torch.equal(got.isfinite(), expected.isfinite())
