"""Modules that normalize images first, compared with PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.tolerance import assert_close
from support.torch_modules import block, sequential
from torch import nn

from vgg_cuda.interop.torch_module import from_torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

pytestmark = pytest.mark.filterwarnings("ignore::vgg_cuda.FallbackWarning")


class Start(nn.Module):
    """A network after ``start(self, x)``."""

    def __init__(self, start: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.start = start
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.std = nn.Parameter(torch.tensor(STD).view(3, 1, 1), requires_grad=False)
        self.net = sequential(block(3, 8), nn.Flatten(), nn.Linear(8 * 36, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(self.start(self, x))  # type: ignore[no-any-return]


def functional_normalize(module: Any, x: torch.Tensor) -> torch.Tensor:
    """torchvision.transforms.functional.normalize, as in its version 0.28."""
    x = x.clone()
    mean = torch.as_tensor(MEAN, dtype=x.dtype, device=x.device)
    std = torch.as_tensor(STD, dtype=x.dtype, device=x.device)
    if (std == 0).any():
        raise ValueError("std")
    return x.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))


STARTS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "buffers": lambda m, x: (x - m.mean) / m.std,
    "pixels": lambda m, x: (x / 255 - m.mean) / m.std,
    "torchvision": functional_normalize,
    "tf": lambda m, x: 2 * x - 1,
    "negative": lambda m, x: -(1 - x),
    "left": lambda m, x: m.std * (m.mean - x),
    "functions": lambda m, x: torch.div(torch.sub(x, m.mean), m.std).add(0.5).mul(2),
    "flip": lambda m, x: torch.rsub(x.flip(1), 1),
    "indices": lambda m, x: x[:, [2, 1, 0]] - m.mean,
    "all-indices": lambda m, x: x[:, torch.tensor([2, 1, 0]), :, :] - m.mean,
    "index-select": lambda m, x: x.index_select(1, torch.tensor([2, 1, 0])) * 2,
    "in-place": lambda m, x: (x + 0).mul_(2).add_(m.mean),
}


@pytest.mark.parametrize("name", STARTS)
def test_modules_that_normalize_match_pytorch(name: str) -> None:
    module = Start(STARTS[name]).eval()
    fast = from_torch(module)
    x = torch.rand(2, 3, 12, 12)
    for given in (x, x.to(memory_format=torch.channels_last)):
        was = given.clone()
        with torch.no_grad():
            y = fast(given)
            assert fast.why is None
            assert_close(y, module(given), what=name)
        assert torch.equal(given, was)


def test_changed_buffers_are_noticed() -> None:
    module = Start(STARTS["buffers"]).eval()
    fast = from_torch(module)
    x = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        fast(x)
        module.mean.add_(1)
        y = fast(x)
        assert fast.why is None
        assert_close(y, module(x))
        module.mean.data[0, 0] = 7  # a write that PyTorch does not count
        assert_close(fast(x), module(x))


def test_batch_norm_of_images_matches_pytorch() -> None:
    module = sequential(nn.BatchNorm2d(3), block(3, 8))
    fast = from_torch(module)
    x = torch.rand(2, 3, 12, 12)
    with torch.no_grad():
        assert_close(fast(x), module(x))
    assert fast.why is None


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (lambda m, x: x.sub_(m.mean), "clone it first"),
        (lambda m, x: x + x, "cannot run torch.Tensor.add"),
        (lambda m, x: 1 / x, "__rtruediv__"),
        (lambda m, x: x.flip(2), "a reversal of the channels"),
        (lambda m, x: x[:, [0, 2, 1]], "the channels in reverse"),
        (lambda m, x: x[:, 0:3], "the channels in reverse"),
        (lambda m, x: x * torch.ones(12, 12), "a number per channel"),
        (lambda m, x: (x - m.mean.double()).float(), "a tensor in torch.float32"),
        (lambda m, x: x / torch.zeros(()), "numbers other than 0"),
        (lambda m, x: torch.div(x, 2, rounding_mode="floor"), "torch.Tensor.div"),
        (lambda m, x: torch.relu(x) * 2, "cannot run torch.Tensor.mul"),
    ],
)
def test_other_starts_run_in_pytorch(start: Any, why: str) -> None:
    module = Start(STARTS["tf"]).eval()
    fast = from_torch(module)
    fast.start = module.start = start
    x = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        expected = module(x.clone())
        y = fast(x)
    assert fast.why is not None
    assert why in fast.why
    torch.testing.assert_close(y, expected, equal_nan=True)
