"""Random chains of layers agree with their framework or are refused; they never differ."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.keras_models import keras
from support.onnx_graphs import exported, run
from support.random_chains import Chain, draw, draw_for_state_dict, keras_model, torch_module
from support.tolerance import assert_close

from vgg_cuda import VGG, from_torch
from vgg_cuda.interop.keras import from_keras
from vgg_cuda.weights import AssumedWarning, DroppedWarning, WeightsError, load_weights

Result = tuple[np.ndarray, np.ndarray]  # ours and the framework's


def nchw(chain: Chain) -> torch.Tensor:
    return torch.from_numpy(chain.images()).permute(0, 3, 1, 2).contiguous()


def numpy_of(y: torch.Tensor) -> np.ndarray:
    return (y.permute(0, 2, 3, 1) if y.ndim == 4 else y).numpy()


def by_from_torch(chain: Chain, _: Path) -> Result:
    module, x = torch_module(chain), nchw(chain)
    fast = from_torch(module)
    with torch.no_grad():
        y = fast(x)
        assert fast.why is None
        return y.numpy(), module(x).numpy()


def by_state_dict(chain: Chain, _: Path) -> Result:
    """Compare logits: a state dict that is read without a warning states the network."""
    chain = draw_for_state_dict(chain.seed)
    module = torch_module(chain)
    vgg = VGG(load_weights(module.state_dict()), device="cpu")
    with torch.no_grad():
        return vgg(chain.images()), numpy_of(module(nchw(chain)))


def by_onnx(chain: Chain, folder: Path) -> Result:
    module, x = torch_module(chain), nchw(chain)
    how: dict[str, Any] = {}
    if chain.seed % 2:  # without the exporter's folding of batch norms
        how = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    path = exported(module, folder / "m.onnx", x, dynamo=False, open_axes=(0,), **how)
    y = VGG(load_weights(path), device="cpu")(x.numpy(), layout="NCHW")
    expected = run(path, x.numpy())
    return (y.transpose(0, 3, 1, 2) if y.ndim == 4 else y), expected


def by_keras(chain: Chain, folder: Path) -> Result:
    model = keras_model(chain)
    expected = keras.ops.convert_to_numpy(model(chain.images(), training=False))
    if chain.seed % 2:
        model.save(folder / "m.keras")
        return VGG.load(folder / "m.keras", device="cpu")(chain.images()), expected
    return from_keras(model, device="cpu")(chain.images()), expected


COUNTS: dict[str, tuple[Callable[[Chain, Path], Result], int]] = {
    "from-torch": (by_from_torch, 30),
    "state-dict": (by_state_dict, 40),
    "onnx": (by_onnx, 15),
    "keras": (by_keras, 20),
}


@pytest.mark.parametrize("name", COUNTS)
def test_random_chains_agree_or_are_refused(name: str, tmp_path: Path) -> None:
    compare, count = COUNTS[name]
    agreed = 0
    for seed in range(count):
        chain = draw(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for category in (AssumedWarning, DroppedWarning):
                warnings.simplefilter("error", category)
            try:
                y, expected = compare(chain, tmp_path)
            except (WeightsError, AssumedWarning, DroppedWarning):
                continue
        assert_close(y, expected, what=f"draw({seed}): {chain}")
        agreed += 1
    assert agreed > count // 10
