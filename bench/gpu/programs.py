"""The programs that are compared: this package and PyTorch, one layer or a whole network each.

A layer is what the graph runs as one: a convolution with its ReLU and the pool behind it, or a
dense layer with its ReLU. Activations are NHWC on the device: a CuPy array for this package, the
same memory seen by PyTorch (channels_last).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from .timing import Clock, CupyClock, HostClock, TorchClock


@dataclass(frozen=True)
class Layer:
    """``kind``: "conv" or "dense"; ``pool``: one follows in the same call."""

    name: str
    kind: str
    inputs: int
    outputs: int
    relu: bool
    pool: bool = False

    def macs(self, x_shape: tuple[int, ...]) -> int:
        """Multiply-adds for x [N,H,W,C] or [N,C]."""
        taps = 9 if self.kind == "conv" else 1
        return int(np.prod(x_shape)) * taps * self.outputs

    def out_shape(self, x_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of its result."""
        *sides, _ = x_shape[1:]
        return (x_shape[0], *(side // 2 if self.pool else side for side in sides), self.outputs)


def layers(config: Any) -> list[Layer]:
    """Those of a network, in order."""
    from vgg_cuda.configs import Conv, Pool

    found = []
    for layer, following in zip_longest(config.features, config.features[1:]):
        if isinstance(layer, Conv):
            sizes = layer.in_channels, layer.out_channels
            found.append(Layer(layer.name, "conv", *sizes, True, isinstance(following, Pool)))
    return found + [
        Layer(dense.name, "dense", dense.in_features, dense.out_features, dense.relu)
        for dense in config.dense
    ]


class Ours:
    """This package."""

    def __init__(self, weights: Any, device: str, dtype: str) -> None:
        from vgg_cuda import VGG, ops
        from vgg_cuda.backends import get_backend

        self.ops, self.dtype, self.device = ops, dtype, device
        self.backend = get_backend(device)
        self.model = VGG(weights, device=device, dtype=dtype)
        self.clock: Clock = CupyClock() if device.startswith("cuda") else HostClock()
        self.packed: dict[str, Any] = {}
        for layer in layers(weights.config):
            pack = ops.pack_conv3x3 if layer.kind == "conv" else ops.pack_linear
            given = (weights.tensors[f"{layer.name}.{part}"] for part in ("weight", "bias"))
            self.packed[layer.name] = pack(self.backend, *given, dtype=dtype)

    def place(self, x: np.ndarray) -> Any:
        """x on the device, in the dtype."""
        return self.backend.asarray(x, self.dtype)

    def host(self, x: Any) -> np.ndarray:
        """x in host memory, as float64."""
        return np.asarray(self.backend.to_numpy(x)).astype(np.float64)

    def empty(self, shape: tuple[int, ...]) -> Any:
        """An uninitialised array on the device."""
        from vgg_cuda.arrays import numpy_dtype

        if not self.device.startswith("cuda"):
            return np.empty(shape, numpy_dtype(self.dtype))
        import cupy

        return cupy.empty(shape, numpy_dtype(self.dtype))

    def layer(self, layer: Layer, x: Any, out: Any = None) -> Any:
        """One layer's result."""
        packed, where = self.packed[layer.name], {"out": out, "device": self.device}
        if layer.kind == "dense":
            return self.ops.linear(x, packed, relu=layer.relu, dtype=self.dtype, **where)
        return self.ops.conv3x3(
            x, packed, relu=layer.relu, pool=layer.pool, dtype=self.dtype, **where
        )

    def between(self, x: Any, layer: Layer, pool_grid: int) -> Any:
        """x as ``layer`` reads it: averaged and flat before the first dense one."""
        if layer.kind == "conv" or x.ndim == 2:
            return x
        x = self.ops.avgpool(x, pool_grid, device=self.device)
        return x.reshape(x.shape[0], -1)

    def network(self, x: Any) -> tuple[Any, str]:
        """What to call for logits, and how: captured in a CUDA graph where the model can be."""
        if not self.device.startswith("cuda") or not hasattr(self.model, "capture"):
            return lambda: self.model(x), "plain calls"
        try:
            captured = self.model.capture(x.shape)
            captured(x)
        except Exception as error:
            return lambda: self.model(x), f"capture failed: {type(error).__name__}: {error}"
        # it holds x now: as PyTorch's graph, it copies none when it is called again
        return captured, "captured"


class Torch:
    """PyTorch with cuDNN in benchmark mode; ``double``: the reference, in float64.

    In "tf32" its tensors are float32, as this package's arrays are. Whether PyTorch may take tf32
    for those holds for the whole process: the one that was made last says so.
    """

    def __init__(self, weights: Any, device: str, dtype: str, double: bool = False) -> None:
        import torch

        self.torch: Any = torch
        stored = getattr(torch, "float32" if dtype == "tf32" else dtype)
        self.dtype = torch.float64 if double else stored
        self.device = "cuda" if device.startswith("cuda") else "cpu"
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = dtype == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
        self.clock: Clock = TorchClock() if self.device == "cuda" else HostClock()
        self.config = weights.config
        self.layers = layers(weights.config)
        self.w: dict[str, Any] = {}
        self.bias: dict[str, Any] = {}
        for layer in self.layers:
            w, bias = (
                torch.from_numpy(np.ascontiguousarray(weights.tensors[f"{layer.name}.{part}"]))
                for part in ("weight", "bias")
            )
            w = w.to(self.device).to(stored).to(self.dtype)  # the reference has the same weights
            self.w[layer.name] = w.permute(0, 3, 1, 2) if layer.kind == "conv" else w
            self.bias[layer.name] = bias.to(self.device).to(self.dtype)

    def see(self, x: Any) -> Any:
        """An array of ``Ours`` as a tensor: the same memory, NCHW in channels_last."""
        if x.dtype.name == "bfloat16":  # DLPack takes its bits
            tensor = self.torch.from_dlpack(x.view(np.int16)).view(self.torch.bfloat16)
        else:
            tensor = self.torch.from_dlpack(x)
        tensor = tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor
        return tensor.to(self.dtype)

    def host(self, y: Any) -> np.ndarray:
        """A result in host memory, as float64, NHWC."""
        y = y.permute(0, 2, 3, 1) if y.ndim == 4 else y
        return np.asarray(y.double().cpu().numpy())

    def layer(self, layer: Layer, x: Any) -> Any:
        """One layer's result."""
        functional, w, bias = self.torch.nn.functional, self.w[layer.name], self.bias[layer.name]
        with self.torch.inference_mode():
            if layer.kind == "dense":
                y = functional.linear(x, w, bias)
            else:
                y = functional.conv2d(x, w, bias, padding=1)
            y = y.relu_() if layer.relu else y
            return functional.max_pool2d(y, 2) if layer.pool else y

    def network(self, x: Any) -> Any:
        """Logits."""
        with self.torch.inference_mode():
            for layer in self.layers:
                if layer.kind == "dense" and x.ndim == 4:
                    grid = self.config.pool_grid
                    if x.shape[2:] != (grid, grid):
                        x = self.torch.nn.functional.adaptive_avg_pool2d(x, grid)
                    x = x.permute(0, 2, 3, 1).flatten(1)
                x = self.layer(layer, x)
            return x


def pictures(n: int, size: int, seed: int = 0) -> np.ndarray:
    """float32 [n,size,size,3] like photographs: amplitudes fall with 1/f; mean 0, deviation 1."""
    rng = np.random.default_rng(seed)
    few = min(n, 16)
    f = np.fft.fftfreq(size)
    frequency = np.hypot(f[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    noise = rng.standard_normal((few, 3, size, size), np.float32)
    noise += 2 * noise.mean(axis=1, keepdims=True)  # channels are alike
    x = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=(size, size))
    x = (x - x.mean()) / x.std()
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1), np.float32)
    more = [np.roll(x, (7 * i, 3 * i), axis=(1, 2)) for i in range(-(-n // few))]
    return np.concatenate(more)[:n]
