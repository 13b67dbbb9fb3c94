"""ONNX files that ``save_onnx`` writes: results in onnxruntime, metadata, errors."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.memory import peak_kib, reset_peak
from support.onnx_graphs import images, plain, run, saved
from support.tolerance import assert_close

from vgg_cuda import VGG
from vgg_cuda.configs import Config
from vgg_cuda.images.presets import PRESETS
from vgg_cuda.weights import Weights, he_weights, load_weights, save_onnx, shapes
from vgg_cuda.weights.convert import convert
from vgg_cuda.weights.labels import imagenet_labels

WIDTHS = (4, "M", 8, "M", 8, 8, "M", 16, 16, "M", 16, 16, "M")

# configuration, requested size, written size
NETWORKS: dict[str, tuple[Config, Any, Any]] = {
    "grid-as-it-is": (Config("vgg", WIDTHS, (12, 12, 5)), None, (224, 224)),
    "grid-of-fewer-pixels": (Config("vgg", WIDTHS, (12, 12, 5)), 64, (64, 64)),
    "grid-that-divides": (Config("vgg", WIDTHS, (12, 12, 5)), 448, (448, 448)),
    "grid-of-overlapping-bins": (Config("vgg", WIDTHS, (12, 5)), (300, 200), (300, 200)),
    "folded-batch-norms": (Config("vgg", WIDTHS, (12, 5), batch_norm=True), 32, (32, 32)),
    "headless": (Config("vgg", WIDTHS, ()), None, (None, None)),
    "headless-one-size": (Config("vgg", WIDTHS, ()), 64, (64, 64)),
    "headless-grid": (Config("vgg", WIDTHS, (), pooling="avg"), 256, (256, 256)),
    "headless-mean-as-pixel": (
        Config("vgg", WIDTHS, (), pooling="avg", pool_grid=1), None, (None, None)
    ),
    "headless-mean": (
        Config("vgg", WIDTHS, (), pooling="avg", pool_grid=1, flat=True), None, (None, None)
    ),
    "headless-flat": (Config("vgg", WIDTHS, (), flat=True), None, (None, None)),
    "mean": (Config("vgg", WIDTHS, (5,), pool_grid=1), None, (None, None)),
    "one-size": (
        Config("vgg", WIDTHS, (12, 5), pooling="none", input_size=(64, 96)), None, (64, 96)
    ),
    "without-some-relus": (
        Config("vgg", WIDTHS, (12, 5), pool_grid=1, without_relu=("conv3_1", "fc6")),
        None, (None, None),
    ),
    "features-of-dense-layers": (
        Config("vgg", WIDTHS, (12, 5), pool_grid=1, without_relu=()), None, (None, None)
    ),
    "scales-and-shifts": (
        Config("vgg", WIDTHS, (12, 5), pool_grid=1, affine_after=("conv1_1", "pool2", "conv5_2")),
        None, (None, None),
    ),
    "two-blocks-of-grey": (Config("vgg", (4, "M", 8), (3,), in_channels=1, pool_grid=2), 16,
                           (16, 16)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_exports_run_in_onnxruntime(tmp_path: Path, name: str) -> None:
    config, size, written = NETWORKS[name]
    weights = he_weights(config, seed=3)
    path = tmp_path / "m.onnx"
    save_onnx(weights, path, size=size)
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert tuple(d.dim_value or None for d in dims) == (None, config.in_channels, *written)
    x = images(2, config.in_channels, *(side or 96 for side in written))
    expected = run(path, x)
    declared = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    assert all(d in (0, got) for d, got in zip(declared, expected.shape, strict=True))
    y = VGG(weights, device="cpu")(x, layout="NCHW")
    assert_close(y.transpose(0, 3, 1, 2) if y.ndim == 4 else y, expected)
    again = load_weights(path)
    assert again.config == config
    assert again.tensors.keys() == weights.tensors.keys()
    assert all(np.array_equal(again.tensors[n], t) for n, t in weights.tensors.items())


def test_stated_metadata_is_read_back(tmp_path: Path) -> None:
    config = Config("vgg", WIDTHS, (12, 3), batch_norm=True)
    preset = replace(PRESETS["caffe"], name="mine", crop=192)
    weights = replace(
        he_weights(config, 0), preset=preset, labels=("a", "ü", "c"), activation="softmax"
    )
    path = tmp_path / "m.onnx"
    save_onnx(weights, path)
    again = load_weights(path)
    assert (again.preset, again.labels, again.activation) == (preset, ("a", "ü", "c"), "softmax")
    assert again.config == config
    model = onnx.load(path)
    assert [model.graph.input[0].name, model.graph.output[0].name] == ["images", "probabilities"]
    assert model.graph.input[0].type.tensor_type.shape.dim[2].dim_value == 192
    assert "BGR" in model.graph.input[0].doc_string
    assert [node.name for node in model.graph.node[:3]] == ["conv1_1", "relu1_1", "pool1"]
    y = run(path, images(1, 3, 192, 192))
    assert_close(y.sum(axis=1), np.ones(1), 1e-6)


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        save_onnx(load_weights("digits"), tmp_path / name)
    content = (tmp_path / "a.onnx").read_bytes()
    assert content == (tmp_path / "b.onnx").read_bytes()
    script = "import sys, vgg_cuda.weights as w; w.save_onnx(w.load_weights('digits'), sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "c.onnx")], check=True)
    assert content == (tmp_path / "c.onnx").read_bytes()


def test_digits_convert_to_onnx_and_back(tmp_path: Path) -> None:
    path = tmp_path / "digits.onnx"
    convert("digits", path, "onnx")
    digits, again = VGG.load("digits", device="cpu"), VGG.load(path, device="cpu")
    scan = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert again.classify(scan) == digits.classify(scan)
    x = digits.preset(scan.astype(np.float32) / 255)[None]
    assert_close(run(path, x.transpose(0, 3, 1, 2)), digits(x))
    back = tmp_path / "back.safetensors"
    convert(path, back)
    convert("digits", tmp_path / "native.safetensors")
    assert back.read_bytes() == (tmp_path / "native.safetensors").read_bytes()


@pytest.mark.slow
def test_full_size_vgg16_round_trip(tmp_path: Path) -> None:
    network = VGG.from_config("vgg16", device="cpu")
    weights = he_weights(network.config, 0)
    save_onnx(weights, path := tmp_path / "vgg16.onnx")
    x = images(1, 3, 224, 224)
    assert_close(run(path, x), network(x, layout="NCHW"))
    again = load_weights(path)
    assert all(np.array_equal(again.tensors[n], t) for n, t in weights.tensors.items())


@pytest.mark.slow
def test_published_networks_get_imagenet_labels(tmp_path: Path) -> None:
    config = Config("vgg11", (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"))
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes(config)}
    save_onnx(Weights(config, zeros), path := tmp_path / "w.onnx")
    assert load_weights(path).labels is None  # this package's files state their labels
    model = onnx.load(path)
    del model.metadata_props[:]
    assert load_weights(saved(model, path)).labels == imagenet_labels()


def test_failed_export_leaves_no_file(tmp_path: Path) -> None:
    weights = he_weights(Config("vgg", (4, "M", 8), (3,), pool_grid=2), 0)
    with pytest.raises(FileNotFoundError):
        save_onnx(weights, tmp_path / "no" / "m.onnx")
    good = tmp_path / "m.onnx"
    save_onnx(weights, good)
    content = good.read_bytes()
    weights.tensors["fc6.weight"] = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        save_onnx(weights, good)
    assert good.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (8, "expected H and W >= 32"),
        ((64, 8), "got H = 64 and W = 8"),
        ("large", "expected pixels or"),
        (64.0, "expected pixels or"),
        (True, "expected pixels or"),
        ((64, 64, 3), "expected pixels or"),
    ],
    ids=str,
)
def test_export_of_a_wrong_size_is_refused(tmp_path: Path, size: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        save_onnx(load_weights("digits"), tmp_path / "m.onnx", size=size)
    fixed = Config(
        "vgg", (4, "M", 8, "M", 8, "M", 8, "M", 8, "M"), (3,), pooling="none", input_size=(32, 64)
    )
    with pytest.raises(ValueError, match="size"):
        save_onnx(he_weights(fixed, 0), tmp_path / "m.onnx", size=size)
    assert not list(tmp_path.iterdir())


WITHOUT = """
import sys
sys.modules["onnx"] = None
from vgg_cuda.weights import WeightsError, load_weights, save_onnx
from vgg_cuda.weights.convert import convert
for act in (
    lambda: load_weights(sys.argv[1]),
    lambda: save_onnx(load_weights("digits"), "d.onnx"),
    lambda: convert("no such file", "d.onnx", "onnx"),
):
    try:
        act()
    except WeightsError as error:
        print(error)
"""


def test_error_without_onnx_names_the_extra(tmp_path: Path) -> None:
    path = saved(plain().model(), tmp_path / "m.onnx")
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(path)],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert (
        run.stdout.count('an ONNX file needs onnx: pip install ".[onnx]" in a clone of vgg_cuda')
        == 3
    )


def test_weights_are_not_held_twice(tmp_path: Path) -> None:
    config = Config("vgg", (8, "M") * 5, (3000, 3000, 10), pool_grid=4)
    weights, path = he_weights(config, 0), tmp_path / "m.onnx"
    kib = sum(t.nbytes for t in weights.tensors.values()) // 1024
    reset_peak()
    before = peak_kib()
    save_onnx(weights, path)
    assert peak_kib() - before < kib * 0.3 + 20_000
    del weights
    reset_peak()
    before = peak_kib()
    load_weights(path)
    assert peak_kib() - before < kib * 2.3 + 20_000  # the mapped file and the weights
