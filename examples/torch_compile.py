"""``torch.compile(model, backend="vgg_cuda")``: a VGG, and a network that only partly is one.

    python examples/torch_compile.py [--size 224] [--batch 1] [--runs 5]

Needs the extra ``torch``. Weights are random. Where there is a GPU, PyTorch and this package
compute there in float16, else on the CPU in float32. In-place updates of weights are noticed; after
writes through ``.data`` call ``vgg_cuda.interop.torch_cache.refresh()``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn
from torch._dynamo.utils import counters

VGG16 = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"


def vgg16() -> nn.Sequential:
    """VGG-16 as torchvision builds it."""
    layers: list[nn.Module] = []
    channels = 3
    for word in VGG16.split():
        if word == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, int(word), 3, padding=1), nn.ReLU(inplace=True)]
            channels = int(word)
    layers += [nn.AdaptiveAvgPool2d(7), nn.Flatten()]
    for inputs, outputs in ((channels * 49, 4096), (4096, 4096)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(4096, 1000))


class Residual(nn.Module):
    """Two 3x3 convolutions of any width with batch norms, beside what stays PyTorch's."""

    def __init__(self, channels: int = 48) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 7, stride=2, padding=3)
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.head = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [N,3,H,W] -> [N,10]."""
        x = torch.relu(self.stem(x))
        x = torch.relu(self.block(x) + x)
        return self.head(x.mean((2, 3)))


def milliseconds(run: Callable[[], object], runs: int) -> float:
    """Of one call, the median of ``runs`` after one that is not counted."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times[1:])[runs // 2]


def main() -> None:
    """Compiles both, compares them with PyTorch, and times them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5, help="calls that are timed")
    arguments = parser.parse_args()
    device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
    torch.manual_seed(0)
    x = torch.randn(arguments.batch, 3, arguments.size, arguments.size)
    x = x.to(device, dtype, memory_format=torch.channels_last)  # is read as it is
    print(f"{tuple(x.shape)}, {dtype} on {device}")

    for name, model in (("VGG-16", vgg16()), ("residual", Residual())):
        model = model.to(device, dtype, memory_format=torch.channels_last).eval()
        compiled = torch.compile(model, backend="vgg_cuda")
        counters.clear()
        with torch.inference_mode():
            expected, got = model(x).float(), compiled(x).float()
            error = float((got - expected).norm() / expected.norm())
            theirs = milliseconds(lambda run=model: run(x), arguments.runs)
            ours = milliseconds(lambda run=compiled: run(x), arguments.runs)
        print(f"{name}: {dict(counters['vgg_cuda'])}, relative error {error:.1e}")
        print(f"  PyTorch {theirs:.1f} ms, compiled {ours:.1f} ms ({theirs / ours:.2f}x)")

        with torch.no_grad():
            next(model.parameters()).mul_(2)
            error = float((compiled(x).float() - model(x).float()).norm() / model(x).norm())
        print(f"  after an update of the weights: relative error {error:.1e}")


if __name__ == "__main__":
    main()
