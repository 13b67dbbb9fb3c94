"""The digits network in PyTorch; its batch norms are folded into the convolutions on export."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from vgg_cuda.configs import Config, Conv
from vgg_cuda.images.presets import Preset
from vgg_cuda.weights import Weights
from vgg_cuda.weights.fold import fold_batch_norm

LABELS = tuple("0123456789")

# mean and standard deviation of the training scans at 32 x 32
PRESET = Preset(
    "digits", resize=(32, 32), crop=None, resample="bilinear", mean=(0.31,) * 3, std=(0.32,) * 3
)

# VGG-13 at an eighth of its width; five pools reduce 32 x 32 pixels to a single cell
CONFIG = Config(
    "vgg",
    widths=(8, 8, "M", 16, 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"),
    head=(64, 64, len(LABELS)),
    pool_grid=1,
    batch_norm=True,
)


class DigitsNet(nn.Module):
    """``CONFIG`` with a batch norm after every convolution and dropout before the dense layers."""

    def __init__(self, config: Config = CONFIG, dropout: float = 0.2) -> None:
        super().__init__()
        self.config = config
        features: list[nn.Module] = []
        for layer in config.features:
            if isinstance(layer, Conv):
                channels = layer.out_channels
                features += [
                    nn.Conv2d(layer.in_channels, channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                ]
            else:
                features.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*features, nn.AdaptiveAvgPool2d(config.pool_grid))
        dense: list[nn.Module] = [nn.Flatten()]
        for layer in config.dense:
            dense += [nn.Dropout(dropout)] if layer.relu else []
            dense.append(nn.Linear(layer.in_features, layer.out_features))
            dense += [nn.ReLU()] if layer.relu else []
        self.dense = nn.Sequential(*dense)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N,10] of preprocessed images x [N,3,32,32]."""
        return self.dense(self.features(x))


def export(net: DigitsNet) -> Weights:
    """Return the canonical weights of ``net``: batch norms folded, filters [K,3,3,C]."""
    convs = [m for m in net.features if isinstance(m, nn.Conv2d)]
    norms = [m for m in net.features if isinstance(m, nn.BatchNorm2d)]
    linears = [m for m in net.dense if isinstance(m, nn.Linear)]
    tensors = {}
    for layer, conv, norm in zip(net.config.convs, convs, norms, strict=True):
        w = _host(conv.weight.permute(0, 2, 3, 1))  # KCRS -> KRSC
        folded, bias = fold_batch_norm(
            w,
            np.zeros(len(w), np.float32),
            _host(norm.weight),
            _host(norm.bias),
            _host(norm.running_mean),
            _host(norm.running_var),
            epsilon=norm.eps,
        )
        tensors |= {f"{layer.name}.weight": folded, f"{layer.name}.bias": bias}
    # pool5 has a single cell, so fc6 needs no reordering from CHW to HWC
    for layer, linear in zip(net.config.dense, linears, strict=True):
        tensors[f"{layer.name}.weight"] = _host(linear.weight)
        tensors[f"{layer.name}.bias"] = _host(linear.bias)
    return Weights(
        net.config, tensors, preset=PRESET, labels=LABELS, source="digits", preset_stated=True
    )


def _host(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy(), np.float32)
