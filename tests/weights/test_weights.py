"""Weights files and dicts: reading, refusals and their messages."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from vgg_cuda import VGG, Preset
from vgg_cuda.configs import Config
from vgg_cuda.weights import Weights, WeightsError, he_weights, load_weights, save
from vgg_cuda.weights.fold import fold_batch_norm

SMALL = Config("small", (8, "M", 8, "M", 8, "M", 16, 16, "M", 16, "M"), (24, 24, 3))
WEIGHTS = he_weights(SMALL, 0)


def test_native_files_keep_all_metadata(tmp_path: Path) -> None:
    preset = Preset("own", resize=(40, 48), crop=None, channels="BGR", divisor=1.0)
    config = Config("vgg", SMALL.widths, SMALL.head, batch_norm=True)
    weights = Weights(config, WEIGHTS.tensors, preset, ("ä", "b", "c"), "softmax")
    path = tmp_path / "w.safetensors"
    save(weights, path)
    again = load_weights(path)
    assert (again.config, again.preset, again.labels) == (config, preset, ("ä", "b", "c"))
    assert again.activation == "softmax"
    assert again.source == str(path)
    for name, tensor in WEIGHTS.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], tensor)
    assert list(tmp_path.iterdir()) == [path]  # no temporary file is left
    first = path.read_bytes()
    save(again, path)
    assert path.read_bytes() == first
    other = tmp_path / "other"
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_half_precision_files_are_widened(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({n: t.astype(np.float16) for n, t in WEIGHTS.tensors.items()}, path)
    loaded = load_weights(path)
    for name, tensor in WEIGHTS.tensors.items():
        assert loaded.tensors[name].dtype == np.float32
        np.testing.assert_array_equal(loaded.tensors[name], tensor.astype(np.float16))


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=5, max_size=5),
    hidden=st.lists(st.integers(1, 9), max_size=3),
    grid=st.integers(1, 8),
)
def test_any_architecture_is_inferred(
    widths: list[list[int]], hidden: list[int], grid: int
) -> None:
    flat = tuple(w for block in widths for w in (*block, "M"))
    config = Config("vgg", flat, tuple(hidden), grid if hidden else 7)
    assert load_weights(he_weights(config, 0).tensors).config == config


def test_folded_batch_norm_equals_two_layers() -> None:
    rng = np.random.default_rng(0)
    w, bias, gamma, beta, mean = (
        rng.standard_normal(s).astype(np.float32) for s in ((4, 5), 4, 4, 4, 4)
    )
    variance = rng.uniform(1e-6, 2, 4).astype(np.float32)
    x = rng.standard_normal(5)
    folded, shift = fold_batch_norm(w, bias, gamma, beta, mean, variance, epsilon=1e-5)
    direct = gamma * ((w @ x + bias) - mean) / np.sqrt(variance.astype(float) + 1e-5) + beta
    np.testing.assert_allclose(folded @ x + shift, direct, rtol=1e-5, atol=1e-5)


def without(name: str) -> dict[str, np.ndarray]:
    return {n: t for n, t in WEIGHTS.tensors.items() if n != name}


def with_(name: str, tensor: np.ndarray) -> dict[str, np.ndarray]:
    return WEIGHTS.tensors | {name: tensor}


NAN = np.full((16,), np.nan, np.float32)
BAD = [
    ({}, "expected the weights of a VGG.*no tensors at all"),
    ({"a": np.zeros(3)}, "with conv1_1.weight"),
    (without("conv4_2.bias"), "missing: conv4_2.bias"),
    (without("conv3_1.weight"), "block 3: expected conv3_1"),
    (without("fc7.weight"), "expected fc6, fc7"),
    (with_("fc9.weight", np.zeros((2, 3, 4))), r"fc9.weight: expected \[K, C\]"),
    (with_("conv4_1.weight", np.zeros((16, 3, 3, 9), np.float32)), r"expected \[16, 3, 3, 8\]"),
    (with_("conv4_1.weight", np.zeros((), np.float32)), "conv4_1"),
    (with_("conv4_1.bias", NAN), "conv4_1.bias: expected finite values"),
    (with_("conv4_1.bias", -np.inf * np.ones(16)), "conv4_1.bias: expected finite values"),
    (with_("fc6.weight", np.zeros((24, 50), np.float32)), "fc6.weight: expected"),
    (with_("fc8.bias", np.zeros(4, np.float32)), r"fc8.bias: expected \[3\], got \[4\]"),
    (with_("conv1_1.weight", np.zeros((0, 3, 3, 3))), "at least one element"),
    (with_("conv5_1.weight", np.zeros((0, 3, 3, 16))), "fc6.weight: expected"),
    (with_(f"conv{'9' * 5000}_1.weight", np.zeros(1)), ": expected canonical names"),
    (with_("stray", np.zeros(3)), "stray: expected canonical names"),
    (with_("conv6_1.weight", np.zeros((4, 3, 3, 16))), "expected five blocks"),
    (with_("conv1_1.weight", np.array(["x"])), "expected numbers"),
]


@pytest.mark.parametrize(("tensors", "text"), BAD, ids=range(len(BAD)))
def test_bad_tensors_are_refused(tensors: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(WeightsError, match=text):
        load_weights(tensors)


METADATA = [
    ('{"labels": [1, 2, 3]}', r"vgg_cuda.labels\[0\]: expected `str`"),
    ('{"labels": ["a"]}', "expected 3 labels, got 1"),
    ("[", "vgg_cuda: expected JSON in the metadata: .*truncated"),
    ("[]", "expected `object`"),
    ("[" * 100_000, "expected JSON"),
    ('{"labels": ["a", "\\ud800", "b"]}', "surrogate pair"),
    ('{"preset": {"name": "x", "mean": 3}}', "preset"),
    ('{"preset": {"name": "x", "std": [1, 1, 1e999]}}', "out of range"),
    ('{"preset": {"name": "x", "divisor": [255.0]}}', "divisor"),
    ('{"activation": "tanh"}', "expected one of softmax, sigmoid"),
    ('{"preset": {"name": "x", "crop": -1}}', "expected sizes"),
    ('{"preset": {"name": "x", "zoom": 2}}', "expected an object with a name"),
    ('{"preset": {"name": "x", "std": [0, 1, 1]}}', "std: expected 3 numbers, none of them 0"),
    ('{"preset": {"name": "x", "resample": "sinc"}}', "expected one of nearest"),
    ('{"preset": {"name": {"a": 1}}}', "name: expected a string"),
    ('{"preset": {"name": "x", "divisor": 1e-320}}', "divisor: expected a number"),
    ('{"preset": {"name": "x", "mean": [1e300, 0, 0]}}', "expected numbers"),
    ('{"preset": 7}', "expected an object with a name"),
    ('{"version": 4}', "upgrade vgg_cuda"),
]


@pytest.mark.parametrize(("metadata", "text"), METADATA, ids=range(len(METADATA)))
def test_bad_metadata_is_refused(tmp_path: Path, metadata: str, text: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file(WEIGHTS.tensors, path, metadata={"vgg_cuda": metadata})
    with pytest.raises(WeightsError, match=text):
        load_weights(path)


def header(declared: dict[str, object], size: int | None = None) -> bytes:
    text = json.dumps(declared).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text


FILES = {
    "empty": b"",
    "short": b"\x01\x02",
    "huge-header": header({}, size=1 << 60),
    "beyond-the-end": header(
        {"conv1_1.weight": {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 1 << 32]}}
    ),
    "not-json": struct.pack("<Q", 4) + b"oops",
    "text": b"these are no weights at all, only some text that someone renamed",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
def test_bad_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"bad\.safetensors"):
        load_weights(path)


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save(WEIGHTS, path)
    data = path.read_bytes()
    for cut in (len(data) - 1, len(data) // 2, 100, 9):
        path.write_bytes(data[:cut])
        with pytest.raises(WeightsError, match="not a readable safetensors file"):
            load_weights(path)


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="got a folder"):
        load_weights(tmp_path)


def test_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    save(WEIGHTS, path)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.numpy.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save(WEIGHTS, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_saved_files_are_plain_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save(WEIGHTS, path)
    assert set(load_file(path)) == set(WEIGHTS.tensors)
    assert VGG.load(path, device="cpu").config.widths == SMALL.widths
