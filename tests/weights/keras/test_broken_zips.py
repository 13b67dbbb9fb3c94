"""Broken and hostile ``.keras`` files: one error each, no execution."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.keras_files import entries, refused, zipped

from vgg_cuda.weights import load_weights


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "\\evil", "C:/evil", ".."]
)
def test_name_outside_of_the_archive_is_refused(tmp_path: Path, files: Any, name: str) -> None:
    (tmp_path / "w").write_bytes(zipped(entries(files["keras"]) | {name: b"evil"}))
    refused(tmp_path / "w", "expected a name inside of the archive")
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_zip_with_other_files_is_read(tmp_path: Path, files: Any) -> None:
    (tmp_path / "w").write_bytes(zipped(entries(files["keras"]) | {"assets/a..b/c.txt": b"words"}))
    load_weights(tmp_path / "w")


def encrypted(content: bytes) -> bytes:
    data = bytearray(content)
    for at in range(len(data) - 4):
        if data[at : at + 4] == b"PK\1\2":
            data[at + 8] |= 1
        elif data[at : at + 4] == b"PK\3\4":
            data[at + 6] |= 1
    return bytes(data)


def with_config(content: bytes, config: bytes) -> bytes:
    return zipped(entries(content) | {"config.json": config})


def changed(content: bytes, old: str, new: str, count: int = -1) -> bytes:
    config = entries(content)["config.json"].decode()
    assert old in config
    return with_config(content, config.replace(old, new, count).encode())


def twice(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in entries(content).items():
            archive.writestr(name, data)
        archive.writestr("config.json", b"{}")
    return out.getvalue()


ZIPS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "encrypted": (encrypted, "encrypted"),
    "compressed": (lambda c: zipped(entries(c), zipfile.ZIP_DEFLATED), "without compression"),
    "twice": (twice, r"expected one config\.json in the zip file, found 2"),
    "no-weights": (
        lambda c: zipped({n: d for n, d in entries(c).items() if "h5" not in n}),
        r"expected one model\.weights\.h5 in the zip file, found 0",
    ),
    "weights-of-nothing": (
        lambda c: zipped(entries(c) | {"model.weights.h5": b"hello"}),
        "not a readable HDF5 file",
    ),
    "no-json": (lambda c: with_config(c, b"hello"), "expected a valid config"),
    "binary": (lambda c: with_config(c, bytes(range(256))), "expected a valid config"),
    "a-list": (lambda c: with_config(c, b"[]"), "expected a JSON object"),
    "an-empty-object": (lambda c: with_config(c, b"{}"), "expected a valid config .*KeyError"),
    "deep": (lambda c: with_config(c, b"[" * 100_000), "fewer nested levels"),
    "huge": (lambda c: with_config(c, b" " * (17 << 20)), "config.json: expected at most"),
    "no-layers": (
        lambda c: with_config(c, b'{"class_name": "Sequential", "config": {"layers": []}}'),
        "3x3 convolutions, found none",
    ),
    "another-class": (lambda c: changed(c, '"Sequential"', '"Other"', 1), "custom class Other"),
    "another-module": (
        lambda c: changed(c, '"module": "keras.layers"', '"module": "os.path"'),
        "expected a class of Keras",
    ),
    "null-name": (lambda c: changed(c, '"conv2d', "null, \"x\": \"", 1), None),
    "terminal-codes": (
        lambda c: changed(c, '"class_name": "Conv2D"', '"class_name": "\\u001b[31mConv\\n2D"', 1),
        "expected a layer of a VGG",
    ),
    "size-of-text": (
        lambda c: changed(c, '"kernel_size": [3, 3]', '"kernel_size": "3"'),
        r"kernel_size \(3, 3\), got \('3', '3'\)",
    ),
    "infinite-size": (
        lambda c: changed(c, '"kernel_size": [3', '"kernel_size": [1e999'),
        r"kernel_size \(3, 3\), got \(inf, 3\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "text"), ZIPS.values(), ids=ZIPS)
def test_broken_zip_is_refused(tmp_path: Path, files: Any, make: Any, text: str) -> None:
    (tmp_path / "w").write_bytes(make(files["keras"]))
    refused(tmp_path / "w", text)


def functional(nodes: dict[str, str | None], end: str) -> bytes:
    """Return a graph of consecutive identities."""
    layers = [
        {
            "class_name": "Identity" if parent else "InputLayer",
            "config": {"name": name},
            "name": name,
            "inbound_nodes": [[[parent, 0, 0, {}]]] if parent else [],
        }
        for name, parent in nodes.items()
    ]
    config = {"layers": layers, "input_layers": [["in", 0, 0]], "output_layers": [[end, 0, 0]]}
    return json.dumps({"class_name": "Functional", "config": config}).encode()


def nested(depth: int) -> bytes:
    config: dict[str, Any] = {"class_name": "InputLayer", "config": {"name": "in"}}
    for _ in range(depth):
        config = {"class_name": "Sequential", "config": {"name": "s", "layers": [config]}}
    return json.dumps(config).encode()


GRAPHS: dict[str, tuple[bytes, str]] = {
    "cycle": (functional({"in": None, "a": "b", "b": "a"}, "a"), "leads to the input"),
    "loop": (functional({"in": None, "a": "a"}, "a"), "leads to the input"),
    "nowhere": (
        functional({"in": None, "a": "x"}, "a"),
        "x: expected a graph that leads to the input",
    ),
    "no-such-output": (
        functional({"in": None}, "x"),
        "x: expected a graph that leads to the input",
    ),
    "another-input": (functional({"in": None, "b": None, "a": "b"}, "a"), "leads to the input"),
    "nothing-in-it": (functional({"in": None, "a": "in"}, "a"), "found none"),
    "nested": (nested(40), "nested more than 16 deep"),
}


@pytest.mark.parametrize(("config", "text"), GRAPHS.values(), ids=GRAPHS)
def test_broken_graph_is_refused(tmp_path: Path, files: Any, config: bytes, text: str) -> None:
    (tmp_path / "w").write_bytes(with_config(files["keras"], config))
    refused(tmp_path / "w", text)


def test_other_zips_are_not_keras(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(zipped({"a.txt": b"a"}))
    refused(tmp_path / "w", "expected a zip file of torch.save")
