"""The interface of VGG: sizes, layouts, heads, array kinds, threads, and bad input."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support.tolerance import assert_close

from vgg_cuda import PRESETS, VGG, Preset, RangeWarning, reference
from vgg_cuda.backends import DeviceError, cpu, why_missing
from vgg_cuda.configs import Config, get_config
from vgg_cuda.summary import rows
from vgg_cuda.weights import he_weights

SMALL = Config("small", (8, 16, "M", 16, "M", 24, "M", 24, "M", 32, "M"), (48, 48, 6))
WEIGHTS = he_weights(SMALL, 3)


@pytest.fixture(scope="module")
def model() -> VGG:
    return VGG(WEIGHTS, device="cpu")


def images(n: int = 2, h: int = 40, w: int = 36, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, h, w, 3), dtype=np.float32)


def test_features_match_reference(model: VGG) -> None:
    x = images(3, 67, 50)
    expected = reference.forward(WEIGHTS, x)
    found = model.features(x, list(expected))
    for tap, value in expected.items():
        assert_close(found[tap], value, what=tap)
    assert_close(model(x), expected["fc8"])


def test_model_is_deterministic(model: VGG) -> None:
    x = images(8, 64, 64)
    first = model(x)
    for _ in range(3):
        np.testing.assert_array_equal(model(x), first)


def test_threads_share_model(model: VGG) -> None:
    inputs = [images(1 + i % 3, 40 + 8 * (i % 2), 48, seed=i) for i in range(16)]
    expected = [model(x) for x in inputs]
    with ThreadPoolExecutor(6) as pool:
        for got, wanted in zip(pool.map(model, inputs), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_model_accepts_layouts_and_strides(model: VGG) -> None:
    x = images(2, 48, 40)
    expected = model(x)
    nchw = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(model(nchw, layout="NCHW"), expected)
    strided = np.repeat(x, 2, axis=2)[:, :, ::2]
    np.testing.assert_array_equal(model(strided), expected)
    np.testing.assert_array_equal(model(x[::-1].copy()[::-1]), expected)


def test_model_converts_float_dtypes(model: VGG) -> None:
    x = images().astype(np.float16)
    expected = model(x.astype(np.float32))
    for dtype in (np.float16, np.float64):
        y = model(x.astype(dtype))
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, expected)


def test_pixels_are_normalized_by_preset() -> None:
    for preset in PRESETS.values():
        model = VGG(replace(WEIGHTS, preset=preset), device="cpu")
        pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 36, 3), dtype=np.uint8)
        expected = model.features(preset.normalize(pixels), ["conv1_1", "fc8"])
        found = model.features(pixels, ["conv1_1", "fc8"])
        for tap, value in expected.items():
            np.testing.assert_array_equal(found[tap], value)
        nchw = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(model(nchw, layout="NCHW"), expected["fc8"])


def test_large_batch_runs_in_parts(model: VGG, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(25, 64, 64)
    expected = model.features(x, ["relu1_2", "fc8"])
    monkeypatch.setattr(cpu.CpuBackend, "batch_limit", 1)  # or 12 images of 64x64
    found = model.features(x, ["relu1_2", "fc8"])
    for tap, value in expected.items():
        assert_close(found[tap], value, 5e-6, what=tap)


def test_empty_batch_gives_empty_results(model: VGG) -> None:
    assert model(images(0)).shape == (0, 6)
    found = model.features(images(0), ["conv1_1", "pool5"])
    assert found["conv1_1"].shape == (0, 40, 36, 8)
    assert found["pool5"].shape == (0, 1, 1, 32)
    assert model.classify([]) == []


def test_headless_network_returns_pool5() -> None:
    headless = VGG.from_config("vgg11", include_top=False, device="cpu")
    assert headless.config.num_classes is None
    y = headless(images(1, 64, 96))
    assert y.shape == (1, 2, 3, 512)
    np.testing.assert_array_equal(y, headless.features(images(1, 64, 96), "pool5")["pool5"])
    with pytest.raises(ValueError, match="no dense head"):
        headless.classify(np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(ValueError, match="has no layer 'fc6'"):
        headless.features(images(), "fc6")


def test_softmax_in_source_gives_probabilities(model: VGG) -> None:
    stated = VGG(replace(WEIGHTS, activation="softmax"), device="cpu")
    assert (model.activation, stated.activation) == (None, "softmax")
    x = images()
    np.testing.assert_array_equal(stated(x), model.features(x, "prob")["prob"])
    np.testing.assert_array_equal(stated.features(x, "fc8")["fc8"], model(x))


def test_from_config_is_seeded() -> None:
    x = images(1, 32, 32)
    one, again, other = (
        VGG.from_config("vgg11", include_top=False, seed=seed, device="cpu").features(x, "pool5")
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one["pool5"], again["pool5"])
    assert not np.allclose(one["pool5"], other["pool5"])


def test_from_config_keeps_magnitudes() -> None:
    logits = VGG.from_config("vgg11", num_classes=4, device="cpu")(images(1, 32, 32))
    assert 0.01 < np.abs(logits).mean() < 100  # by He scaling


def test_classify_ranks_labels() -> None:
    labelled = VGG(replace(WEIGHTS, labels=tuple("abcdef")), device="cpu")
    picture = np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    single, *_ = labelled.classify(picture, top_k=3)
    assert len(single) == 3
    assert [p.probability for p in single] == sorted((p.probability for p in single), reverse=True)
    assert all(p.label == "abcdef"[p.index] for p in single)
    (everything,) = labelled.classify([picture], top_k=100)
    assert sum(p.probability for p in everything) == pytest.approx(1, abs=1e-5)
    batch = labelled.classify(np.stack([picture, picture[::-1]]), batch_size=1)
    assert batch[0][:3] == single


def test_summary_counts_parameters_and_flops() -> None:
    table = rows(get_config("vgg16"), 224)
    assert [row.layer for row in table[:4]] == ["input", "conv1_1", "conv1_2", "pool1"]
    assert sum(row.parameters for row in table) == 138_357_544
    assert sum(row.flops for row in table) == 30_940_528_640
    text = VGG.from_config("vgg11", include_top=False, device="cpu").summary(64)
    assert "pool5" in text
    assert "fc6" not in text
    assert "9,220,480" in text
    with pytest.raises(ValueError, match="32"):
        rows(get_config("vgg16"), 31)


BAD = [
    (lambda m: m(images()[0]), ValueError, r"expected \[N, H, W, 3\] \(NHWC\), got \(40, 36, 3\)"),
    (lambda m: m(images()[..., :2]), ValueError, r"expected \[N, H, W, 3\]"),
    (lambda m: m(images().transpose(0, 3, 1, 2)), ValueError, 'pass layout="NCHW"'),
    (lambda m: m(images(), layout="HWC"), ValueError, "expected NHWC or NCHW"),
    (lambda m: m(images(1, 31, 64)), ValueError, "H and W >= 32.*H = 31"),
    (lambda m: m(images(1, 64, 16)), ValueError, "W = 16"),
    (lambda m: m(np.zeros((1, 32, 32, 3), np.int16)), TypeError, "got dtype int16"),
    (lambda m: m(np.zeros((1, 32, 32, 3), np.complex64)), TypeError, "complex64"),
    (lambda m: m([[1.0, 2.0]]), TypeError, "expected an array.*got list"),
    (lambda m: m.features(images(), "conv9_9"), ValueError, "no layer 'conv9_9'"),
    (lambda m: m.classify(np.zeros((40, 40, 3), np.uint8), top_k=0), ValueError, "top_k"),
    (lambda m: m.classify(3), TypeError, "got int"),
    (lambda m: m.classify("no-such-file.png"), ValueError, "no-such-file.png: no such file"),
    (lambda m: VGG.from_config("vgg15"), ValueError, "vgg11, vgg13, vgg16, vgg19"),
    (lambda m: VGG.from_config("vgg16", num_classes=0), ValueError, "num_classes"),
    (lambda m: VGG.load("digits", device="tpu"), ValueError, 'device: expected "auto"'),
    (lambda m: VGG.load("digits", device="cpu", dtype="float16"), ValueError, "expected float32"),
    (lambda m: VGG.load("no/such.safetensors"), FileNotFoundError, "no weights at"),
    (lambda m: VGG.load(7), TypeError, "expected a path"),
]


@pytest.mark.parametrize(("call", "error", "text"), BAD)
def test_model_rejects_bad_input(model: VGG, call, error, text) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=text):
        call(model)


def test_raw_pixels_warn_once() -> None:
    model = VGG(replace(WEIGHTS, preset=Preset("noticed")), device="cpu")
    raw = np.random.default_rng(0).integers(0, 256, (1, 40, 36, 3)).astype(np.float32)
    with pytest.warns(RangeWarning, match=r"pixels in \[0, 255\]") as caught:
        model(raw)
    model(raw)  # a second warning would be an error
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_classify_with_custom_preset(model: VGG) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8)
    own = Preset("own", (40, 40), None, "nearest")
    x = own(Image.fromarray(picture))[None]
    expected = model.top(model.probabilities(x), 2)
    assert model.classify(picture, 2, preset=own) == expected
    assert model.classify(picture, 2) == model.classify(picture, 2, preset="torchvision")
    with pytest.raises(ValueError, match="expected one of torchvision"):
        model.classify(picture, preset="inception")


def test_missing_gpu_is_explained() -> None:
    reason = why_missing("cuda")
    if reason is None:
        assert VGG(WEIGHTS, device="cuda").device == "cuda:0"
        return
    with pytest.raises(DeviceError, match="'cuda' is not available: ") as caught:
        VGG(WEIGHTS, device="cuda")
    assert reason in str(caught.value)
    assert VGG(WEIGHTS).device == "cpu"  # "auto" falls back
