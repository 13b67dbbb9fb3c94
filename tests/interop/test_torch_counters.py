"""Counters of ``torch.compile(backend="vgg_cuda")``: unmatched operations, and recompilations."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from support.torch_compiled import afresh, assert_like, compiled, counts, picture
from support.torch_modules import block
from torch import nn
from torch._dynamo.utils import counters

from vgg_cuda import from_torch

_afresh = pytest.fixture(autouse=True)(afresh)

CONV = nn.Conv2d(3, 8, 3, padding=1).eval()
RELU = "relu: expected it right after a matched layer whose result nothing else uses"
EXPECTED = "conv2d: expected 3x3, stride 1, padding 1, dilation 1 and groups 1, got"

UNMATCHED: dict[str, tuple[Any, list[str]]] = {
    "all matched": (nn.Sequential(CONV, nn.ReLU(), nn.Flatten(), nn.Dropout()).eval(), []),
    "stride": (
        nn.Sequential(CONV, nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()),
        [f"{EXPECTED} 3x3, stride (2, 2), padding (1, 1), dilation (1, 1), groups 1", RELU],
    ),
    "pools": (
        nn.Sequential(CONV, nn.MaxPool2d(3, 1), nn.AvgPool2d(2)),
        [
            "max_pool2d: expected 2x2, stride 2, got kernel_size 3, stride 1, padding 0, "
            "dilation 1, ceil_mode False, return_indices False",
            "avg_pool2d: no kernel",
        ],
    ),
    "a batch norm after a ReLU": (
        nn.Sequential(CONV, nn.ReLU(), nn.BatchNorm2d(8)).eval(),
        ["batch_norm: expected it right after a convolution whose result nothing else uses"],
    ),
    "weights": (
        lambda x: F.conv2d(x, CONV.weight * 2, padding=1),
        ["mul: no kernel", "conv2d: its weights are computed in the graph"],
    ),
}


@pytest.mark.parametrize("case", UNMATCHED)
@torch.no_grad()
def test_unmatched_operations(case: str) -> None:
    module, expected = UNMATCHED[case]
    x = picture(2, 3, 8, 8)
    assert_like(compiled(module)(x), module(x))
    assert dict(counters["vgg_cuda_unmatched"]) == dict.fromkeys(expected, 1)


def _local_module() -> nn.Module:
    class Local(nn.Module):
        """A local class whose forward makes a named tuple, as LPIPS does."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = block(3, 8)

        def forward(self, x: torch.Tensor) -> Any:
            result = namedtuple("Result", ["relu", "pool"])
            y = self.layers[:2](x)
            return result(y, self.layers[2](y))

    return Local().eval()


@torch.no_grad()
def test_local_classes_do_not_recompile() -> None:
    module = compiled(_local_module())
    for _ in range(3):
        module(picture(2, 3, 8, 8))
    assert counters["stats"]["unique_graphs"] == 1
    assert counters["frames"]["total"] == 1
    assert not counters["graph_break"]


@torch.no_grad()
def test_accelerated_local_classes_compile_once_each() -> None:
    """Check more classes than torch.compile compiles one code object for."""
    n = torch._dynamo.config.recompile_limit + 2
    x = picture(1, 3, 8, 8)
    for module in [_local_module() for _ in range(n)]:
        run = compiled(from_torch(module))
        run(x)
        run(x)
    assert counters["stats"]["unique_graphs"] == counters["frames"]["total"] == n
    assert counts() == (2 * n, 0)
