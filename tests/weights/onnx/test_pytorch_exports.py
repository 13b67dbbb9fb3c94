"""ONNX files of PyTorch's two exporters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.onnx_graphs import assert_same, exported, images
from support.torch_vgg import TimmVGG, TorchVGG
from torch import nn

SMALL = "8 M 8 M 16 M 16 16 M 24 M"


class Headed(nn.Module):
    """Small features followed by ``end`` and a dense layer."""

    def __init__(self, end: Callable[[Any], Any], features: int = 24) -> None:
        super().__init__()
        self.features = TorchVGG(SMALL, hidden=8, num_classes=2).features
        self.end = end
        self.last = nn.Linear(features, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.end(self.features(x)))


def _mean_view(y: Any) -> Any:
    return nn.functional.adaptive_avg_pool2d(y, 1).view(y.size(0), -1)


def _mean_squeeze(y: Any) -> Any:
    return nn.functional.adaptive_avg_pool2d(y, 1).squeeze(-1).squeeze(-1)


# module, side of the images, dynamic axes, the network's only size
EXPORTS: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, ...], Any]] = {
    "torchvision": (lambda: TorchVGG(SMALL, hidden=8, num_classes=3), 224, (0,), (224, 224)),
    "torchvision-bn": (
        lambda: TorchVGG(SMALL, hidden=8, num_classes=3, batch_norm=True), 224, (0,), (224, 224)
    ),
    "torchvision-448": (lambda: TorchVGG(SMALL, hidden=8, num_classes=3), 448, (), None),
    "torchvision-64": (lambda: TorchVGG(SMALL, hidden=8, num_classes=3), 64, (0,), None),
    "torchvision-32": (lambda: TorchVGG(SMALL, hidden=8, num_classes=3), 32, (0,), None),
    "timm": (lambda: TimmVGG(SMALL, hidden=8, num_classes=3), 224, (0,), (224, 224)),
    "probabilities": (
        lambda: nn.Sequential(TorchVGG(SMALL, hidden=8, num_classes=3), nn.Softmax(-1)),
        224, (0,), (224, 224),
    ),
    "flatten": (lambda: Headed(nn.Flatten(), 24 * 6), (64, 96), (0,), (64, 96)),  # type: ignore[dict-item]
    "mean": (lambda: Headed(lambda y: y.mean((2, 3))), 64, (0, 2, 3), None),
    "mean-view": (lambda: Headed(_mean_view), 64, (0, 2, 3), None),
    "mean-squeeze": (lambda: Headed(_mean_squeeze), 64, (0,), None),
    "features": (lambda: TorchVGG(SMALL, hidden=8).features, 64, (0, 2, 3), None),
}  # fmt: skip

# The newer exporter takes seconds per model. The older one exports an adaptive pool only if its
# grid divides the image.
DYNAMO = ("torchvision-bn", "torchvision-64", "torchvision-32", "timm", "mean-view", "flatten")
CASES = [(name, False) for name in EXPORTS if name not in ("torchvision-64", "torchvision-32")]
CASES += [(name, True) for name in DYNAMO]
SLOW = ("timm", "flatten")  # of the newer exporter: make test reads them from the older one


@pytest.mark.parametrize(
    ("name", "dynamo"),
    [
        pytest.param(
            *(name, dynamo),
            id=f"{name}-{'dynamo' if dynamo else 'script'}",
            marks=[pytest.mark.slow] if dynamo and name in SLOW else [],
        )
        for name, dynamo in CASES
    ],
)
def test_pytorch_exports_are_read(tmp_path: Path, name: str, dynamo: bool) -> None:
    make, side, open_axes, only = EXPORTS[name]
    sides = side if isinstance(side, tuple) else (side, side)
    torch.manual_seed(0)
    module, x = make().eval(), images(2, 3, *sides)
    path = exported(
        module, tmp_path / "m.onnx", torch.from_numpy(x), dynamo=dynamo, open_axes=open_axes
    )
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    network = assert_same(path, x, expected)
    assert network.config.input_size == only
    assert network.activation == ("softmax" if name == "probabilities" else None)
    assert network.labels is None
    if only:
        with pytest.raises(ValueError, match=r"expected H from \d+ to \d+ and W from .*H = 32"):
            network(images(1, 3, 32, 32), layout="NCHW")
    other = images(1, 3, only[0] + 9, only[1] + 20) if only else images(1, 3, 96, 64)
    with torch.no_grad():
        expected = module(torch.from_numpy(other)).numpy()
    assert_same(path, other, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_exports_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    module = TorchVGG(SMALL, hidden=8, num_classes=3).to(dtype)
    path = exported(
        module, tmp_path / "m.onnx", torch.zeros(1, 3, 224, 224, dtype=dtype), dynamo=False
    )
    x = images(1, 3, 224, 224)
    with torch.no_grad():
        expected = module.float()(torch.from_numpy(x)).numpy()
    assert_same(path, x, expected)
