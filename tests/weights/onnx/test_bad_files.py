"""ONNX files that are not a VGG, broken or hostile: one clear error each, bounded memory."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.memory import peak_kib, reset_peak
from support.onnx_graphs import AXES, Net, plain, saved
from support.weight_files import refused

from vgg_cuda import VGG
from vgg_cuda.configs import Config
from vgg_cuda.weights import WeightsError, he_weights, load_weights, save_onnx
from vgg_cuda.weights.chain.layers import UnsupportedError
from vgg_cuda.weights.onnx import file, wire

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
    "operation": (lambda n: n.conv(3, 4).add("Sigmoid"), r"sigmoid_2 \(Sigmoid\): expected an op"),
    "normalised-inside": (
        lambda n: n.add("Sub", n.random(3, 1, 1)).conv(3, 4), r"sub_0 \(Sub\): expected an op"
    ),
    "residual": (_residual, r"add_4 \(Add\): expected a chain .*, it joins relu_\d:0 and"),
    "concatenation": (
        lambda n: n.conv(3, 4).add("Concat", "x", axis=1), r"concat_2 \(Concat\): .* branches"
    ),
    "subgraph": (_branch, r"i \(If\): constants of this operation are not supported"),
    "custom-domain": (
        lambda n: n.conv(3, 4).add("Relu", domain="mine.ops"), r"mine\.ops\.Relu\): expected an op"
    ),
    "quantised": (_quantised, r"quantizelinear_0 \(QuantizeLinear\)"),
    "int8-weights": (_int8_weights, r"dequantizelinear_0 .*constants of this"),
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
        r"conv_0 \(Conv\): bias: expected \[4\], got \[5\]",
    ),
    "integer-weights": (
        lambda n: n.add("Conv", np.ones((4, 3, 3, 3), np.int32), pads=[1] * 4), "got int32"
    ),
    "unknown-attribute": (lambda n: n.conv(3, 4, wings=2), r"conv_0 \(Conv\): attribute wings"),
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
        lambda n: _second_output(n.conv(3, 4).maxpool()), "only its first result"
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
    "batch-norm-first": (
        lambda n: n.add("BatchNormalization", *(np.ones(3, np.float32),) * 4).conv(3, 4),
        r"batchnormalization_0",
    ),
    "batch-norm-after-relu": (
        lambda n: n.conv(3, 4).add("BatchNormalization", *(np.ones(4, np.float32),) * 4),
        r"batchnormalization_2 .*batch norms right after",
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
        lambda n: n.conv(3, 4).add("Add", n.random(4, 1, 1)), r"add_2 .*right after a convolution"
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
        lambda n: n.conv(3, 4, group=1.5), r"conv_0 \(Conv\): attribute group"
    ),
    "attribute-of-text": (
        lambda n: n.features().add("Flatten", axis="one"), r"flatten_6 .*attribute axis"
    ),
    "reshape-to-one": (
        lambda n: n.features().add("Reshape", np.array([1, 24])).head(), r"flattening of \[N, 6, 2"
    ),
    "flatten-axis": (lambda n: n.features().add("Flatten", axis=2), "expected axis 1, got 2"),
    "flatten-headless": (
        lambda n: n.features().add("Flatten"), r"flatten_6 \(Flatten\): expected a dense layer"
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
        r"relu_2 .*a ReLU before the average",
    ),
    "no-convolution": (lambda n: n.add("Flatten").gemm(192, 3), "expected"),
    "two-makers": (_twice, "two nodes make this value"),
    "weights-not-constant": (
        lambda n: n.features().add("Flatten").add("Gemm", n.value), r"gemm_7 .*expected a constant"
    ),
    "shape-from-nowhere": (
        lambda n: n.features().add("Reshape", "nowhere").head(), "nowhere: expected a constant"
    ),
    "constant-too-deep": (lambda n: _deep(n), "expected a constant or a shape"),
    "constants-that-double": (lambda n: _doubling(n), "supported for shapes only"),
    "constants-that-broadcast": (
        lambda n: n.features().add("Flatten").add("Gemm", n.make("Mul", [
            np.ones((5000, 1), np.float32), np.ones((1, 5000), np.float32)])), "for shapes only"
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


def _opset(net: Net, version: int) -> Net:
    net.opset = version
    return net.features()


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_that_are_no_vgg(tmp_path: Path, name: str) -> None:
    build, expected = GRAPHS[name]
    content = build(Net()).model().SerializeToString()
    message = refused(tmp_path, content, "m.onnx")
    with pytest.raises(WeightsError, match=expected):
        raise WeightsError(message)


def test_graph_that_is_no_vgg_raises_its_own_type(tmp_path: Path) -> None:
    path = saved(Net().conv(3, 4).add("Sigmoid").model(), tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError):
        load_weights(path)


def _cycle(model: Any) -> None:
    model.graph.node[0].input[0] = model.graph.node[3].output[0]


def _typed(kind: int) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        model.graph.input[0].type.tensor_type.elem_type = kind

    return edit


def _functions(*bodies: tuple[str, list[str]]) -> Callable[[Any], None]:
    """Add functions of one operand that call each other; the first one reads conv_0's result."""

    def edit(model: Any) -> None:
        for name, calls in bodies:
            nodes = [
                helper.make_node(
                    call, [f"v{i}"], [f"v{i + 1}"], domain="" if call == "Relu" else "f"
                )
                for i, call in enumerate(calls)
            ]
            imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
            model.functions.append(
                helper.make_function("f", name, ["v0"], [f"v{len(calls)}"], nodes, imports)
            )
        model.opset_import.add(domain="f", version=1)
        node = model.graph.node[1]
        node.domain, node.op_type = "f", bodies[0][0]

    return edit


