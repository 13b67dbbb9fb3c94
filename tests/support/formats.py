"""Writers of the PyTorch weight formats; docs/weights.md has the same table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from support.torch_vgg import TimmVGG, TorchVGG

from vgg_cuda.weights import load_weights, save

Write = Callable[[dict[str, Any], Path], None]


def _native(state: dict[str, Any], path: Path) -> None:
    save(load_weights({name: tensor.numpy() for name, tensor in state.items()}), path)


def _legacy(state: dict[str, Any], path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


FORMATS: dict[str, tuple[type[torch.nn.Module], Write]] = {
    "native": (TorchVGG, _native),
    "torchvision-safetensors": (TorchVGG, safetensors.torch.save_file),
    "torchvision-pth": (TorchVGG, torch.save),
    "torchvision-pth-legacy": (TorchVGG, _legacy),
    "timm-safetensors": (TimmVGG, safetensors.torch.save_file),
    "timm-pth": (TimmVGG, torch.save),
    "timm-pth-legacy": (TimmVGG, _legacy),
}

# torchvision's spelling with every width divided by 16
NARROW = {
    "vgg11": "4 M 8 M 16 16 M 32 32 M 32 32 M",
    "vgg13": "4 4 M 8 8 M 16 16 M 32 32 M 32 32 M",
    "vgg16": "4 4 M 8 8 M 16 16 16 M 32 32 32 M 32 32 32 M",
    "vgg19": "4 4 M 8 8 M 16 16 16 16 M 32 32 32 32 M 32 32 32 32 M",
}


def images(n: int, h: int, w: int) -> np.ndarray:
    return np.random.default_rng(h).standard_normal((n, h, w, 3), dtype=np.float32)
