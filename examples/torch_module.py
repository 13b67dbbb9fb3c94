"""Run a PyTorch VGG-16 and its perceptual features on vgg_cuda with ``vgg_cuda.from_torch``.

The script compares results and times with PyTorch's. Needs PyTorch; models of torchvision and timm
can be converted in the same way.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

try:
    import torch
    from torch import nn
except ImportError as error:
    raise SystemExit(
        f"this example needs PyTorch: pip install '.[torch]' in a clone of vgg_cuda ({error})"
    ) from None

import vgg_cuda

VGG16 = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0]


class VGG(nn.Module):
    """Configuration D of torchvision/models/vgg.py."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in VGG16:
            if width:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 49, 4096), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(4096, 1000),
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [N,1000] of x [N,3,H,W]."""
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def milliseconds(calls: list[Callable[[], object]], runs: int, device: str) -> list[float]:
    """Return the median time of each call; calls alternate, after one warm-up call each."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(runs + 1):
        for call, found in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if device != "cpu":
                torch.cuda.synchronize()
            found.append(1e3 * (time.perf_counter() - start))
    return [sorted(found[1:])[runs // 2] for found in times]


def compare(name: str, module: nn.Module, x: torch.Tensor, runs: int) -> None:
    """Print the difference and the times of ``module`` and its conversion."""
    network = vgg_cuda.from_torch(module)  # shares its layers and parameters
    with torch.inference_mode():
        y, expected = network(x), module(x)
        error = float((y - expected).norm() / expected.norm())
        pair = [lambda: module(x), lambda: network(x)]
        eager, ours = milliseconds(pair, runs, x.device.type)
    print(f"{name}: {tuple(y.shape)}, relative difference {error:.1e}")
    print(f"  PyTorch {eager:.1f} ms, vgg_cuda {ours:.1f} ms: {eager / ours:.2f}x")
    print(f"  {network.calls}")


def main() -> None:
    """Compare logits, then perceptual features, then run a call that needs gradients."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()

    model = VGG().eval().to(options.device)
    x = torch.randn(options.batch, 3, options.size, options.size, device=options.device)
    compare("VGG-16", model, x, options.runs)
    compare("features[:16], relu3_3", model.features[:16], x, options.runs)

    network = vgg_cuda.from_torch(model)
    network(x).sum().backward()  # PyTorch runs its own forward, for its gradients
    print(f"with gradients: {network.calls}: {network.why}")


if __name__ == "__main__":
    main()
