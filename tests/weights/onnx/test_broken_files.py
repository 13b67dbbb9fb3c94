"""Broken and hostile ONNX files: one error each, bounded memory."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.memory import peak_kib, reset_peak
from support.onnx_graphs import plain, saved
from support.weight_files import refused

from vgg_cuda import VGG
from vgg_cuda.weights import WeightsError, load_weights
from vgg_cuda.weights.onnx import file, wire


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
    "bytes-as-images": (_typed(TensorProto.UINT8), "in floating point, or in uint8 with a Cast"),
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
        ), r"conv_0: weight: expected finite values",
    ),
    "beyond-float32": (
        lambda m: _first(m).CopyFrom(
            numpy_helper.from_array(np.full((4, 3, 3, 3), 1e300), "conv_0.0")
        ), r"conv_0: weight: expected finite values",
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
def test_broken_model_is_refused(tmp_path: Path, name: str) -> None:
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
def test_invalid_external_data_is_refused(tmp_path: Path, name: str) -> None:
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


def test_external_data_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(432))
    (tmp_path / "l.bin").symlink_to("w.bin")
    for location in ("w.bin", "./w.bin", "l.bin"):
        weights = load_weights(saved(_beside(location), tmp_path / "m.onnx"))
        assert not weights.tensors["conv1_1.weight"].any()


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
    assert "truncated" in message or "it has no graph" in message or "opset" in message


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
def test_invalid_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    assert "not a readable ONNX file" in refused(tmp_path, content, "m.onnx")


def test_expanding_file_is_refused_early(tmp_path: Path) -> None:
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
