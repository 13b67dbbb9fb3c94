"""Keras' files read without Keras, compared with Keras' predictions."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support import keras_models
from support.keras_models import L, case, conv, gap, keras, predict, randomize, sequential, write
from support.tolerance import assert_close

from vgg_cuda import VGG
from vgg_cuda.interop.keras import from_keras
from vgg_cuda.weights import FORMATS, WeightsError, load_weights
from vgg_cuda.weights.convert import convert

# Networks whose shapes determine them; others need a config.
BY_SHAPES = (
    "note", "vgg19-named", "any-size", "no-head", "pooled-no-head", "batch-norm", "nested",
    "nested-frozen", "nested-functional", "nested-twice", "max-head",
)  # fmt: skip
WHOLE = (
    *BY_SHAPES, "batch-norms-of-their-own", "activations", "dead-in-inference", "rescaling",
    "same-pools", "odd-sizes", "zero-padding", "grey", "channels-first", "shared-pool", "truncated",
    "channels-first-flattened-as-they-are",
)  # fmt: skip
FILES = [(name, form) for form in ("keras", "h5") for name in WHOLE]
FILES += [(name, form) for form in ("weights.h5", "old.h5") for name in BY_SHAPES]
FILES.remove(("nested-twice", "old.h5"))  # lists no Flatten, and a dense layer reads one pixel

ASSUMES = pytest.mark.filterwarnings("ignore::vgg_cuda.weights.AssumedWarning")

CHILD = """
import sys
import warnings

class NoKeras:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("keras", "tensorflow", "torch", "jax"):
            raise ImportError(f"{name} is not to be imported")

sys.meta_path.insert(0, NoKeras())
from pathlib import Path
import numpy as np
from vgg_cuda import VGG
from vgg_cuda.weights import AssumedWarning

warnings.simplefilter("ignore", AssumedWarning)
for path in sorted(Path(sys.argv[1]).glob("*.bin")):
    try:
        model = VGG.load(path, device="cpu")
        np.save(path.with_suffix(".y.npy"), model(np.load(path.with_suffix(".x.npy"))))
        print(path.stem, model.activation, model.preset.name, sep="\t")
    except Exception as error:
        print(path.stem, "failed", repr(error), sep="\t")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write all of :data:`FILES` with their inputs."""
    root = tmp_path_factory.mktemp("keras")
    for name, form in FILES:
        write(case(name).model, root / f"{form}-{name}.bin", form)
        np.save(root / f"{form}-{name}.x.npy", case(name).x)
    return root


@pytest.fixture(scope="module")
def loaded(folder: Path) -> dict[str, list[str]]:
    """Read each file in a process without Keras; return its reports."""
    command = [sys.executable, "-W", "error", "-c", CHILD, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return {line[0]: line[1:] for line in lines}


def logarithms(y: np.ndarray, activation: str) -> np.ndarray:
    """Return log-softmax of logits, log of probabilities."""
    if activation == "softmax":
        return np.log(y)
    y = y - y.max(axis=1, keepdims=True)
    return y - np.log(np.exp(y).sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("name", "form"), FILES, ids=[f"{f}-{n}" for n, f in FILES])
def test_files_without_keras(
    folder: Path, loaded: dict[str, list[str]], name: str, form: str
) -> None:
    activation, preset = loaded[f"{form}-{name}"]
    assert activation != "failed", preset
    got, expected = np.load(folder / f"{form}-{name}.y.npy"), case(name).y
    stated = "softmax" if np.allclose(expected.sum(axis=1), 1) else "None"
    if form in ("keras", "h5"):
        assert activation == stated
        assert preset == from_keras(case(name).model, device="cpu").preset.name
    if activation != stated:  # weights alone do not say that a softmax follows
        got, expected = logarithms(got, activation), logarithms(expected, stated)
    assert_close(got, expected, what=f"{form}-{name}")


def test_formats_are_listed() -> None:
    assert [name for name in FORMATS if "keras" in name] == [
        "keras",
        "keras-weights-h5",
        "keras-h5",
    ]


@ASSUMES
@pytest.mark.parametrize("form", ["keras", "h5", "weights.h5"])
def test_file_equals_the_model(tmp_path: Path, form: str) -> None:
    model = case("nested").model
    write(model, tmp_path / "w", form)
    weights, live = load_weights(tmp_path / "w"), from_keras(model, device="cpu")
    assert weights.config == live.config
    convert(tmp_path / "w", tmp_path / "w.safetensors")
    again = load_weights(tmp_path / "w.safetensors")
    assert (again.config, again.preset) == (weights.config, weights.preset)
    assert_close(VGG(again, device="cpu")(case("nested").x), case("nested").y)


@ASSUMES
def test_layers_are_in_numeric_order(tmp_path: Path) -> None:
    """Alphabetically conv2d_10 precedes conv2d_2; their shapes are equal here."""
    model = sequential(*keras_models.features("8 8 M 8 8 M 8 8 8 M 8 8 8 M 8 8 8 M"), *gap())
    randomize(model)
    x = case("nested").x
    for form in ("keras", "h5", "weights.h5"):
        write(model, tmp_path / form, form)
        assert_close(VGG.load(tmp_path / form, device="cpu")(x), predict(model, x))


@ASSUMES
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("form", ["keras", "h5", "weights.h5"])
def test_other_precisions_become_float32(tmp_path: Path, form: str, dtype: str) -> None:
    keras.config.set_dtype_policy(dtype)
    try:
        model = sequential(*keras_models.features(), *gap())
        randomize(model)
    finally:
        keras.config.set_dtype_policy("float32")
    live = from_keras(model, device="cpu")
    write(model, tmp_path / "w", form)
    x = case("nested").x
    assert np.array_equal(VGG.load(tmp_path / "w", device="cpu")(x), live(x))


def edited(path: Path, edit: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def as_keras_2_13(file: h5py.File) -> None:
    """Use the container's older name, without names of layers."""
    file.visititems(lambda _, found: found.attrs.pop("name", None) and None)
    groups: list[str] = []
    file.visit(lambda name: groups.append(name) if name.endswith("layers") else None)
    for name in sorted(groups, key=len, reverse=True):
        file.move(name, name[: -len("layers")] + "_layer_checkpoint_dependencies")


