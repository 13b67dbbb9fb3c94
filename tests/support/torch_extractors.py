"""Modules that return activations of several layers, as other packages write them."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from typing import Any

import torch
from support.torch_modules import SMALL, torchvision_vgg
from torch import nn


class Lpips(nn.Module):
    """The ``vgg16`` of lpips/pretrained_networks.py, with its scaling layer."""

    def __init__(self, widths: str = SMALL) -> None:
        super().__init__()
        layers = torchvision_vgg(widths).features
        ends = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[None, :, None, None])
        self.slice1, self.slice2, self.slice3 = (nn.Sequential() for _ in range(3))
        begins = (0, *ends[:2])
        for part, begin, end in zip(self.slices(), begins, ends[:3], strict=True):
            for index in range(begin, end):
                part.add_module(str(index), layers[index])
        self.eval()

    def slices(self) -> tuple[nn.Module, ...]:
        return self.slice1, self.slice2, self.slice3

    def forward(self, x: torch.Tensor) -> Any:
        h = self.slice1((x - self.shift) / self.scale)
        h_relu1_2 = h
        h = self.slice2(h)
        h_relu2_1 = h
        h = self.slice3(h)
        outputs = namedtuple("VggOutputs", ["relu1_2", "relu2_1", "relu3_2"])
        return outputs(h_relu1_2, h_relu2_1, h)._asdict()


class FeatureList(nn.ModuleDict):
    """timm's ``FeatureListNet``: ``features_only=True`` flattens the features into it."""

    def __init__(self, layers: nn.Sequential, taken: tuple[str, ...]) -> None:
        super().__init__({f"features_{name}": layer for name, layer in layers.named_children()})
        self.return_layers = {f"features_{name}": name for name in taken}
        self.eval()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        out: OrderedDict[str, torch.Tensor] = OrderedDict()
        for name, module in self.items():
            x = module(x)
            if name in self.return_layers:
                out[self.return_layers[name]] = x
        return list(out.values())


class LayerGetter(nn.ModuleDict):
    """torchvision's ``IntermediateLayerGetter``."""

    def __init__(self, layers: nn.Sequential, taken: dict[str, str]) -> None:
        last = max(map(int, taken))
        super().__init__({k: v for k, v in layers.named_children() if int(k) <= last})
        self.return_layers = taken
        self.eval()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        out: OrderedDict[str, torch.Tensor] = OrderedDict()
        for name, module in self.items():
            x = module(x)
            if name in self.return_layers:
                out[self.return_layers[name]] = x
        return out


class Collector(nn.Module):
    """The loop over ``vgg.features`` of tutorials on style transfer, with frozen features."""

    def __init__(self, taken: tuple[int, ...], *, how: str = "") -> None:
        super().__init__()
        self.model = torchvision_vgg().features
        self.taken, self.how = taken, how
        self.eval()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = []
        for index, layer in enumerate(self.model):
            x = layer(x)
            if index in self.taken:
                features.append(getattr(x, self.how)() if self.how else x)
        return features
