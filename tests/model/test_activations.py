"""Sigmoid and log-softmax after the last layer: calls, taps, classes, files, verification."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tolerance import assert_close

from vgg_cuda import PRESETS, VGG, reference, verify
from vgg_cuda.configs import Config
from vgg_cuda.weights import Weights, he_weights, load_weights, save

CONFIG = Config("vgg", (8, "M", 8, "M"), (6, 3), pool_grid=2)
X = np.random.default_rng(0).standard_normal((2, 9, 8, 3), np.float32)
DEVICES = ["cpu", pytest.param("emulator", marks=pytest.mark.emulator)]


def weights(activation: str) -> Weights:
    return replace(he_weights(CONFIG, 0), activation=activation)


def expected(activation: str) -> np.ndarray:
    z = reference.forward(weights(activation), X)["fc7"]
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-z)))
    return np.asarray(np.log(reference.softmax(z)))


@pytest.mark.parametrize("activation", ["sigmoid", "log_softmax"])
@pytest.mark.parametrize("device", DEVICES)
def test_activation_of_a_call(activation: str, device: str) -> None:
    model = VGG(weights(activation), device=device, dtype="float32")
    assert_close(model(X), expected(activation))
    assert verify(model, weights(activation), X).ok
    found = model.features(X, ["fc7", "prob"])
    z = found["fc7"].astype(np.float64)
    prob = 1 / (1 + np.exp(-z)) if activation == "sigmoid" else reference.softmax(z)
    assert_close(found["prob"], prob)
    assert activation in model.summary(8)
    model.activation = None
    assert_close(model(X), z)


@pytest.mark.parametrize("activation", ["sigmoid", "log_softmax"])
def test_activation_of_other_arrays(activation: str) -> None:
    torch = pytest.importorskip("torch")
    model = VGG(weights(activation), device="cpu")
    y = model(torch.from_numpy(X))
    assert isinstance(y, torch.Tensor)
    assert_close(y, expected(activation))
    jax = pytest.importorskip("jax")
    assert_close(model(jax.numpy.asarray(X)), expected(activation))


@pytest.mark.emulator
def test_activation_keeps_the_dtype() -> None:
    model = VGG(weights("sigmoid"), device="emulator", dtype="float16")
    assert model(X).dtype == np.float16
    assert_close(model(X), expected("sigmoid"), 2e-3)
    with pytest.raises(ValueError, match="capture: expected logits or a softmax, got a sigmoid"):
        model.capture(X.shape)
    assert model.memory(X.shape).total > 0


def test_sigmoid_of_large_numbers_is_finite() -> None:
    given = weights("sigmoid")
    given.tensors["fc7.bias"][:] = 1e4, -1e4, 0
    given.tensors["fc7.weight"][:] = 0
    np.testing.assert_array_equal(VGG(given, device="cpu")(X), [[1, 0, 0.5]] * 2)


def test_classify_shows_every_sigmoid() -> None:
    model = VGG(replace(weights("sigmoid"), labels=("cat", "dog", "bird")), device="cpu")
    (top,) = model.classify(np.zeros((9, 8, 3), np.uint8), preset="lpips")
    x = PRESETS["lpips"].normalize(np.zeros((1, 9, 8, 3), np.uint8))
    (y,) = model(x)
    assert {p.label: p.probability for p in top} == dict(zip(model.labels, y.tolist(), strict=True))
    assert [p.probability for p in top] == sorted(y, reverse=True)


@pytest.mark.parametrize("activation", ["sigmoid", "log_softmax"])
def test_files_keep_the_activation(activation: str, tmp_path: Path) -> None:
    save(weights(activation), tmp_path / "w.safetensors")
    model = VGG.load(tmp_path / "w.safetensors", device="cpu")
    assert model.activation == activation
    model.to_onnx(tmp_path / "w.onnx", size=(9, 8))
    assert load_weights(tmp_path / "w.onnx").activation == activation
    run = pytest.importorskip("support.onnx_graphs").run
    nchw = np.ascontiguousarray(X[:1].transpose(0, 3, 1, 2))
    assert_close(run(tmp_path / "w.onnx", nchw), expected(activation)[:1])