def without_others(file: h5py.File) -> None:
    """Omit layers without variables, as some versions do."""
    file.visititems(lambda _, found: found.attrs.pop("name", None) and None)
    for name in list(file["layers"]):
        if not file[f"layers/{name}/vars"]:
            del file[f"layers/{name}"]


@ASSUMES
@pytest.mark.parametrize(
    ("name", "edit"),
    [("note", as_keras_2_13), ("nested", as_keras_2_13), ("note", without_others)],
)
def test_other_versions_of_weights_h5_are_read(tmp_path: Path, name: str, edit: Any) -> None:
    model, x, y = case(name)
    write(model, tmp_path / "w", "weights.h5")
    found = VGG.load(edited(tmp_path / "w", edit), device="cpu")
    stated = "softmax" if name == "note" else "None"
    assert_close(logarithms(found(x), "None"), logarithms(y, stated))


def keras_2(config: Any) -> Any:
    """Return a config of Keras 3 in the dialect of Keras 2."""
    if isinstance(config, list):
        return [keras_2(one) for one in config]
    if not isinstance(config, dict):
        return config
    config = {key: value for key, value in config.items() if key not in ("module", "build_config")}
    config.pop("registered_name", None)
    if "batch_shape" in config:
        config["batch_input_shape"] = config.pop("batch_shape")
    if config.get("class_name") == "DTypePolicy":
        return config["config"]["name"]
    if config.get("class_name") == "Functional":
        config["class_name"] = "Model"
    for key in ("input_layers", "output_layers"):
        if key in config and isinstance(config[key][0], str):
            config[key] = [config[key]]
    if "inbound_nodes" in config:
        nodes = []
        for node in config["inbound_nodes"]:
            histories = [arg["config"]["keras_history"] for arg in node["args"]]
            kwargs = {k: v for k, v in node["kwargs"].items() if k == "training"}
            # a nested model's first call constructed it
            nodes.append([[n, i + (n == "base"), t, kwargs] for n, i, t in histories])
        config["inbound_nodes"] = nodes
    return {key: keras_2(value) for key, value in config.items()}


