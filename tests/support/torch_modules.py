"""PyTorch modules that spell a VGG differently from torchvision, and some other networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from support.tolerance import assert_close
from support.torch_vgg import CONFIGS, TimmVGG, TorchVGG, _randomize
from torch import nn
from torch.nn import functional as F  # noqa: N812

SMALL = "8 8 M 16 M 16 16 M 16 M 24 M"


def narrow(name: str) -> str:
    """Return a published network's layers with a sixteenth of the channels."""
    return " ".join(w if w == "M" else str(int(w) // 16) for w in CONFIGS[name].split())


def torchvision_vgg(widths: str = SMALL, **options: Any) -> TorchVGG:
    return TorchVGG(widths, **({"hidden": 32, "num_classes": 10} | options))


def timm_vgg(widths: str = SMALL, **options: Any) -> TimmVGG:
    return TimmVGG(widths, **({"hidden": 32, "num_classes": 10} | options))


def sequential(*layers: nn.Module, seed: int = 0) -> nn.Sequential:
    network = nn.Sequential(*layers)
    _randomize(network, seed)
    return network.eval()


def block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)
    )


SEQUENTIALS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "one conv": (lambda: sequential(nn.Conv2d(3, 8, 3, padding=1)), (2, 3, 9, 7)),
    "conv bn": (lambda: sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)), (1, 3, 6, 6)),
    "one channel, same": (lambda: sequential(nn.Conv2d(1, 8, 3, padding="same")), (2, 1, 8, 8)),
    "four channels, odd sides": (lambda: sequential(block(4, 8), block(8, 16)), (3, 4, 13, 23)),
    "no conv bias": (lambda: sequential_without_bias(), (2, 3, 8, 8)),
    "nested, flatten, softmax": (
        lambda: sequential(
            nn.Sequential(block(3, 8), nn.Sequential(block(8, 16), nn.Identity())),
            nn.Flatten(),
            nn.Linear(16 * 64, 12),
            nn.Softmax(dim=1),
        ),
        (2, 3, 32, 32),
    ),
    "softmax of the last dimension": (
        lambda: sequential(block(3, 8), nn.Flatten(), nn.Linear(8 * 16, 5), nn.Softmax(dim=-1)),
        (3, 3, 8, 8),
    ),
    "sigmoid": (
        lambda: sequential(block(3, 8), nn.Flatten(), nn.Linear(8 * 16, 5), nn.Sigmoid()),
        (3, 3, 8, 8),
    ),
    "log-softmax": (
        lambda: sequential(block(3, 8), nn.Flatten(), nn.Linear(8 * 16, 5), nn.LogSoftmax(dim=1)),
        (3, 3, 8, 8),
    ),
    "batch norm after a ReLU": (
        lambda: sequential(
            block(3, 8),
            nn.BatchNorm2d(8),
            nn.Flatten(),
            nn.Linear(8 * 16, 5),
            nn.ReLU(),
            nn.BatchNorm1d(5),
            nn.Linear(5, 4),
        ),
        (3, 3, 8, 8),
    ),
    "batch norms before convolutions": (
        lambda: sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(8),
            block(8, 8),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 4, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(4),
        ),
        (2, 3, 9, 8),
    ),
    "flatten, not square": (
        lambda: sequential(
            block(3, 8), nn.Flatten(), nn.Linear(8 * 24, 9), nn.ReLU(), nn.Linear(9, 4)
        ),
        (2, 3, 12, 8),
    ),
    "flatten alone": (lambda: sequential(block(3, 8), nn.Flatten()), (2, 3, 12, 8)),
    "global average": (
        lambda: sequential(
            block(3, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7), nn.Dropout(0.5)
        ),
        (2, 3, 20, 14),
    ),
    "global average alone": (
        lambda: sequential(block(3, 16), nn.AdaptiveAvgPool2d((1, 1))),
        (2, 3, 20, 14),
    ),
    "average of 7 alone": (
        lambda: sequential(block(3, 16), nn.AdaptiveAvgPool2d((7, 7))),
        (2, 3, 20, 30),
    ),
    "average of 3": (
        lambda: sequential(
            block(3, 16), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(16 * 9, 7)
        ),
        (2, 3, 20, 14),
    ),
    "global maximum": (
        lambda: sequential(block(3, 16), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 7)),
        (2, 3, 20, 14),
    ),
    "every dropout": (
        lambda: sequential(
            block(3, 8),
            nn.Dropout2d(),
            nn.AlphaDropout(),
            nn.FeatureAlphaDropout(),
            nn.Dropout(),
            nn.Flatten(),
            nn.Dropout1d(),
            nn.Linear(8 * 16, 5),
        ),
        (2, 3, 8, 8),
    ),
    "rounding up, even sides": (
        lambda: sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True)),
        (2, 3, 16, 8),
    ),
    "dense layers of convolutions": (
        lambda: sequential(
            block(3, 8), nn.Conv2d(8, 12, 4), nn.ReLU(), nn.Conv2d(12, 5, 1), nn.Flatten()
        ),
        (2, 3, 8, 8),
    ),
}


