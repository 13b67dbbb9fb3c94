"""Import a VGG that PyTorch exported to ONNX, and run an exported network in onnxruntime.

Needs the extras ``onnx`` and ``torch``, and onnxruntime.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np

try:
    import onnx  # noqa: F401 (vgg_cuda and PyTorch need it)
    import onnxruntime
    import torch
    from torch import nn
except ImportError as error:
    raise SystemExit(
        "this example needs onnxruntime, onnx and PyTorch: pip install '.[bench]' in a clone of "
        f"vgg_cuda ({error})"
    ) from None

import vgg_cuda
from vgg_cuda.weights import load_weights, save_onnx


def from_pytorch(folder: Path) -> None:
    """Export a small VGG from PyTorch to ONNX and run it on vgg_cuda."""
    layers: list[nn.Module] = []
    for c, k in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(c, k, 3, padding=1), nn.BatchNorm2d(k), nn.ReLU(), nn.MaxPool2d(2)]
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 8 * 8, 10), nn.Softmax(-1)).eval()
    x = torch.randn(4, 3, 64, 64)
    path = folder / "small.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the dynamo=False exporter is deprecated
        torch.onnx.export(
            module, (x,), path, input_names=["x"], dynamic_axes={"x": {0: "N"}}, dynamo=False
        )

    network = vgg_cuda.VGG.load(path)
    y = network(x.numpy(), layout="NCHW")
    with torch.no_grad():
        expected = module(x).numpy()
    print(f"{network}\nlargest difference from PyTorch: {np.abs(y - expected).max():.1e}")


def to_onnxruntime(folder: Path) -> None:
    """Export the digits network to ONNX and run it in onnxruntime."""
    digits = vgg_cuda.VGG.load("digits")
    path = folder / "digits.onnx"
    save_onnx(load_weights("digits"), path)  # or: vgg-cuda convert digits digits.onnx --to onnx

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = session.get_inputs()[0]
    x = np.random.default_rng(0).standard_normal((8, 32, 32, 3), dtype=np.float32)
    (y,) = session.run(["logits"], {"images": x.transpose(0, 3, 1, 2)})
    error = np.abs(y - digits(x)).max()
    print(f"{images.name} {images.shape} -> logits, largest difference: {error:.1e}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        from_pytorch(Path(folder))
        to_onnxruntime(Path(folder))
