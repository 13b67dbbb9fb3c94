"""The shipped digits network: its accuracy, and predictions for files, arrays and photos."""

from __future__ import annotations

import importlib.util
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from vgg_cuda import VGG

ROOT = Path(__file__).resolve().parents[2]


def digits_data():
    path = ROOT / "examples" / "digits" / "data.py"
    spec = importlib.util.spec_from_file_location("digits_data", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model():
    return VGG.load("digits", device="cpu")


@pytest.fixture(scope="module")
def held_out():
    return digits_data().held_out()


@pytest.fixture(scope="module")
def predictions(model, held_out):
    images, _ = held_out
    return [best for [best] in model.classify(list(images), top_k=1)]


def test_split_is_complete_and_stratified(held_out):
    images, labels = held_out
    more_images, more_labels = digits_data().training()
    assert images.shape == (360, 8, 8)
    assert more_images.shape == (1437, 8, 8)
    assert images.dtype == more_images.dtype == np.uint8
    assert images.min() == 0
    assert images.max() == 255
    assert np.bincount(labels).tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    assert np.bincount(more_labels).sum() == 1437
    assert not {i.tobytes() for i in images} & {i.tobytes() for i in more_images}


def test_accuracy_on_held_out_images(predictions, held_out):
    correct = np.array([p.index for p in predictions]) == held_out[1]
    wrong = np.flatnonzero(~correct)
    assert correct.mean() >= 0.985, f"{len(wrong)} of {len(correct)} wrong: {wrong.tolist()}"


def test_labels_are_digits(model, predictions):
    assert model.labels == tuple("0123456789")
    assert all(p.label == str(p.index) for p in predictions)


def test_shipped_network_architecture(model):
    assert model.preset.name == "digits"
    assert model.preset.resize == (32, 32)
    assert model.activation is None
    assert model.config.batch_norm
    assert model.config.pool_grid == 1
    assert [dense.name for dense in model.config.dense] == ["fc6", "fc7", "fc8"]
    file = resources.files("vgg_cuda") / "data" / "digits.safetensors"
    assert len(file.read_bytes()) <= 1_500_000


def test_files_and_arrays_classify_equally(model, held_out, predictions, tmp_path):
    images, _ = held_out
    paths = [tmp_path / f"{i:03}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    assert [best for [best] in model.classify(paths, top_k=1)] == predictions


def test_photo_gives_probabilities(model):
    [classes] = model.classify(load_sample_image("china.jpg"), top_k=10)
    probabilities = [c.probability for c in classes]
    assert sorted(c.index for c in classes) == list(range(10))
    assert np.isfinite(probabilities).all()
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
