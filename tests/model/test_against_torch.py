"""Comparison with PyTorch on the CPU, tap by tap, with equal He-scaled weights."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from support.tolerance import assert_close
from support.torch_vgg import TorchVGG

from vgg_cuda import VGG
from vgg_cuda.configs import CONFIGS


@lru_cache(maxsize=2)  # vgg16 is used again after vgg19
def pair(name: str, hidden: int = 4096, **options: Any) -> tuple[TorchVGG, VGG]:
    module = TorchVGG(name, hidden=hidden, **options)
    return module, VGG.load(module.arrays(), device="cpu")


@pytest.fixture(scope="module", autouse=True)
def _release() -> Iterator[None]:
    yield
    pair.cache_clear()


def images(n: int, h: int, w: int) -> np.ndarray:
    return np.random.default_rng(n * h + w).standard_normal((n, h, w, 3), dtype=np.float32)


# Ordered by network, so that each is built once. The heads of all networks are alike: vgg16 has the
# published one, the others a narrow one. Their full size is in the slow set.
SIZES = ((8, 32, 32), (3, 33, 33), (1, 96, 160), (1, 224, 224))
CASES = [
    pytest.param(
        *(name, 4096 if 224 in size or name == "vgg16" else 64, *size),
        id="-".join(map(str, (name, *size))),
        marks=[pytest.mark.slow] if 224 in size and name != "vgg16" else [],
    )
    for name in CONFIGS
    for size in SIZES
]


@pytest.mark.parametrize(("name", "hidden", "n", "h", "w"), CASES)
def test_features_match_torch_at_every_tap(name: str, hidden: int, n: int, h: int, w: int) -> None:
    module, model = pair(name, hidden)
    x = images(n, h, w)
    expected = module.taps(x)
    assert_close(model(x), expected["classifier.6"], what="logits")
    found = model.features(x, list(expected))
    assert list(found) == list(expected)
    for tap, value in expected.items():
        assert_close(found[tap], value, what=tap)


@pytest.mark.parametrize("n", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 8))])
def test_full_size_batches_match_torch(n: int) -> None:
    module, model = pair("vgg16")
    x = images(n, 224, 224)
    with torch.no_grad():
        expected = module(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    assert_close(model(x), expected)
    nchw = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(model(nchw, layout="NCHW"), model(x))


@pytest.mark.parametrize("name", CONFIGS)
def test_folded_batch_norm_matches_torch(name: str) -> None:
    module, model = pair(name, 64, batch_norm=True, num_classes=7)
    x = images(2, 48, 40)
    expected = module.taps(x)
    convs = [i for i, m in enumerate(module.features) if isinstance(m, torch.nn.Conv2d)]
    for index in convs:  # folded away; test_layers checks that they are rejected
        del expected[f"features.{index}"]
    found = model.features(x, list(expected))
    for tap, value in expected.items():
        assert_close(found[tap], value, what=tap)
    assert model.config.batch_norm
    assert model.config.num_classes == 7


@pytest.mark.parametrize("num_classes", [1, 2, 21])
def test_class_count_is_taken_from_weights(num_classes: int) -> None:
    module = TorchVGG("8 M 8 M 16 M 16 M 24 M", num_classes=num_classes, hidden=32)
    model = VGG.load(module.arrays(), device="cpu")
    x = images(3, 37, 64)
    assert_close(model(x), module.taps(x)["classifier.6"])
    assert model.config.num_classes == num_classes


def test_tensor_input_gives_tensor_output() -> None:
    module = TorchVGG("8 8 M 8 M 16 M 16 M 24 M", num_classes=5, hidden=32)
    model = VGG.load(module.arrays(), device="cpu")
    x = torch.from_numpy(images(2, 40, 32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = module(x)
    got = model(x, layout="NCHW")
    assert isinstance(got, torch.Tensor)
    assert_close(got, expected)
    feats = model.features(x, ["relu1_1"], layout="NCHW")
    assert isinstance(feats["relu1_1"], torch.Tensor)
    with pytest.raises(TypeError, match="detach"):
        model(x.clone().requires_grad_(), layout="NCHW")


def test_lazy_subclass_and_meta_tensors() -> None:
    """DLPack drops lazy negation; meta tensors have no memory."""
    model = VGG.load(TorchVGG("8 M 8 M 16 M 16 M 24 M", hidden=32).arrays(), device="cpu")
    x = torch.from_numpy(images(1, 32, 32))
    assert torch.equal(model(torch._neg_view(x)), model(-x))
    assert torch.equal(model(x.as_subclass(torch.nn.Buffer)), model(x))
    with pytest.raises(TypeError, match="cannot share"):
        model(x.to("meta"))


def test_model_copies_its_source_arrays() -> None:
    arrays = {
        k: v.copy() for k, v in TorchVGG("8 M 8 M 16 M 16 M 24 M", hidden=32).arrays().items()
    }
    model = VGG.load(arrays, device="cpu")
    x = images(1, 32, 32)
    before = model(x)
    for array in arrays.values():
        array += 1
    np.testing.assert_array_equal(model(x), before)