def sequential_without_bias() -> nn.Sequential:
    layers = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU()]
    with torch.no_grad():
        layers[0].weight.mul_(3)
    return nn.Sequential(*layers).eval()


class Reader(nn.Module):
    """A module whose forward is a given function of the module and x."""

    def __init__(self, how: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__()
        self.features = nn.Sequential(block(3, 8), block(8, 16))
        self.fc = nn.Linear(16 * 64, 10)
        self.how = how
        _randomize(self, 0)
        self.eval()

    def forward(self, x: torch.Tensor) -> Any:
        return self.how(self, x)


FORWARDS: dict[str, Callable[[Any, torch.Tensor], Any]] = {
    "view": lambda m, x: m.fc((y := m.features(x)).view(y.size(0), -1)),
    "view of numbers": lambda m, x: m.fc(m.features(x).view(-1, 16 * 64)),
    "contiguous reshape": lambda m, x: m.fc(m.features(x).contiguous().reshape(x.shape[0], -1)),
    "torch.reshape": lambda m, x: m.fc(torch.reshape(m.features(x), (len(x.size()) - 3, -1))),
    "torch.flatten": lambda m, x: torch.softmax(m.fc(torch.flatten(m.features(x), 1)), 1),
    "flatten, softmax": lambda m, x: m.fc(m.features(x).flatten(1)).softmax(-1),
    "functional": lambda m, x: m.fc(
        F.dropout(
            F.max_pool2d(
                torch.relu(F.conv2d(m.features[0](x), m.features[1][0].weight, padding=1)), 2, 2
            ).flatten(start_dim=1),
            training=m.training,
        )
    ),
    "in place": lambda m, x: m.fc(
        m.features[1][2](m.features[1][0](m.features[0](x)).relu_()).flatten(1)
    ),
    "mean": lambda m, x: m.features(x).mean((2, 3)),
    "mean, keepdim": lambda m, x: m.features(x).mean([-1, -2], keepdim=True),
    "amax": lambda m, x: m.features(x).amax((2, 3)),
    "torch.amax, keepdim": lambda m, x: torch.amax(m.features(x), [-2, -1], keepdim=True),
    "a branch": lambda m, x: (
        m.fc(m.features(x).flatten(1)) if x.shape[-1] == 32 else m.features(x)
    ),
    "asks for dtype and device": lambda m, x: m.fc(
        m.features(x).flatten(1) if x.dtype == torch.float32 and x.device.type == "cpu" else x
    ),
}  # fmt: skip


class ConvMlp(nn.Module):
    """timm's ConvMlp, with its branch on the input's size."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.input_kernel_size = 7
        self.fc1 = nn.Conv2d(channels, hidden, 7)
        self.act1 = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.0)
        self.fc2 = nn.Conv2d(hidden, hidden, 1)
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        k = self.input_kernel_size
        if x.shape[-2] < k or x.shape[-1] < k:
            x = F.adaptive_avg_pool2d(x, (max(k, x.shape[-2]), max(k, x.shape[-1])))
        return self.act2(self.fc2(self.drop(self.act1(self.fc1(x)))))


class ClassifierHead(nn.Module):
    """timm's head: global_pool, drop, fc, flatten."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.drop = nn.Dropout(0.0)
        self.fc = nn.Linear(hidden, classes) if classes else nn.Identity()
        self.flatten = nn.Identity()

    def forward(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        x = self.drop(self.global_pool(x))
        return self.flatten(x) if pre_logits else self.flatten(self.fc(x))


class WholeTimm(nn.Module):
    """The VGG of timm/models/vgg.py: ``features``, ``pre_logits``, ``head``, three forwards."""

    def __init__(self, widths: str = SMALL, *, num_classes: int = 10) -> None:
        super().__init__()
        plain = torchvision_vgg(widths, batch_norm=True)
        self.features = plain.features
        self.pre_logits = ConvMlp(int(widths.split()[-2]), 32)
        self.head = ClassifierHead(32, num_classes)
        _randomize(self, 3)
        self.eval()

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        x = self.pre_logits(x)
        return self.head(x, pre_logits=pre_logits) if pre_logits else self.head(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


X = torch.randn(2, 3, 40, 33, generator=torch.Generator().manual_seed(5))


def original(network: Any, module: nn.Module, x: Any, why: str) -> Any:
    """Check that a call runs the original forward because of ``why``, with equal bits."""
    before = network.calls
    y = network(x)
    assert why in network.why
    assert network.calls == (before.kernels, before.original + 1)
    assert torch.equal(y, module(x))
    return y


def kernels(network: Any, module: nn.Module, x: torch.Tensor = X) -> Any:
    before = network.calls
    with torch.inference_mode():
        y, expected = network(x), module(x)
    assert network.why is None
    assert network.calls == (before.kernels + 1, before.original)
    assert_close(y, expected)
    return y