def _first(model: Any) -> Any:
    return model.graph.initializer[0]


EDITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "cycle": (_cycle, r"relu_1 \(Relu\)|conv_3 \(Conv\)|cycle"),
    "two-inputs": (
        lambda m: m.graph.input.append(
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
        ), "expected one input, got 2: x, y",
    ),
    "two-outputs": (
        lambda m: m.graph.output.append(m.graph.output[0]), "expected one output, got 2"
    ),
    "no-output": (lambda m: m.graph.ClearField("output"), "expected one output, got 0"),
    "no-graph": (lambda m: m.ClearField("graph"), "it has no graph"),
    "no-opset": (lambda m: m.ClearField("opset_import"), "expected an opset .* got none"),
    "bytes-as-images": (_typed(TensorProto.UINT8), "x: expected floating-point images"),
    "images-of-gigapixels": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 2**31),
        "x: expected images of at most 8192 x 8192 pixels, got a side of 2147483648",
    ),
    "rank": (lambda m: m.graph.input[0].type.tensor_type.shape.dim.pop(), "rank 4, got rank 3"),
    "no-shape": (
        lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), "got rank unknown"
    ),
    "sparse": (lambda m: m.graph.sparse_initializer.add(), "dense weights, got sparse"),
    "dims-of-terabytes": (
        lambda m: _first(m).dims.append(2**40), r"conv_0.0: expected \d+ bytes for .*, got 432"
    ),
    "dims-negative": (lambda m: _first(m).dims.append(-1), "expected a whole tensor"),
    "dims-many": (lambda m: _first(m).dims.extend([1] * 2000), "expected a whole tensor"),
    "too-few-bytes": (
        lambda m: setattr(_first(m), "raw_data", b"1234"), r"conv_0.0: expected 432 bytes .* got 4"
    ),
    "no-bytes": (lambda m: _first(m).ClearField("raw_data"), "expected 108 elements .* got 0"),
    "segment": (lambda m: setattr(_first(m).segment, "begin", 1), "expected a whole tensor"),
    "strings": (lambda m: setattr(_first(m), "data_type", 8), "conv_0.0: .*got string"),
    "float8": (lambda m: setattr(_first(m), "data_type", 17), "conv_0.0: .*got float8e4m3fn"),
    "type-of-tomorrow": (lambda m: setattr(_first(m), "data_type", 999), "got type 999"),
    "not-finite": (
        lambda m: _first(m).CopyFrom(
            numpy_helper.from_array(np.full((4, 3, 3, 3), np.nan, np.float32), "conv_0.0")
        ), r"conv_0 \(Conv\): weight: expected finite values",
    ),
    "beyond-float32": (
        lambda m: _first(m).CopyFrom(
            numpy_helper.from_array(np.full((4, 3, 3, 3), 1e300), "conv_0.0")
        ), r"conv_0 \(Conv\): weight: expected finite values",
    ),
    "16-bits-of-more": (
        lambda m: _first(m).CopyFrom(
            TensorProto(name="conv_0.0", dims=[4, 3, 3, 3], data_type=10, int32_data=[70000] * 108)
        ), "expected the bits of 16-bit numbers",
    ),
    "recursive-function": (_functions(("a", ["a"])), "a: expected functions without recursion"),
    "functions-in-a-circle": (_functions(("a", ["b"]), ("b", ["a"])), "calls itself"),
    "functions-that-double": (
        _functions(*((f"a{i}", [f"a{i + 1}"] * 10) for i in range(12)), ("a12", ["Relu"])),
        "expected at most 10000 nodes, its functions make more",
    ),
    "function-in-onnx's-name": (
        lambda m: m.functions.append(
            helper.make_function("", "Relu", ["a"], ["a"], [], [helper.make_opsetid("", 17)])
        ), "expected functions outside of ONNX's own domain",
    ),
    "attribute-of-a-function-left-open": (
        lambda m: m.graph.node[0].attribute.append(
            onnx.AttributeProto(name="group", ref_attr_name="g", type=2)
        ), "attribute group",
    ),
    "name-that-is-no-text": (
        lambda m: setattr(m.metadata_props.add(), "key", "vgg_cuda"), "expected JSON"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_models_that_are_broken(tmp_path: Path, name: str) -> None:
    edit, expected = EDITS[name]
    model = plain().model()
    edit(model)
    message = refused(tmp_path, model.SerializeToString(), "m.onnx")
    with pytest.raises(WeightsError, match=expected):
        raise WeightsError(message)


def _beside(location: str, **entries: str) -> Any:
    """Return a model whose first weights are in ``location``."""
    model = plain().model()
    tensor = _first(model)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "432", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model


OUTSIDE = "expected its data in a file beside the model"
BESIDE: dict[str, tuple[str, dict[str, str], str]] = {
    "absolute": ("/etc/passwd", {}, OUTSIDE),
    "above": ("../secret.bin", {}, OUTSIDE),
    "above-from-a-folder": ("folder/../../secret.bin", {}, OUTSIDE),
    "windows": ("C:\\secret.bin", {}, OUTSIDE),
    "windows-above": ("..\\secret.bin", {}, OUTSIDE),
    "windows-share": ("\\\\host\\secret.bin", {}, OUTSIDE),
    "nul": ("w.bin\0.txt", {}, OUTSIDE),
    "empty": ("", {}, OUTSIDE),
    "link": ("link.bin", {}, "is a link elsewhere"),
    "link-to-a-folder": ("linked/secret.bin", {}, "is a link elsewhere"),
    "folder": ("folder", {}, "regular file"),
    "itself": (".", {}, "regular file"),
    "pipe": ("pipe", {}, "regular file"),
    "missing": ("nothing.bin", {}, "cannot be read"),
    "offset-beyond": ("w.bin", {"offset": "4096"}, "at byte 4096 of w.bin, which has 432"),
    "offset-huge": ("w.bin", {"offset": "9" * 18}, "which has 432"),
    "offset-negative": ("w.bin", {"offset": "-4"}, "expected a number of bytes, got -4"),
    "offset-endless": ("w.bin", {"offset": "9" * 5000}, "expected a number of bytes"),
    "length-short": ("w.bin", {"length": "4"}, "expected 432 bytes .* got 4"),
    "nothing-in-it": ("void.bin", {}, "which has 0"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_files_beside_the_model(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(432))
    (folder / "w.bin").write_bytes(bytes(432))
    (folder / "void.bin").touch()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    location, entries, expected = BESIDE[name]
    message = refused(folder, _beside(location, **entries).SerializeToString(), "m.onnx")
    with pytest.raises(WeightsError, match=expected):
        raise WeightsError(message)


def test_the_good_file_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(432))
    (tmp_path / "l.bin").symlink_to("w.bin")
    for location in ("w.bin", "./w.bin", "l.bin"):
        weights = load_weights(saved(_beside(location), tmp_path / "m.onnx"))
        assert not weights.tensors["conv1_1.weight"].any()


# --- bytes ---------------------------------------------------------------------------------------


def test_format_is_detected_from_the_content(tmp_path: Path) -> None:
    path = saved(plain().model(), tmp_path / "weights.safetensors")
    assert load_weights(path).config.head == (5, 3)
    text = b"hello, I am a text file"
    assert "not a readable ONNX file" in refused(tmp_path, text, "text.onnx")
    assert "the file is empty" in refused(tmp_path, b"", "empty.onnx")
    assert not file.matches(b"\x08")
    assert not file.matches(b"\x08\x08\x08\x08")


@pytest.mark.parametrize("kept", [3, 10, 100, 700, -1, -100])
def test_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    content = plain().model().SerializeToString()
    message = refused(tmp_path, content[:kept], "m.onnx")
    assert "damaged or truncated" in message or "it has no graph" in message or "opset" in message


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


HEAD = b"\x08\x08"
BYTES = {
    "length-beyond-the-file": HEAD + b"\x3a" + _varint(2**40) + b"x",
    "length-beyond-64-bits": HEAD + b"\x3a" + b"\xff" * 9 + b"\x7f" + b"x",
    "varint-without-end": HEAD + b"\x28" + b"\xff" * 20,
    "field-0": HEAD + b"\x3a\x02\x00\x00",
    "groups": HEAD + b"\x3a\x04\x0b\x0b\x0c\x0c",
    "elements-in-two-parts": HEAD + b"\x3a\x0a\x2a\x08\x4a\x02ab\x4a\x02cd",
    "zeros": HEAD + b"\x3a" + bytes(64),
    "graph-of-text": HEAD + b"\x3a\x05hello",
}


@pytest.mark.parametrize("content", BYTES.values(), ids=BYTES.keys())
def test_bytes_that_are_no_model_are_refused(tmp_path: Path, content: bytes) -> None:
    assert "not a readable ONNX file" in refused(tmp_path, content, "m.onnx")


def test_file_that_would_expand_is_refused_early(tmp_path: Path) -> None:
    nodes = b"\x0a\x00" * (wire.MAX_FIELDS + 1)  # each two bytes, each a message
    content = HEAD + b"\x3a" + _varint(len(nodes)) + nodes
    values = b"\x6a\x00" * wire.MAX_REST  # value_info, which is not walked
    rest = HEAD + b"\x3a" + _varint(len(values)) + values
    reset_peak()
    before = peak_kib()
    assert "expected at most 200000 fields" in refused(tmp_path, content, "m.onnx")
    assert "fields" in refused(tmp_path, rest, "m.onnx")
    assert peak_kib() - before < 400_000


def test_damaged_files_never_crash(tmp_path: Path) -> None:
    content = bytearray(plain().model().SerializeToString())
    rng = random.Random(0)
    path, messages = tmp_path / "m.onnx", []
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        if rng.random() < 0.3:
            at = rng.randrange(len(damaged))
            del damaged[at : at + rng.randint(1, 40)]
        path.write_bytes(damaged)
        try:
            VGG(load_weights(path), device="cpu")
        except WeightsError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert not any("\n" in message or len(message) > 900 for message in messages)


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
def test_export_for_a_wrong_size_is_refused(tmp_path: Path, size: Any, expected: str) -> None:
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
    assert run.stdout.count('an ONNX file needs onnx: pip install "vgg-cuda[onnx]"') == 3


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
