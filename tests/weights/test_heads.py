"""Dense heads that are NaN, truncated or ImageNet's, and NaN in other tensors."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.formats import images
from support.torch_vgg import CONFIGS, TimmVGG, TorchVGG
from support.weight_files import SMALL

from vgg_cuda import VGG
from vgg_cuda.configs import Config
from vgg_cuda.weights import (
    AssumedWarning,
    HeadDroppedWarning,
    WeightsError,
    he_weights,
    load_weights,
    state_dict,
)
from vgg_cuda.weights.labels import imagenet_labels
from vgg_cuda.weights.metadata import Stated
from vgg_cuda.weights.torchvision import to_state_dict


@pytest.mark.parametrize("kind", [TorchVGG, TimmVGG])
def test_head_of_nan_is_dropped(tmp_path: Path, kind: type[torch.nn.Module]) -> None:
    state = kind(SMALL, hidden=8, num_classes=2).state_dict()
    for name, tensor in state.items():
        if not name.startswith("features"):
            tensor.fill_(float("nan"))
    torch.save(state, tmp_path / "w.pth")
    with pytest.warns(HeadDroppedWarning, match=r"w\.pth.*NaN.*head is dropped"):
        weights = load_weights(tmp_path / "w.pth")
    assert weights.config.head == ()
    assert weights.preset.std == (1 / 255, 1 / 255, 1 / 255)
    assert weights.preset.mean == (0.48235, 0.45882, 0.40784)
    assert VGG(weights, device="cpu")(images(1, 32, 32)).shape == (1, 1, 1, 24)


def test_native_head_of_nan_is_dropped() -> None:
    tensors = load_weights(TorchVGG(SMALL, hidden=8, num_classes=2).state_dict()).tensors
    nan = {n: t * np.float32("nan") if n.startswith("fc") else t for n, t in tensors.items()}
    with pytest.warns(HeadDroppedWarning):
        assert load_weights(nan).config.num_classes is None


@pytest.mark.parametrize(
    "name", ["features.3.weight", "features.0.bias", "classifier.0.weight", "classifier.6.bias"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_elsewhere_names_the_tensor(name: str, value: float) -> None:
    state = TorchVGG(SMALL, hidden=8, num_classes=2).state_dict()
    state[name].view(-1)[-1] = value
    with pytest.raises(WeightsError, match=f"{name}: expected finite"):
        load_weights(state)


@pytest.mark.parametrize("part", ["weight", "bias", "running_mean", "running_var"])
def test_nan_in_a_batch_norm_names_the_tensor(part: str) -> None:
    state = TorchVGG(SMALL, hidden=8, num_classes=2, batch_norm=True).state_dict()
    state[f"features.1.{part}"][2] = float("nan")
    with pytest.raises(WeightsError, match=f"features.1.{part}: expected finite"):
        load_weights(state)


def published() -> dict[str, np.ndarray]:
    """Return VGG-11's names and shapes with broadcast zeros."""
    state = TorchVGG(CONFIGS["vgg11"], hidden=1, num_classes=1).state_dict()
    shapes = {name: tuple(t.shape) for name, t in state.items() if "features" in name}
    sizes = {0: (4096, 25088), 3: (4096, 4096), 6: (1000, 4096)}
    for index, shape in sizes.items():
        shapes |= {f"classifier.{index}.weight": shape, f"classifier.{index}.bias": shape[:1]}
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def test_published_networks_get_imagenets_labels() -> None:
    weights = load_weights(published())
    assert weights.config.name == "vgg11"
    assert weights.labels == imagenet_labels()
    assert load_weights(weights.tensors).labels is None  # native names: metadata decides


def test_other_networks_of_1000_classes_get_no_labels() -> None:
    state = TorchVGG("1 M 1 M 1 M 1 M 1 M", hidden=1, num_classes=1).arrays()
    sizes = {0: (4096, 49), 3: (4096, 4096), 6: (1000, 4096)}
    for index, shape in sizes.items():
        state[f"classifier.{index}.weight"] = np.broadcast_to(np.float32(0), shape)
        state[f"classifier.{index}.bias"] = np.zeros(shape[0], np.float32)
    assert load_weights(state).config.head == (4096, 4096, 1000)
    assert load_weights(state).labels is None


def test_header_without_labels_gives_none() -> None:
    weights = state_dict.from_tensors(published(), "file", Stated(present=True))
    assert weights.config.name == "vgg11"
    assert weights.labels is None


@settings(max_examples=25, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 9), max_size=4),
    grid=st.integers(1, 8),
    channels=st.integers(1, 5),
)
def test_any_head_converts_and_back(hidden: list[int], grid: int, channels: int) -> None:
    widths = (3, "M", 4, "M", 2, 3, "M", 4, "M", channels, "M")
    config = Config("vgg", widths, tuple(hidden), grid if hidden else 7)
    weights = he_weights(config, 0)
    with warnings.catch_warnings():  # a head may look like that of an extractor of features
        warnings.simplefilter("ignore", AssumedWarning)
        again = load_weights(to_state_dict(weights))
    assert again.config == config
    for name, tensor in weights.tensors.items():
        assert tensor.tobytes() == again.tensors[name].tobytes()
