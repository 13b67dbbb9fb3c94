"""Names and aliases of layers, and taps inside fused layers."""

from __future__ import annotations

import numpy as np
import pytest

from vgg_cuda import VGG
from vgg_cuda.backends.cpu import CpuBackend
from vgg_cuda.configs import CONFIGS, Config, get_config
from vgg_cuda.layers import aliases, resolve_layer, taps
from vgg_cuda.weights import he_weights

SMALL = Config("small", (8, 8, "M", 8, "M", 16, "M", 16, "M", 24, "M"), (32, 32, 5))


@pytest.fixture(scope="module")
def model() -> VGG:
    return VGG(he_weights(SMALL, 0), device="cpu")


def images(n: int = 2) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((n, 40, 36, 3), dtype=np.float32)


@pytest.mark.parametrize(
    ("network", "batch_norm", "name", "canonical"),
    [
        ("vgg16", False, "features.0", "conv1_1"),
        ("vgg16", False, "features.3", "relu1_2"),
        ("vgg16", False, "features.4", "pool1"),
        ("vgg16", False, "features.30", "pool5"),
        ("vgg16", True, "features.1", "conv1_1"),
        ("vgg16", True, "bn1_1", "conv1_1"),
        ("vgg16", True, "features.43", "pool5"),
        ("vgg11", False, "features.20", "pool5"),
        ("vgg19", False, "features.36", "pool5"),
        ("vgg19", True, "features.52", "pool5"),
        ("vgg16", False, "classifier.0", "fc6"),
        ("vgg16", False, "classifier.2", "relu6"),
        ("vgg16", False, "classifier.6", "fc8"),
        ("vgg16", False, "block1_conv2", "relu1_2"),
        ("vgg19", False, "block5_conv4", "relu5_4"),
        ("vgg16", False, "block5_pool", "pool5"),
        ("vgg16", False, "fc1", "relu6"),
        ("vgg16", False, "fc2", "relu7"),
        ("vgg16", False, "predictions", "prob"),
        ("vgg16", False, "conv5_3", "conv5_3"),
    ],
)
def test_alias_resolves_to_canonical_tap(
    network: str, batch_norm: bool, name: str, canonical: str
) -> None:
    published = get_config(network)
    config = Config(network, published.widths, published.head, batch_norm=batch_norm)
    assert resolve_layer(config, name) == canonical


@pytest.mark.parametrize("name", ["features.0", "conv1_1"])
def test_tap_before_folded_batch_norm_is_rejected(name: str) -> None:
    config = Config("vgg16", tuple(CONFIGS["vgg16"]), batch_norm=True)
    with pytest.raises(ValueError, match=r"no longer exists.*'bn1_1'.*'relu1_1'"):
        resolve_layer(config, name)


def test_unknown_layer_suggests_close_names(model: VGG) -> None:
    with pytest.raises(ValueError, match=r"did you mean.*relu1_2"):
        model.features(images(), "relu_1_2")
    with pytest.raises(ValueError, match=r"has no layer 'conv3_3'"):
        model.features(images(), "conv3_3")
    with pytest.raises(TypeError, match="expected a name"):
        model.features(images(), [3])  # type: ignore[list-item]


def test_features_keep_requested_names(model: VGG) -> None:
    found = model.features(images(), ["block1_conv2", "features.3", "relu1_2"])
    assert list(found) == ["block1_conv2", "features.3", "relu1_2"]
    np.testing.assert_array_equal(found["features.3"], found["relu1_2"])


@pytest.mark.parametrize("tap", taps(SMALL))
def test_single_tap_equals_tap_among_all(model: VGG, tap: str) -> None:
    """One tap and all taps fuse different layers, but give equal values."""
    everything = model.features(images(), taps(SMALL))
    alone = model.features(images(), tap)
    assert list(alone) == [tap]
    np.testing.assert_array_equal(alone[tap], everything[tap])


def test_features_stop_after_deepest_layer(model: VGG, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = CpuBackend.conv3x3

    def counting(*args, **kwargs):  # type: ignore[no-untyped-def]
        calls.append(kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(CpuBackend, "conv3x3", counting)
    model.features(images(), ["relu1_1", "conv2_1"])
    assert len(calls) == 3
    assert [call["pool"] for call in calls] == [False, True, False]
    assert [call["relu"] for call in calls] == [True, True, False]
    calls.clear()
    assert model.features(images(), []) == {}
    assert not calls


def test_aliases_resolve_to_taps() -> None:
    for network in CONFIGS:
        config = get_config(network)
        for name in aliases(config):
            assert resolve_layer(config, name) in taps(config)
