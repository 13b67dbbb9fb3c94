"""ONNX graphs that normalize their images themselves, compared with onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from support.onnx_graphs import SIZE, Net, assert_same, exported, run, saved
from support.tolerance import assert_close
from torch import nn

from vgg_cuda import VGG
from vgg_cuda.weights import WeightsError, load_weights, save

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
NHWC = ("N", SIZE, SIZE, 3)
HALF = np.float32([127.5])
UNDO = np.array([2, 1, 0])


def column(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(1, -1, 1, 1)


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.float32)


def closed(net: Net) -> Net:
    return net.features().add("Flatten", axis=1).head()


def last(*values: int) -> list[np.ndarray]:
    return [np.array([value]) for value in values]


CAFFE = np.float32([103.939, 116.779, 123.68])


def torch_mode() -> Net:
    return Net().add("Div", np.float32(255)).add("Sub", column(MEAN)).add("Div", column(STD))


def channels_last(net: Net) -> Net:
    return net.add("Transpose", perm=[0, 3, 1, 2])


def mirrored() -> Net:
    return Net(dims=NHWC).add("Slice", *last(2, -9, -1, -1)).add("Sub", CAFFE)


GRAPHS: dict[str, tuple[Callable[[], Net], str]] = {
    "sub-div": (lambda: Net().add("Sub", HALF).add("Div", HALF), "pixels"),
    "torch": (torch_mode, "pixels"),
    "of-unit": (lambda: Net().add("Sub", column(MEAN)).add("Div", column(STD)), "unit"),
    "mul-add-left": (
        lambda: Net().add("Mul", 1 / HALF, left=True).add("Add", column(-2 * MEAN), left=True),
        "pixels",
    ),
    "one-minus": (lambda: Net().add("Div", HALF).add("Sub", np.float32(1), left=True), "pixels"),
    "nhwc": (
        lambda: channels_last(Net(dims=NHWC).add("Sub", 255 * MEAN).add("Mul", 1 / (255 * STD))),
        "pixels",
    ),
    "gather": (lambda: Net().add("Gather", UNDO, axis=1).add("Sub", column(CAFFE)), "pixels"),
    "flip": (
        lambda: Net().add("Slice", *last(-1, -(2**63), 1, -1)).add("Sub", column(CAFFE)),
        "pixels",
    ),
    "flip-nhwc": (lambda: channels_last(mirrored()), "pixels"),
    "batch-norm": (
        lambda: Net().add("BatchNormalization", STD, MEAN, 255 * MEAN, 5000 * STD),
        "pixels",
    ),
    "scale-alone": (lambda: Net().add("Gather", UNDO, axis=1).add("Div", HALF), "pixels"),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_that_normalize_match_onnxruntime(name: str, tmp_path: Path) -> None:
    make, preset = GRAPHS[name]
    net = make()
    layout = "NHWC" if net.dims == NHWC else "NCHW"
    x = pixels(2, SIZE, SIZE, 3) if layout == "NHWC" else pixels(2, 3, SIZE, SIZE)
    x = x if preset == "pixels" else x / 255
    model = closed(net).model()
    expected = run(model, x)
    network = assert_same(saved(model, tmp_path / "net.onnx"), x, expected, layout)
    assert (network.preset.name, network.preset_stated) == (preset, preset == "pixels")
    if preset == "pixels":
        nhwc = x if layout == "NHWC" else x.transpose(0, 2, 3, 1)
        assert_close(network(nhwc.astype(np.uint8)), expected)
    network.to_onnx(tmp_path / "again.onnx", size=SIZE)
    nchw = x.transpose(0, 3, 1, 2) if layout == "NHWC" else x
    assert_close(run(tmp_path / "again.onnx", nchw), expected)
    again = assert_same(tmp_path / "again.onnx", nchw, expected)
    assert (again.preset, again.preset_stated) == (network.preset, network.preset_stated)


def test_uint8_images_are_pixels(tmp_path: Path) -> None:
    net = closed(Net().add("Cast", to=TensorProto.FLOAT).add("Sub", np.float32(128)))
    model = net.model()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.UINT8, net.dims))
    x = pixels(2, 3, SIZE, SIZE).astype(np.uint8)
    network = assert_same(saved(model, tmp_path / "net.onnx"), x, run(model, x))
    assert (network.preset.name, network.preset_stated) == ("pixels", True)


class Normalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(column(MEAN)))
        self.register_buffer("std", torch.from_numpy(column(STD)))
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net((x.flip(1) / 255 - self.mean) / self.std)  # type: ignore[no-any-return]


@pytest.mark.parametrize("dynamo", [False, True])
def test_exports_that_normalize_match_pytorch(dynamo: bool, tmp_path: Path) -> None:
    module = Normalized().eval()
    x = pixels(2, 3, SIZE, SIZE)
    path = exported(module, tmp_path / "m.onnx", torch.from_numpy(x), dynamo=dynamo)
    network = assert_same(path, x, module(torch.from_numpy(x)).detach().numpy())
    assert network.weights.normalization is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Net().add("Sub", column([1, 2])), r"sub_0.*expected \[3\], got \[2\]"),
        (lambda: Net().add("Sub", np.ones((1, 3, SIZE, SIZE), np.float32)), "a number per channel"),
        (lambda: Net().add("Div", column([1, 0, 1])), "numbers other than 0"),
        (lambda: Net().add("Div", np.float32(1), left=True), "numbers other than 0"),
        (lambda: Net().add("Mul", np.float32(0)), "scales other than 0"),
        (lambda: Net().add("Mul", np.float32(np.inf)), "finite"),
        (lambda: Net().add("Gather", np.array([0, 2, 1]), axis=1), "channels in reverse"),
        (lambda: Net().add("Gather", np.arange(SIZE)[::-1].copy(), axis=2), "channels in reverse"),
        (lambda: Net().add("Slice", *last(-1, -(2**63), 2, -1)), "channels in reverse"),
        (lambda: Net().add("BatchNormalization", STD, MEAN, MEAN, np.ones(4, np.float32)), "got"),
        (lambda: Net().add("BatchNormalization", STD, MEAN, MEAN, -STD), "variances >= 0"),
    ],
)
def test_other_input_layers_are_refused(
    make: Callable[[], Net], message: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=message):
        load_weights(saved(closed(make()).model(), tmp_path / "net.onnx"))


def test_native_files_keep_input_layers(tmp_path: Path) -> None:
    model = closed(GRAPHS["flip"][0]()).model()
    found = load_weights(saved(model, tmp_path / "net.onnx"))
    save(found, tmp_path / "net.safetensors")
    again = load_weights(tmp_path / "net.safetensors")
    assert (again.normalization, again.preset_stated) == (found.normalization, True)
    x = pixels(1, SIZE, SIZE, 3)
    np.testing.assert_array_equal(VGG(again, device="cpu")(x), VGG(found, device="cpu")(x))