@pytest.mark.parametrize(
    "name", ["note", "vgg19-named", "nested", "nested-functional", "shared-pool"]
)
def test_config_of_keras_2_is_read(tmp_path: Path, name: str) -> None:
    model, x, y = case(name)
    write(model, tmp_path / "w", "h5")

    def edit(file: h5py.File) -> None:
        config = keras_2(json.loads(file.attrs["model_config"]))
        if name == "note":  # Keras 2.1: a list of layers, the first with the input's shape
            layers = [
                layer for layer in config["config"]["layers"] if "Input" not in str(layer)[:40]
            ]
            layers[0]["config"]["batch_input_shape"] = [None, 64, 64, 3]
            config["config"] = layers
        file.attrs["model_config"] = np.bytes_(json.dumps(config))

    assert_close(VGG.load(edited(tmp_path / "w", edit), device="cpu")(x), y)


@ASSUMES
@pytest.mark.parametrize("top", [True, False], ids=["top", "notop"])
def test_published_files_are_read(tmp_path: Path, top: bool) -> None:
    """Use groups for all layers and names like block1_conv1_W_1:0, as in vgg16_weights_tf_…"""
    model = case("vgg19-named").model
    with h5py.File(tmp_path / "w", "w") as file:
        names = []
        for layer in model.layers[1 : None if top else -2]:
            group = file.create_group(layer.name)
            names.append(layer.name.encode())
            ends = ("W", "b")[: len(layer.weights)]
            group.attrs["weight_names"] = [f"{layer.name}_{end}_1:0".encode() for end in ends]
            for end, variable in zip(ends, layer.weights, strict=True):
                group[f"{layer.name}_{end}_1:0"] = variable.value.detach().numpy()
        half = len(names) // 2  # long lists are split
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:half], names[half:]
    found = VGG.load(tmp_path / "w", device="cpu")
    assert (found.config.name, found.preset.name, found.activation) == ("vgg", "keras", None)
    x, y = case("vgg19-named").x, case("vgg19-named").y
    if not top:
        whole = from_keras(model, device="cpu")
        assert_close(found(x), whole.features(x, "pool5")["pool5"])
        return
    assert_close(found(x), y)


MISSING = """
import sys
sys.modules["h5py"] = None
from vgg_cuda.weights import WeightsError, load_weights
for path in sys.argv[1:]:
    try:
        load_weights(path)
    except WeightsError as error:
        print(error)
"""


def test_error_without_h5py_names_the_extra(tmp_path: Path) -> None:
    for form in ("keras", "h5"):
        write(case("one-block").model, tmp_path / form, form)
    command = [sys.executable, "-c", MISSING, str(tmp_path / "keras"), str(tmp_path / "h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count('pip install ".[keras]" in a clone of vgg_cuda') == 2
    assert done.stderr == ""


def test_lambda_in_a_file_is_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    layers = [conv(), L.Lambda(lambda x: x, name="evil"), *gap()]
    write(sequential(*layers), tmp_path / "w", "keras")
    with zipfile.ZipFile(tmp_path / "w") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    assert b"Lambda" in entries["config.json"]
    with pytest.raises(WeightsError, match=r"evil: .* got Lambda: .* use Rescaling"):
        load_weights(tmp_path / "w")
    assert not proof.exists()


@ASSUMES
def test_trained_model_is_read(tmp_path: Path) -> None:
    """A trained model's files contain the optimizer's variables, too."""
    model = keras.Sequential([*keras_models.features(), L.Flatten(), L.Dense(3, "softmax")])
    x = np.random.default_rng(0).random((4, 32, 32, 3), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model(x)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(x, np.array([0, 1, 2, 0]), verbose=0)
    y = predict(model, x)
    assert_close(from_keras(model, device="cpu")(x), y)
    for form in ("keras", "h5", "weights.h5"):
        write(model, tmp_path / form, form)
        got = VGG.load(tmp_path / form, device="cpu")
        stated = "None" if form == "weights.h5" else "softmax"
        assert_close(logarithms(got(x), stated), np.log(y), what=form)
