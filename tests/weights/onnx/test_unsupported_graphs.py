"""ONNX graphs that are not a VGG: one error each, which names the node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_graphs import AXES, Net, saved
from support.weight_files import refused

from vgg_cuda.weights import WeightsError, load_weights
from vgg_cuda.weights.chain.layers import UnsupportedError
from vgg_cuda.weights.onnx.nodes import own_name

Refused = tuple[Callable[[Net], Net], str]


def _residual(net: Net) -> Net:
    net.conv(3, 4)
    before = net.value
    return net.conv(4, 4).add("Add", before)


def _twice(net: Net) -> Net:
    net.features().add("Flatten").head()
    net.nodes.append(net.nodes[0])
    return net


def _branch(net: Net) -> Net:
    condition = net.constant("yes", np.array(True))
    then = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["t"])], "t", [],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)],
    )  # fmt: skip
    net.nodes.append(
        helper.make_node("If", [condition], ["i"], name="i", then_branch=then, else_branch=then)
    )
    net.value = "i"
    return net.features()


def _quantised(net: Net) -> Net:
    scale, zero = np.float32(0.1), np.uint8(0)
    net.add("QuantizeLinear", scale, zero).add("DequantizeLinear", scale, zero)
    return net.features()


def _int8_weights(net: Net) -> Net:
    w = net.make("DequantizeLinear", [np.ones((4, 3, 3, 3), np.int8), np.float32(1)])
    return net.add("Conv", w, pads=[1, 1, 1, 1]).add("Relu")


GRAPHS: dict[str, Refused] = {
    "filled-weights-too-large": (
        lambda n: _filled(n, 2**20, 3, 3, 2**20), r"expected at most 268435456 equal elements"),
    "filled-weights-negative": (lambda n: _filled(n, -1, 3, 3, 3), r"got \[-1, 3, 3, 3\]"),
    "named-by-scope": (lambda n: _scoped(n), r"stem\.act \(Tanh\): expected an op"),
    "fused-residual": (
        lambda n: n.conv(3, 4).add("FusedConv", n.random(4, 4, 3, 3), n.random(4), n.value,
                                   domain="com.microsoft"), "without branches"),
    "operation": (lambda n: n.conv(3, 4).add("Tanh"), r"tanh_2 \(Tanh\): expected an op"),
    "residual": (_residual, r"add_4 \(Add\): expected a chain .*, got a join of relu_\d:0 and"),
    "concatenation": (
        lambda n: n.conv(3, 4).add("Concat", "x", axis=1), r"concat_2 \(Concat\): .* branches"
    ),
    "subgraph": (_branch, r"i \(If\): expected an operation on the images"),
    "custom-domain": (
        lambda n: n.conv(3, 4).add("Relu", domain="mine.ops"), r"mine\.ops\.Relu\): expected an op"
    ),
    "quantised": (_quantised, r"quantizelinear_0 \(QuantizeLinear\)"),
    "int8-weights": (_int8_weights, r"dequantizelinear_0 .*expected an operation on the images"),
    "kernel-5": (
        lambda n: n.add("Conv", n.random(4, 3, 5, 5), pads=[2, 2, 2, 2]),
        r"conv_0 \(Conv\): expected a 3x3 convolution .* got 5x5 with padding \[2, 2, 2, 2\]",
    ),
    "kernel-1d": (lambda n: n.add("Conv", n.random(4, 3, 3)), r"conv_0 .*\[K, C, 3, 3\]"),
    "kernel_shape-lies": (lambda n: n.conv(3, 4, kernel_shape=[5, 5]), r"conv_0 .*\[K, C, 3, 3\]"),
    "padding": (lambda n: n.conv(3, 4, pads=[0, 0, 0, 0]), r"conv_0 .*padding \[0, 0, 0, 0\]"),
    "padding-one-side": (lambda n: n.conv(3, 4, pads=[1, 1, 0, 0]), r"padding \[1, 1, 0, 0\]"),
    "auto_pad-valid": (
        lambda n: n.conv(3, 4, pads=None, auto_pad="VALID"), r"conv_0 .*padding \[0, 0, 0, 0\]"
    ),
    "auto_pad-unknown": (lambda n: n.conv(3, 4, pads=None, auto_pad="MAYBE"), "got b'MAYBE'"),
    "stride": (lambda n: n.conv(3, 4, strides=[2, 2]), r"conv_0 .*strides \[2, 2\]"),
    "dilation": (lambda n: n.conv(3, 4, dilations=[2, 2]), r"conv_0 .*dilations \[2, 2\]"),
    "group": (lambda n: n.conv(1, 3, group=3), r"conv_0 .*group 3"),
    "channels": (
        lambda n: n.conv(3, 4).conv(5, 4), r"conv_2 .*weights for 4 channels, got \[4, 5, 3, 3\]"
    ),
    "image-channels": (lambda n: n.conv(4, 4), r"conv_0 .*weights for 3 channels"),
    "bias": (
        lambda n: n.add("Conv", n.random(4, 3, 3, 3), n.random(5), pads=[1, 1, 1, 1]),
        r"conv_0: bias: expected \[4\], got \[5\]",
    ),
    "integer-weights": (
        lambda n: n.add("Conv", np.ones((4, 3, 3, 3), np.int32), pads=[1] * 4), "got int32"
    ),
    "unknown-attribute": (lambda n: n.conv(3, 4, wings=2), r"conv_0 .*unexpected attribute wings"),
    "pool-3": (lambda n: n.conv(3, 4).maxpool(kernel_shape=[3, 3]), r"maxpool_2 .*2x2 max-pool"),
    "pool-overlaps": (lambda n: n.conv(3, 4).maxpool(strides=[1, 1]), r"strides \[1, 1\]"),
    "pool-default-strides": (
        lambda n: n.conv(3, 4).add("MaxPool", kernel_shape=[2, 2]), r"strides \[1, 1\]"
    ),
    "pool-padded": (lambda n: n.conv(3, 4).maxpool(pads=[1, 1, 1, 1]), r"padding \[1, 1, 1, 1\]"),
    "pool-dilated": (lambda n: n.conv(3, 4).maxpool(dilations=[2, 2]), r"dilations \[2, 2\]"),
    "pool-to-nothing": (
        lambda n: n.features().maxpool().maxpool(), r"maxpool_7 .*2x2 pixels or more, got \[N, 6, 1"
    ),
    "pool-indices": (
        lambda n: _second_output(n.conv(3, 4).maxpool()), "expected a use of its first result only"
    ),
    "leaky": (lambda n: n.conv(3, 4, relu=False).add("LeakyRelu", alpha=0.1), "LeakyRelu"),
    "relu-6": (
        lambda n: n.conv(3, 4, relu=False).add("Clip", np.float32(0), np.float32(6)),
        r"clip_1 \(Clip\): expected a ReLU .*got 0.0 and 6.0",
    ),
    "maximum-of-1": (
        lambda n: n.conv(3, 4, relu=False).add("Max", np.float32(1)),
        r"max_1 \(Max\): expected a ReLU, the maximum of a value and 0, got 1\.0",
    ),
    "maximum-of-several": (
        lambda n: n.conv(3, 4, relu=False).add("Max", np.float32(0), np.float32(0)),
        r"max_1 \(Max\): expected a ReLU, the maximum of a value and 0$",
    ),
    "maximum-per-channel": (
        lambda n: n.conv(3, 4, relu=False).add("Max", np.zeros((4, 1, 1), np.float32)),
        r"max_1 \(Max\): expected a ReLU, the maximum of a value and 0$",
    ),
    "average-pool-halves": (
        lambda n: n.conv(3, 4).add("AveragePool", kernel_shape=[2, 2]), "expected an average pool"
    ),
    "average-pool-not-square": (
        lambda n: n.conv(3, 4).add("AveragePool", kernel_shape=[2, 4], strides=[2, 4]),
        "expected an average pool to a square grid",
    ),
    "training-batch-norm": (
        lambda n: n.conv(3, 4, relu=False).add(
            "BatchNormalization", *(np.ones(4, np.float32),) * 4, training_mode=1
        ),
        r"batchnormalization_1 .*inference",
    ),
    "batch-norm-after-relu": (
        lambda n: n.conv(3, 4).add("BatchNormalization", *(np.ones(4, np.float32),) * 4)
        .add("Relu"),
        r"batchnormalization_2: .*got a batch norm after relu_1 .* before relu_3 ",
    ),
    "training-dropout": (
        lambda n: n.features().add("Dropout", np.float32(0.5), np.array(True)), "training_mode"
    ),
    "dense-without-flatten": (
        lambda n: n.features().add("Gemm", n.random(3, 2), transB=1), r"gemm_6 .*a Flatten before"
    ),
    "dense-of-pixels": (
        lambda n: n.features().add("MatMul", n.random(2, 3)), r"matmul_6 .*bins of an adaptive"
    ),
    "half-an-adaptive-pool": (
        lambda n: n.features().add("MatMul", np.full((2, 1), 0.5, np.float32)).add("Flatten")
        .gemm(12, 3), r"flatten_7 .*second MatMul"
    ),
    "weights-too-narrow": (
        lambda n: n.features().add("Flatten").gemm(23, 3), r"gemm_7 .*for 24 ch.*got \[3, 23\]"
    ),
    "gemm-scaled": (
        lambda n: n.features().add("Flatten").add("Gemm", n.random(3, 24), transB=1, alpha=2.0),
        r"gemm_7 .*alpha 1",
    ),
    "gemm-bias": (
        lambda n: n.features().add("Flatten").add("Gemm", n.random(3, 24), n.random(4), transB=1),
        r"gemm_7 .*bias \[3\], got \[4\]",
    ),
    "gemm-of-a-number": (
        lambda n: n.features().add("Flatten").add("Gemm", np.float32(1), n.random(3)),
        r"gemm_7 .*expected weights \[K, C\], got \[\]",
    ),
    "weights-left": (
        lambda n: n.features().add("Flatten").add("MatMul", n.random(4, 24), left=True), "right"
    ),
    "bias-after-relu": (
        lambda n: n.conv(3, 4).add("Add", n.random(4, 1, 1)).add("Relu"),
        r"add_2: .*got a scale and shift after .* and before relu_3 ",
    ),
    "reshape-into-the-batch": (
        lambda n: n.features().add("Reshape", np.array([-1, 12])).gemm(12, 3), r"got \[-1, 12\]"
    ),
    "reshape-to-floats": (
        lambda n: n.features().add("Reshape", np.array([np.nan, 24.0])), "expected a few integers"
    ),
    "second-bias": (
        lambda n: n.add("Conv", n.random(4, 3, 3, 3), n.random(4, 5), pads=[1] * 4)
        .add("Add", n.random(4, 1, 1)), r"add_1 .*bias \[4\], got \[4, 5\]",
    ),
    "attribute-of-another-type": (
        lambda n: n.conv(3, 4, group=1.5), r"conv_0 \(Conv\): unexpected attribute group"
    ),
    "attribute-of-text": (
        lambda n: n.features().add("Flatten", axis="one"), r"flatten_6 .*attribute axis"
    ),
    "reshape-to-one": (
        lambda n: n.features().add("Reshape", np.array([1, 24])).head(), r"flattening of \[N, 6, 2"
    ),
    "flatten-axis": (lambda n: n.features().add("Flatten", axis=2), "expected axis 1, got 2"),
    "flatten-headless": (
        lambda n: n.features().add("Flatten"), r"flatten_6: expected a dense layer"
    ),
    "transpose": (
        lambda n: n.add("Transpose", perm=[0, 1, 3, 2]).features(), r"transpose_0 .*NCHW or NHWC"
    ),
    "conv-of-channels-last": (
        lambda n: n.conv(3, 4).add("Transpose", perm=[0, 2, 3, 1]).conv(4, 4), "input as NCHW"
    ),
    "mean-of-channels": (
        lambda n: n.features().add("ReduceMean", axes=[1], keepdims=0), "height and width as axes"
    ),
    "mean-of-strange-axes": (
        lambda n: n.features().add("ReduceMean", axes=[2, 9], keepdims=0), "expected axes"
    ),
    "squeeze-pixels": (lambda n: n.features().add("Squeeze", AXES), "from a global pool"),
    "softmax-of-pixels": (lambda n: n.features().add("Softmax", axis=1), "over the classes"),
    "softmax-of-the-batch": (
        lambda n: n.features().add("Flatten").head().add("Softmax", axis=0), "over the classes"
    ),
    "after-softmax": (
        lambda n: n.features().add("Flatten").head().add("Softmax").gemm(3, 3), r"gemm_11"
    ),
    "relu-after-a-mean": (
        lambda n: n.conv(3, 4, relu=False).add("GlobalAveragePool").add("Relu").add("Flatten"),
        r"relu_2: .*a ReLU before the average",
    ),
    "no-convolution": (lambda n: n.add("Flatten").gemm(192, 3), "expected"),
    "two-makers": (_twice, "expected one node to compute this value, got two"),
    "weights-not-constant": (
        lambda n: n.features().add("Flatten").add("Gemm", n.value), r"gemm_7 .*expected a constant"
    ),
    "shape-from-nowhere": (
        lambda n: n.features().add("Reshape", "nowhere").head(), "nowhere: expected a constant"
    ),
    "constant-too-deep": (lambda n: _deep(n), "expected a constant or a shape"),
    "constants-that-double": (lambda n: _doubling(n), "expected arithmetic on shapes only"),
    "constants-that-broadcast": (
        lambda n: n.features().add("Flatten").add("Gemm", n.make("Mul", [
            np.ones((5000, 1), np.float32), np.ones((1, 5000), np.float32)])), "on shapes only"
    ),
    "opset-6": (lambda n: _opset(n, 6), "expected an opset from 7 to"),
    "opset-of-tomorrow": (lambda n: _opset(n, 99), "expected an opset .* got 99"),
}  # fmt: skip


def _second_output(net: Net) -> Net:
    net.nodes[-1].output.append("indices")
    net.value = "indices"
    return net


def _deep(net: Net) -> Net:
    net.features()
    shape = net.constant("shape", np.array([0, -1]))
    for _ in range(3000):
        shape = net.make("Identity", [shape])
    return net.add("Reshape", shape).head()


def _doubling(net: Net) -> Net:
    net.features()
    shape = net.constant("shape", np.array([0, -1]))
    for _ in range(60):
        shape = net.make("Concat", [shape, shape], axis=0)
    return net.add("Reshape", shape).head()


def _filled(net: Net, *shape: int) -> Net:
    weights = net.make("ConstantOfShape", [np.array(shape)])
    return net.add("Conv", weights, pads=[1, 1, 1, 1])


def _scoped(net: Net) -> Net:
    net.conv(3, 4).add("Tanh")
    scopes = "['', 'stem', 'stem.act', 'tanh']"
    net.nodes[-1].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    return net


def _opset(net: Net, version: int) -> Net:
    net.opset = version
    return net.features()


NAMES = {
    "node": ("", "act", "act"),
    "torch-path": ("", "/features/features.0/Relu", "features.0"),
    "tensorflow-path": ("", "model/dense_1/Relu_2", "dense_1"),
    "tensorflow-norm": ("", "model/bn/batchnorm/Relu", "bn"),
    "weight": ("features.3.weight", "node_Conv_3", "features.3"),
    "other-weight": ("onnx::Conv_80", "/features/features.0/Relu", "features.0"),
}


@pytest.mark.parametrize(("weight", "name", "expected"), NAMES.values(), ids=NAMES.keys())
def test_layers_have_the_names_of_the_model(weight: str, name: str, expected: str) -> None:
    assert own_name(helper.make_node("Relu", ["x", weight], ["y"], name=name)) == expected


@pytest.mark.parametrize("name", GRAPHS)
def test_unsupported_graph_names_the_node(tmp_path: Path, name: str) -> None:
    build, expected = GRAPHS[name]
    content = build(Net()).model().SerializeToString()
    message = refused(tmp_path, content, "m.onnx")
    with pytest.raises(WeightsError, match=expected):
        raise WeightsError(message)


def test_unsupported_graph_raises_unsupported_error(tmp_path: Path) -> None:
    path = saved(Net().conv(3, 4).add("Sigmoid").model(), tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError):
        load_weights(path)
