"""PyTorch modules like torchvision's and timm's VGGs, with the same tree of names.

torchvision needs its compiled operators even for these classes, and those need a matching torch.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

CONFIGS = {  # torchvision's spelling, independent of the package's
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


# Without PyTorch's own random weights, which _randomize replaces: they take seconds.
Conv2d = partial(nn.utils.skip_init, nn.Conv2d)
Linear = partial(nn.utils.skip_init, nn.Linear)


def _uniform(rng: np.random.Generator, like: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return torch.from_numpy(rng.uniform(low, high, tuple(like.shape)).astype(np.float32))


def _features(name: str, batch_norm: bool) -> tuple[nn.Sequential, int]:
    """Return the convolutional part, and the channels of its last layer."""
    layers: list[nn.Module] = []
    channels = 3
    for word in CONFIGS.get(name, name).split():
        if word == "M":
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers.append(Conv2d(channels, int(word), 3, padding=1))
        channels = int(word)
        if batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU(inplace=False))
    return nn.Sequential(*layers), channels


@torch.no_grad()
def _randomize(network: nn.Module, seed: int) -> None:
    """Set He-scaled weights, and biases and batch norms that are not neutral."""
    rng = np.random.default_rng(seed)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            values = rng.standard_normal(tuple(module.weight.shape), dtype=np.float32)
            fan_in = values[0].size
            module.weight.copy_(torch.from_numpy(values) * (2 / fan_in) ** 0.5)
            module.bias.copy_(_uniform(rng, module.bias, -0.1, 0.1))
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.copy_(_uniform(rng, module.weight, 0.5, 1.5))
            module.bias.copy_(_uniform(rng, module.bias, -0.3, 0.3))
            module.running_mean.copy_(_uniform(rng, module.bias, -0.3, 0.3))
            module.running_var.copy_(_uniform(rng, module.bias, 0.5, 2.0))


class TorchVGG(nn.Module):
    """The VGG of torchvision/models/vgg.py: ``features``, ``avgpool``, ``classifier``."""

    def __init__(
        self,
        name: str,
        *,
        num_classes: int = 1000,
        batch_norm: bool = False,
        hidden: int = 4096,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.features, channels = _features(name, batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            Linear(channels * 49, hidden),
            nn.ReLU(inplace=False),
            nn.Dropout(),
            Linear(hidden, hidden),
            nn.ReLU(inplace=False),
            nn.Dropout(),
            Linear(hidden, num_classes),
        )
        _randomize(self, seed)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))

    @torch.no_grad()
    def taps(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return every module's output for x [N,H,W,3], spatial ones as NHWC."""
        found: dict[str, np.ndarray] = {}
        y = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        for prefix, modules in (("features", self.features), ("classifier", self.classifier)):
            for index, module in enumerate(modules):
                y = module(y)
                found[f"{prefix}.{index}"] = (y.permute(0, 2, 3, 1) if y.ndim == 4 else y).numpy()
            if prefix == "features":
                y = self.avgpool(y)
                found["avgpool"] = y.permute(0, 2, 3, 1).numpy()
                y = torch.flatten(y, 1)
        return found

    def arrays(self) -> dict[str, Any]:
        """Return the state dict as NumPy arrays."""
        return {name: tensor.numpy() for name, tensor in self.state_dict().items()}


class TimmVGG(nn.Module):
    """The VGG of timm/models/vgg.py: ``features``, ``pre_logits``, ``head`` of convolutions."""

    def __init__(
        self,
        name: str,
        *,
        num_classes: int = 1000,
        batch_norm: bool = False,
        hidden: int = 4096,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.features, channels = _features(name, batch_norm)
        self.pre_logits = nn.Module()
        self.pre_logits.fc1 = Conv2d(channels, hidden, 7)
        self.pre_logits.fc2 = Conv2d(hidden, hidden, 1)
        self.head = nn.Module()
        self.head.fc = Linear(hidden, num_classes) if num_classes else nn.Identity()
        _randomize(self, seed)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        if min(x.shape[2:]) < 7:
            x = nn.functional.adaptive_avg_pool2d(x, [max(7, side) for side in x.shape[2:]])
        x = torch.relu(self.pre_logits.fc2(torch.relu(self.pre_logits.fc1(x))))
        return self.head.fc(x.mean((2, 3)))
