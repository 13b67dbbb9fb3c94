"""Every format as written by PyTorch: equal logits, and equal bits after writing."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from support.formats import FORMATS, NARROW, images
from support.tolerance import assert_close
from support.torch_vgg import TimmVGG, TorchVGG
from support.weight_files import SMALL

import vgg_cuda.weights
from vgg_cuda import VGG
from vgg_cuda.configs import Config
from vgg_cuda.weights import (
    Weights,
    he_weights,
    load_weights,
    save,
    save_torchvision,
)
from vgg_cuda.weights.convert import convert
from vgg_cuda.weights.labels import imagenet_labels


@lru_cache(maxsize=2)
def network(kind: type[torch.nn.Module], name: str, batch_norm: bool) -> torch.nn.Module:
    return kind(NARROW[name], hidden=48, num_classes=7, batch_norm=batch_norm)


def logits(module: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()


@lru_cache(maxsize=2)
def expected_logits(kind: type[torch.nn.Module], name: str, batch_norm: bool) -> np.ndarray:
    return logits(network(kind, name, batch_norm), images(2, 40, 64))


def same_bits(a: Weights, b: Weights) -> None:
    assert a.tensors.keys() == b.tensors.keys()
    for name, tensor in a.tensors.items():
        assert tensor.tobytes() == b.tensors[name].tobytes(), name


def test_package_lists_the_formats() -> None:
    # the formats of Keras and ONNX have their own tests
    assert list(vgg_cuda.weights.FORMATS)[: len(FORMATS)] == list(FORMATS)


def test_manual_lists_the_formats() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "weights.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- weights:table -->\n(.*?)<!-- /weights:table -->", page, re.S)
    assert table, "docs/weights.md has no table between <!-- weights:table --> marks"
    rows = re.findall(r"^\| *`([^`]+)` *\| *(.*?) *\|$", table[1], re.M)
    assert rows == list(vgg_cuda.weights.FORMATS.items())


# Ordered by network, so that each is built once.
CASES = [
    pytest.param(form, name, bn, id=f"{form}-{name}{'_bn' if bn else ''}")
    for kind in (TorchVGG, TimmVGG)
    for name in NARROW
    for bn in (False, True)
    for form in FORMATS
    if FORMATS[form][0] is kind
]


@pytest.mark.parametrize(("form", "name", "batch_norm"), CASES)
def test_every_format_is_read(tmp_path: Path, form: str, name: str, batch_norm: bool) -> None:
    kind, write = FORMATS[form]
    module = network(kind, name, batch_norm)
    path = tmp_path / "weights.bin"  # the name does not state the format
    write(module.state_dict(), path)
    weights = load_weights(path)
    assert weights.config.batch_norm == batch_norm
    assert weights.config.head == (48, 48, 7)
    assert weights.labels is None
    got = VGG(weights, device="cpu")(images(2, 40, 64))
    assert_close(got, expected_logits(kind, name, batch_norm), what=form)

    native, torchvision, again = (tmp_path / n for n in ("n.safetensors", "t.safetensors", "m"))
    save(weights, native)
    assert load_weights(native).config == weights.config
    same_bits(load_weights(native), weights)
    convert(str(native), torchvision, "torchvision")
    same_bits(convert(str(torchvision), again, "native"), weights)
    assert again.read_bytes() == native.read_bytes()
    same_bits(load_weights(again), weights)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torchvision-pth", "timm-safetensors"])
def test_vgg16_at_full_size(tmp_path: Path, form: str) -> None:
    kind, write = FORMATS[form]
    module = kind("vgg16")
    path = tmp_path / "vgg16"
    write(module.state_dict(), path)
    weights = load_weights(path)
    assert weights.config.name == "vgg16"
    assert weights.labels == imagenet_labels()
    x = images(1, 224, 224)
    assert_close(VGG(weights, device="cpu")(x), logits(module, x))


@pytest.mark.parametrize(
    ("name", "suffix"),
    [*((name, ".safetensors") for name in NARROW), ("vgg16", ".pth"), ("vgg16", ".pt")],
)
def test_torchvision_loads_written_files(tmp_path: Path, name: str, suffix: str) -> None:
    module = network(TorchVGG, name, True)
    weights = load_weights(module.state_dict())
    path = tmp_path / f"w{suffix}"
    save_torchvision(weights, path)
    if suffix == ".safetensors":
        state = safetensors.torch.load_file(path)
    else:
        state = torch.load(path, weights_only=True)
    plain = TorchVGG(NARROW[name], hidden=48, num_classes=7)
    plain.load_state_dict(state, strict=True)
    x = images(1, 40, 64)
    assert_close(logits(plain, x), logits(module, x))
    same_bits(load_weights(path), weights)
    assert list(tmp_path.iterdir()) == [path]


def test_torchvision_safetensors_keep_metadata(tmp_path: Path) -> None:
    preset = vgg_cuda.Preset("own", resize=(40, 48), crop=None, channels="BGR", divisor=1.0)
    source = he_weights(Config("vgg", (8, "M", 8, "M", 8, "M", 8, "M", 8, "M"), (2,)), 0)
    config = Config("vgg", source.config.widths, (2,), batch_norm=True)
    weights = Weights(config, source.tensors, preset, ("a", "b"), "softmax")
    for name in ("w.safetensors", "w.pth"):
        save_torchvision(weights, tmp_path / name)
    kept = load_weights(tmp_path / "w.safetensors")
    assert (kept.config, kept.preset, kept.labels) == (config, preset, ("a", "b"))
    assert kept.activation == "softmax"
    lost = load_weights(tmp_path / "w.pth")
    assert (lost.preset.name, lost.labels, lost.activation) == ("torchvision", None, None)
    same_bits(kept, lost)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", [*FORMATS, "arrays"])
def test_other_precisions_become_float32(tmp_path: Path, form: str, dtype: torch.dtype) -> None:
    kind, write = FORMATS.get(form, (TorchVGG, None))
    if form == "native":  # this package writes float32 only: torch writes this file
        kind, write = TorchVGG, safetensors.torch.save_file
    state = kind(SMALL, hidden=8, num_classes=2).to(dtype).state_dict()
    expected = load_weights({name: t.float().numpy() for name, t in state.items()})
    if form == "native":
        canonical = load_weights({name: t.float().numpy() for name, t in state.items()}).tensors
        state = {name: torch.from_numpy(t).to(dtype) for name, t in canonical.items()}
    if write is None:
        found = load_weights(state)
    else:
        write(state, tmp_path / "w")
        found = load_weights(tmp_path / "w")
    assert {t.dtype for t in found.tensors.values()} == {np.dtype(np.float32)}
    same_bits(found, expected)


WRAPPERS = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": 0.5},
    "model": lambda state: {"model": OrderedDict(state), "args": {"lr": 0.1}},
    "compiled": lambda state: {f"_orig_mod.{name}": t for name, t in state.items()},
    "compiled-parallel": lambda state: {f"_orig_mod.module.{n}": t for n, t in state.items()},
    "data-parallel": lambda state: {f"module.{name}": t for name, t in state.items()},
    "both": lambda state: {"state_dict": {f"module.{name}": t for name, t in state.items()}},
    "parameters": lambda state: {name: torch.nn.Parameter(t) for name, t in state.items()},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_checkpoints_are_unwrapped(tmp_path: Path, wrap, legacy: bool) -> None:
    state = TorchVGG(SMALL, hidden=8, num_classes=2).state_dict()
    torch.save(wrap(state), tmp_path / "w", _use_new_zipfile_serialization=not legacy)
    same_bits(load_weights(tmp_path / "w"), load_weights(state))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_gpu_storages_are_copied_to_the_host(tmp_path: Path, monkeypatch, legacy: bool) -> None:
    state = TorchVGG(SMALL, hidden=8, num_classes=2).state_dict()
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:3")
    torch.save(state, tmp_path / "w", _use_new_zipfile_serialization=not legacy)
    assert b"cuda:3" in (tmp_path / "w").read_bytes()
    same_bits(load_weights(tmp_path / "w"), load_weights(state))


def test_name_of_a_file_is_ignored(tmp_path: Path) -> None:
    state = TorchVGG(SMALL, hidden=8, num_classes=2).state_dict()
    torch.save(state, tmp_path / "zip.safetensors")
    torch.save(state, tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state, tmp_path / "plain.pth")
    for path in tmp_path.iterdir():
        same_bits(load_weights(path), load_weights(state))


def test_convert_refuses_before_reading(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of native, torchvision, onnx, got 'tflite'"):
        convert("no such file", tmp_path / "o", "tflite")
    with pytest.raises(ValueError, match=r"expected a name like o\.onnx"):
        convert("no such file", tmp_path / "o.safetensors", "onnx")
    with pytest.raises(ValueError, match=r"o\.safetensors, or the format onnx"):
        convert("no such file", tmp_path / "o.onnx")
    with pytest.raises(ValueError, match=r"expected a name like o\.safetensors"):
        convert("no such file", tmp_path / "o.pth")
    with pytest.raises(FileNotFoundError):
        convert("no such file", tmp_path / "o.safetensors")
    assert not list(tmp_path.iterdir())


WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from vgg_cuda.weights import WeightsError, load_weights
try:
    load_weights(sys.argv[2])
except WeightsError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "source", "extra"),
    [("torch", "w.pth", "torch"), ("huggingface_hub", "imagenet", "hub")],
)
def test_missing_package_is_named(tmp_path: Path, module: str, source: str, extra: str) -> None:
    torch.save(TorchVGG(SMALL, hidden=8, num_classes=2).state_dict(), tmp_path / "w.pth")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, module, source],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f'pip install ".[{extra}]" in a clone of vgg_cuda' in done.stdout
    assert done.stderr == ""
