"""ONNX files: read as several exporters spell them, and written so that onnxruntime agrees."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.onnx_graphs import Net, assert_same, exported, images, plain, run, saved
from support.tolerance import assert_close
from support.torch_vgg import TimmVGG, TorchVGG
from torch import nn

from vgg_cuda import VGG
from vgg_cuda.configs import Config
from vgg_cuda.images.presets import PRESETS
from vgg_cuda.weights import Weights, he_weights, load_weights, save_onnx, shapes
from vgg_cuda.weights.convert import convert
from vgg_cuda.weights.labels import imagenet_labels

SMALL = "8 M 8 M 16 M 16 16 M 24 M"
WIDTHS = (4, "M", 8, "M", 8, 8, "M", 16, 16, "M", 16, 16, "M")


class Headed(nn.Module):
    """Small features followed by ``end`` and a dense layer."""

    def __init__(self, end: Callable[[Any], Any], features: int = 24) -> None:
        super().__init__()
        self.features = TorchVGG(SMALL, hidden=8, num_classes=2).features
        self.end = end
        self.last = nn.Linear(features, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.end(self.features(x)))


def _mean_view(y: Any) -> Any:
    return nn.functional.adaptive_avg_pool2d(y, 1).view(y.size(0), -1)


def _mean_squeeze(y: Any) -> Any:
    return nn.functional.adaptive_avg_pool2d(y, 1).squeeze(-1).squeeze(-1)


# module, side of the images, dynamic axes, the network's only size
EXPORTS: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, ...], Any]] = {
    "torchvision": (lambda: TorchVGG(SMALL, hidden=8, num_classes=3), 224, (0,), (224, 224)),
    "torchvision-bn": (
        lambda: TorchVGG(SMALL, hidden=8, num_classes=3, batch_norm=True), 224, (0,), (224, 224)
    ),
    "torchvision-448": (lambda: TorchVGG(SMALL, hidden=8, num_classes=3), 448, (), None),
    "torchvision-64": (lambda: TorchVGG(SMALL, hidden=8, num_classes=3), 64, (0,), None),
    "torchvision-32": (lambda: TorchVGG(SMALL, hidden=8, num_classes=3), 32, (0,), None),
    "timm": (lambda: TimmVGG(SMALL, hidden=8, num_classes=3), 224, (0,), (224, 224)),
    "probabilities": (
        lambda: nn.Sequential(TorchVGG(SMALL, hidden=8, num_classes=3), nn.Softmax(-1)),
        224, (0,), (224, 224),
    ),
    "flatten": (lambda: Headed(nn.Flatten(), 24 * 6), (64, 96), (0,), (64, 96)),  # type: ignore[dict-item]
    "mean": (lambda: Headed(lambda y: y.mean((2, 3))), 64, (0, 2, 3), None),
    "mean-view": (lambda: Headed(_mean_view), 64, (0, 2, 3), None),
    "mean-squeeze": (lambda: Headed(_mean_squeeze), 64, (0,), None),
    "features": (lambda: TorchVGG(SMALL, hidden=8).features, 64, (0, 2, 3), None),
}  # fmt: skip

# The newer exporter takes seconds per model. The older one exports an adaptive pool only if its
# grid divides the image.
DYNAMO = ("torchvision-bn", "torchvision-64", "torchvision-32", "timm", "mean-view", "flatten")
CASES = [(name, False) for name in EXPORTS if name not in ("torchvision-64", "torchvision-32")]
CASES += [(name, True) for name in DYNAMO]
SLOW = ("timm", "flatten")  # of the newer exporter: make test reads them from the older one


@pytest.mark.parametrize(
    ("name", "dynamo"),
    [
        pytest.param(
            *(name, dynamo),
            id=f"{name}-{'dynamo' if dynamo else 'script'}",
            marks=[pytest.mark.slow] if dynamo and name in SLOW else [],
        )
        for name, dynamo in CASES
    ],
)
def test_pytorch_exports_are_read(tmp_path: Path, name: str, dynamo: bool) -> None:
    make, side, open_axes, only = EXPORTS[name]
    sides = side if isinstance(side, tuple) else (side, side)
    torch.manual_seed(0)
    module, x = make().eval(), images(2, 3, *sides)
    path = exported(
        module, tmp_path / "m.onnx", torch.from_numpy(x), dynamo=dynamo, open_axes=open_axes
    )
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    network = assert_same(path, x, expected)
    assert network.config.input_size == only
    assert network.activation == ("softmax" if name == "probabilities" else None)
    assert network.labels is None
    if only:
        with pytest.raises(ValueError, match=r"expected H = \d+ and W = \d+ .*got H = 32"):
            network(images(1, 3, 32, 32), layout="NCHW")
    else:
        other = images(1, 3, 96, 64)
        with torch.no_grad():
            expected = module(torch.from_numpy(other)).numpy()
        assert_same(path, other, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_exports_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    module = TorchVGG(SMALL, hidden=8, num_classes=3).to(dtype)
    path = exported(
        module, tmp_path / "m.onnx", torch.zeros(1, 3, 224, 224, dtype=dtype), dynamo=False
    )
    x = images(1, 3, 224, 224)
    with torch.no_grad():
        expected = module.float()(torch.from_numpy(x)).numpy()
    assert_same(path, x, expected)


@pytest.mark.slow
def test_published_networks_get_imagenet_labels(tmp_path: Path) -> None:
    config = Config("vgg11", (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"))
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes(config)}
    save_onnx(Weights(config, zeros), path := tmp_path / "w.onnx")
    assert load_weights(path).labels is None  # this package's files state their labels
    model = onnx.load(path)
    del model.metadata_props[:]
    assert load_weights(saved(model, path)).labels == imagenet_labels()


# --- one network in several spellings, each run by onnxruntime ----------------------------------


def _as_constants(net: Net) -> None:
    for tensor in net.initializers:
        net.nodes.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
    net.initializers.clear()


def _retyped(kind: int) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        for tensor in model.graph.initializer:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(
                helper.make_tensor(
                    tensor.name, kind, array.shape, array.ravel().tolist(), raw=False
                )
            )

    return edit


def _reversed(model: Any) -> None:
    for field in (model.graph.node, model.graph.initializer):
        backwards = list(field)[::-1]
        del field[:]
        field.extend(backwards)


def _weights_as_inputs(model: Any) -> None:
    model.ir_version = 3
    inputs = [
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
    ]
    model.graph.input.extend(inputs)
    _reversed_inputs = list(model.graph.input)[::-1]
    del model.graph.input[:]
    model.graph.input.extend(_reversed_inputs)


EDITS: dict[str, Callable[[Any], None]] = {
    "nodes-and-initialisers-in-any-order": _reversed,
    "float_data": _retyped(TensorProto.FLOAT),
    "float16-int32_data": _retyped(TensorProto.FLOAT16),
    "bfloat16-int32_data": _retyped(TensorProto.BFLOAT16),
    "double_data": _retyped(TensorProto.DOUBLE),
    "weights-as-inputs": _weights_as_inputs,
    "open-image-size": lambda m: m.graph.input[0].type.tensor_type.shape.dim[2].Clear(),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_storage_makes_no_difference(tmp_path: Path, edit: Callable[[Any], None]) -> None:
    model, x = plain().model(), images(2, 3, 8, 8)
    expected = run(model, x)
    path = saved(model, tmp_path / "m.onnx", edit)
    got = VGG(load_weights(path), device="cpu")(x, layout="NCHW")
    rounded = 1e-2 if "16" in next(k for k, v in EDITS.items() if v is edit) else 2e-6
    assert_close(got, expected, rounded)


def _shape_chain(net: Net) -> Net:
    """Add view(x.size(0), -1), as the older exporter writes it."""
    shape = net.make("Shape", [net.value])
    batch = net.make("Gather", [shape, np.int64(0)], axis=0)
    first = net.make("Unsqueeze", [batch, np.array([0])])
    target = net.make("Concat", [first, np.array([-1])], axis=0)
    return net.add("Reshape", target)


def _dynamic_sizes(net: Net) -> Net:
    """Add a reshape to [N, C*H*W] computed from the image size, as the newer exporter writes it."""
    batch = net.make("Shape", ["x"], start=0, end=1)
    rows = net.make("Div", [net.make("Shape", ["x"], start=2, end=3), np.array([4])])
    columns = net.make("Div", [net.make("Shape", ["x"], start=3, end=4), np.array([4])])
    pixels = net.make("Mul", [net.make("Mul", [np.array([6]), rows]), columns])
    return net.add("Reshape", net.make("Concat", [batch, pixels], axis=0), allowzero=1)


def _bias_apart(net: Net) -> Net:
    net.conv(3, 4, relu=False).add("Add", net.random(4, 1, 1)).add("Relu").maxpool()
    net.add("Conv", net.random(6, 4, 3, 3), pads=[1, 1, 1, 1])
    net.add("Add", net.random(1, 6, 1, 1), left=True).add("Relu").maxpool().add("Flatten")
    net.add("MatMul", net.random(24, 5)).add("Add", net.random(5)).add("Relu")
    return net.add("MatMul", net.random(5, 3)).add("Add", net.random(1, 3))


def _norms(net: Net, **attributes: Any) -> Net:
    for c, k in ((3, 4), (4, 6)):
        net.conv(c, k, relu=False)
        positive = np.abs(net.random(k)) + 0.5
        net.add(
            "BatchNormalization", net.random(k) + 1, net.random(k), net.random(k), positive,
            **attributes,
        ).add("Relu").maxpool()  # fmt: skip
    return net.add("Flatten").head()


def _local_function(net: Net) -> Net:
    """Add convolutions as calls of a function that the file defines."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    layer = helper.make_function(
        "mine", "ConvRelu", ["x", "w", "b"], ["z"], nodes, [helper.make_opsetid("", net.opset)]
    )
    net.functions = [layer]
    for c, k in ((3, 4), (4, 6)):
        net.add("ConvRelu", net.random(k, c, 3, 3), net.random(k), domain="mine").maxpool()
    return net.add("Flatten").head()


