"""Compile a VGG and a residual network with ``torch.compile(model, backend="vgg_cuda")``.

    python examples/torch_compile.py [--size 224] [--batch 1] [--runs 5]

Needs the extra ``torch``. Weights are random. PyTorch and vgg_cuda compute in float16 on a GPU if
PyTorch finds one, else in float32 on the CPU. In-place updates of weights are detected; after
writes through ``.data`` call ``vgg_cuda.interop.torch_cache.refresh()``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

try:
    import torch
    from torch import nn
    from torch._dynamo.utils import counters
except ImportError as error:
    raise SystemExit(
        f"this example needs PyTorch: pip install '.[torch]' in a clone of vgg_cuda ({error})"
    ) from None

VGG16 = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"


def vgg16() -> nn.Sequential:
    """Return VGG-16 with the layers of torchvision's."""
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
    """A residual block of two 3x3 convolutions, between layers that PyTorch runs."""

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
        """Return logits [N,10] of x [N,3,H,W]."""
        x = torch.relu(self.stem(x))
        x = torch.relu(self.block(x) + x)
        return self.head(x.mean((2, 3)))


def milliseconds(run: Callable[[], object], runs: int) -> float:
    """Return the median time of ``runs`` calls, after a warm-up call."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times[1:])[runs // 2]


def main() -> None:
    """Compile both models, compare them with PyTorch and time them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5, help="number of timed calls")
    arguments = parser.parse_args()
    device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
    torch.manual_seed(0)
    x = torch.randn(arguments.batch, 3, arguments.size, arguments.size)
    x = x.to(device, dtype, memory_format=torch.channels_last)  # read without a copy
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