def _channels_last(net: Net) -> Net:
    net.dims = ("N", 8, 8, 3)
    net.add("Transpose", perm=[0, 3, 1, 2]).features().add("Transpose", perm=[0, 2, 3, 1])
    return net.add("Reshape", np.array([-1, 24])).head()


def _channels_last_between(net: Net) -> Net:
    """Add layers as exported by Keras on PyTorch: NHWC between them, separate biases, casts."""
    net.dims = ("N", 8, 8, 3)
    for c, k in ((3, 4), (4, 6)):
        net.add("Cast", to=1).add("Transpose", perm=[0, 3, 1, 2]).conv(c, k, relu=False)
        net.add("Transpose", perm=[0, 2, 3, 1]).add("Add", net.random(1, 1, 1, k)).add("Relu")
        net.add("Transpose", perm=[0, 3, 1, 2]).maxpool().add("Transpose", perm=[0, 2, 3, 1])
    net.add("Reshape", np.array([-1, 24])).add("MatMul", net.random(24, 3))
    return net.add("Add", net.random(3)).add("Softmax", axis=-1)


def _convolutional_head(net: Net) -> Net:
    net.features().add("Conv", net.random(5, 6, 2, 2), net.random(5)).add("Relu")
    net.add("Conv", net.random(3, 5, 1, 1), net.random(3))
    return net.add("GlobalAveragePool").add("Flatten")


def _ends(net: Net, kind: str, *operands: Any, **attributes: Any) -> Net:
    return net.features().add(kind, *operands, **attributes)


def _clipped(net: Net, *operands: Any, **attributes: Any) -> Net:
    net.conv(3, 4, relu=False).add("Clip", *operands, **attributes).maxpool()
    return net.conv(4, 6).maxpool().add("Flatten").head()


def _maximum(net: Net, zero: Any, left: bool = False) -> Net:
    net.conv(3, 4, relu=False).add("Max", zero, left=left).maxpool()
    return net.conv(4, 6).maxpool().add("Flatten").head()


INFINITE = np.float32(np.inf)
AXES = np.array([2, 3])
SPELLINGS: dict[str, tuple[int, Callable[[Net], Net]]] = {
    "opset-7": (7, lambda n: n.features().add("Flatten").head()),
    "opset-newest": (
        onnx.defs.onnx_opset_version(), lambda n: n.features().add("Flatten").head()
    ),
    "auto_pad-upper": (
        17, lambda n: n.conv(3, 4, pads=None, auto_pad="SAME_UPPER").maxpool()
        .conv(4, 6, pads=None, auto_pad="SAME_LOWER").maxpool().add("Flatten").head()
    ),
    "same-pools-of-even-sizes": (
        17, lambda n: n.conv(3, 4).maxpool(auto_pad="SAME_UPPER").conv(4, 6)
        .maxpool(ceil_mode=1).add("Flatten").head()
    ),
    "every-attribute-spelled-out": (
        17, lambda n: n.conv(3, 4, strides=[1, 1], dilations=[1, 1], group=1, auto_pad="NOTSET")
        .maxpool(pads=[0, 0, 0, 0], ceil_mode=0, dilations=[1, 1], storage_order=0,
                 auto_pad="VALID").conv(4, 6).maxpool().add("Flatten", axis=-3).head()
    ),
    "bias-apart": (17, _bias_apart),
    "batch-norm": (17, lambda n: _norms(n, epsilon=1e-3, momentum=0.9, training_mode=0)),
    "batch-norm-opset-9": (9, _norms),
    "gemm-not-transposed": (
        17, lambda n: n.features().add("Flatten").add("Gemm", n.random(24, 5), n.random(1, 5))
        .add("Gemm", n.random(5, 3))
    ),
    "weights-through-a-transpose": (
        17, lambda n: n.features().add("Flatten")
        .add("MatMul", n.make("Transpose", [n.random(3, 24)], perm=[1, 0]))
    ),
    "weights-through-identity-and-reshape": (
        17, lambda n: n.features().add("Flatten").add("Gemm", n.make("Reshape", [
            n.make("Identity", [n.random(72, 1)]), np.array([24, 3])]))
    ),
    "clip-operands": (17, lambda n: _clipped(n, np.float32(0), INFINITE)),
    "clip-no-maximum": (17, lambda n: _clipped(n, np.float32(0))),
    "maximum": (17, lambda n: _maximum(n, np.float32(0))),
    "maximum-left": (17, lambda n: _maximum(n, np.zeros(1, np.float32), left=True)),
    "clip-attributes": (10, lambda n: _clipped(n, min=0.0)),
    "dropout-identity-cast": (
        17, lambda n: n.add("Identity").features().add("Dropout", np.float32(0.5), np.array(False))
        .add("Flatten").gemm(24, 5).add("Cast", to=1).add("Relu").add("Dropout").gemm(5, 3)
    ),
    "dropout-opset-10": (
        10, lambda n: n.features().add("Dropout", ratio=0.5).add("Flatten").head()
    ),
    "reshape-0-1": (17, lambda n: _ends(n, "Reshape", np.array([0, -1])).head()),
    "reshape-1-24": (17, lambda n: _ends(n, "Reshape", np.array([-1, 24])).head()),
    "reshape-of-a-shape": (17, lambda n: _shape_chain(n.features()).head()),
    "reshape-of-sizes": (17, lambda n: _dynamic_sizes(n.features()).head()),
    "reshape-to-itself": (
        17, lambda n: _ends(n, "Reshape", np.array([0, 6, 2, -1])).add("Flatten").head()
    ),
    "channels-last": (17, _channels_last),
    "softmax-channels-last-between": (17, _channels_last_between),
    "convolutional-head": (17, _convolutional_head),
    "mean-flatten": (17, lambda n: _ends(n, "GlobalAveragePool").add("Flatten").gemm(6, 3)),
    "mean-squeeze": (17, lambda n: _ends(n, "GlobalAveragePool").add("Squeeze", AXES).gemm(6, 3)),
    "mean-squeeze-opset-11": (
        11, lambda n: _ends(n, "GlobalAveragePool").add("Squeeze", axes=[-1, 2]).gemm(6, 3)
    ),
    "mean-of-axes": (17, lambda n: _ends(n, "ReduceMean", axes=[2, 3], keepdims=0).gemm(6, 3)),
    "mean-of-axes-opset-18": (
        18, lambda n: _ends(n, "ReduceMean", np.array([-1, -2])).add("Flatten").gemm(6, 3)
    ),
    "mean-of-channels-last": (
        17, lambda n: _ends(n, "Transpose", perm=[0, 2, 3, 1])
        .add("ReduceMean", axes=[1, 2], keepdims=0).gemm(6, 3)
    ),
    "mean-of-a-window": (
        17, lambda n: _ends(n, "AveragePool", kernel_shape=[2, 2]).add("Flatten").gemm(6, 3)
    ),
    "mean-of-one-pixel": (
        17, lambda n: _ends(n, "AveragePool", kernel_shape=[1, 1], strides=[1, 1]).add("Flatten")
        .gemm(24, 3)
    ),
    "mean-of-halves": (
        17, lambda n: n.conv(3, 4).add("AveragePool", kernel_shape=[4, 4], strides=[4, 4])
        .add("Flatten").gemm(16, 3)
    ),
    "relu-of-a-mean": (
        17, lambda n: _ends(n, "GlobalAveragePool").add("Relu").add("Flatten").gemm(6, 3)
    ),
    "functions": (17, _local_function),
    "softmax": (17, lambda n: n.features().add("Flatten").head().add("Softmax", axis=1)),
    "softmax-opset-11": (11, lambda n: n.features().add("Flatten").head().add("Softmax")),
    "features-alone": (17, lambda n: n.features()),
    "features-without-a-relu": (17, lambda n: n.conv(3, 4).maxpool().conv(4, 6, relu=False)),
    "features-rows": (17, lambda n: n.features().add("Transpose", perm=[0, 2, 3, 1])
                      .add("Flatten")),
    "features-mean": (17, lambda n: _ends(n, "GlobalAveragePool")),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_of_a_network_are_read(tmp_path: Path, name: str) -> None:
    opset, build = SPELLINGS[name]
    net = Net(opset=opset)
    model = build(net).model()
    last = "channels-last" in name and "mean" not in name
    x = images(2, 8, 8, 3) if last else images(2, 3, 8, 8)
    path = saved(model, tmp_path / "m.onnx")
    network = assert_same(path, x, run(model, x), "NHWC" if last else "NCHW")
    assert (network.activation == "softmax") == name.startswith("softmax")
    assert network.config.batch_norm == name.startswith("batch-norm")


def test_nodes_with_empty_or_equal_names(tmp_path: Path) -> None:
    net, x = Net(), images(2, 3, 8, 8)
    model = _bias_apart(net).model()
    expected = run(model, x)
    for name in ("", "layer"):
        for node in model.graph.node:
            node.name = name
        assert_same(saved(model, tmp_path / "m.onnx"), x, expected)


def test_functions_hold_weights(tmp_path: Path) -> None:
    net, x = Net(), images(2, 3, 8, 8)
    w = numpy_helper.from_array(net.random(3, 24), "w")
    nodes = [
        helper.make_node("Constant", [], ["w"], value=w),
        helper.make_node("Flatten", ["x"], ["rows"]),
        helper.make_node("Gemm", ["rows", "w"], ["y"], transB=1),
    ]
    imports = [helper.make_opsetid("", 17)]
    net.functions = [helper.make_function("mine", "Head", ["x"], ["y"], nodes, imports)]
    model = net.features().add("Head", domain="mine").model()
    assert_same(saved(model, tmp_path / "m.onnx"), x, run(model, x))


def test_constant_nodes_hold_weights(tmp_path: Path) -> None:
    net, x = plain(), images(2, 3, 8, 8)
    expected = run(net.model(), x)
    _as_constants(net)
    assert_same(saved(net.model(), tmp_path / "m.onnx"), x, expected)


@pytest.mark.parametrize("kind", ["GlobalMaxPool", "ReduceMax"])
def test_global_maxima_are_read(tmp_path: Path, kind: str) -> None:
    options: dict[str, Any] = {} if kind == "GlobalMaxPool" else {"axes": [2, 3]}
    net, x = Net(), images(2, 3, 8, 8)
    model = net.features().add(kind, **options).add("Flatten").gemm(6, 3).model()
    weights = load_weights(saved(model, tmp_path / "m.onnx"))
    assert (weights.config.reduces, weights.config.pool_grid) == ("max", 1)
    pixels = VGG(weights, device="cpu").features(x, "pool2", layout="NCHW")["pool2"]
    w, bias = weights.tensors["fc6.weight"], weights.tensors["fc6.bias"]
    assert_close(pixels.max((1, 2)) @ w.T + bias, run(model, x))


def test_a_pool_drops_odd_rows(tmp_path: Path) -> None:
    net, x = Net(dims=("N", 3, 9, 11)), images(2, 3, 9, 11)
    model = net.features().add("Flatten").head().model()
    network = assert_same(saved(model, tmp_path / "m.onnx"), x, run(model, x))
    assert network.config.input_size == (9, 11)


# --- files beside the model ----------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False], ids=["one-file", "a-file-each"])
def test_weights_beside_the_model(tmp_path: Path, together: bool) -> None:
    model, x = plain().model(), images(2, 3, 8, 8)
    expected = run(model, x)
    path = tmp_path / "m.onnx"
    onnx.save(
        model, path, save_as_external_data=True, all_tensors_to_one_file=together,
        location="weights.bin" if together else None, size_threshold=0,
    )  # fmt: skip
    assert_same(path, x, expected)
    link = tmp_path / "elsewhere.onnx"
    link.symlink_to(path)
    assert_same(link, x, expected)


def test_network_does_not_depend_on_its_files(tmp_path: Path) -> None:
    model, x = plain().model(), images(2, 3, 8, 8)
    expected = run(model, x)
    path, data = tmp_path / "m.onnx", tmp_path / "weights.bin"
    onnx.save(model, path, save_as_external_data=True, location=data.name, size_threshold=0)
    for file in (path, data):
        weights = load_weights(path)
        file.write_bytes(bytes(file.stat().st_size))  # in place
        assert_close(VGG(weights, device="cpu")(x, layout="NCHW"), expected)
        onnx.save(model, path, save_as_external_data=True, location=data.name, size_threshold=0)


# --- export --------------------------------------------------------------------------------------

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


def test_digits_through_onnx(tmp_path: Path) -> None:
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
def test_full_size_vgg16_through_onnx(tmp_path: Path) -> None:
    network = VGG.from_config("vgg16", device="cpu")
    weights = he_weights(network.config, 0)
    save_onnx(weights, path := tmp_path / "vgg16.onnx")
    x = images(1, 3, 224, 224)
    assert_close(run(path, x), network(x, layout="NCHW"))
    again = load_weights(path)
    assert all(np.array_equal(again.tensors[n], t) for n, t in weights.tensors.items())
