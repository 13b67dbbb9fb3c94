"""Hostile and broken Keras files: one clear error each, no execution, bounded memory."""

from __future__ import annotations

import io
import json
import shutil
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
from support.keras_models import L, conv, gap, keras, randomize, sequential

from vgg_cuda.weights import WeightsError, load_weights

FORMS = ("keras", "h5", "weights.h5")
KERNEL = "layers/conv2d_1/vars/0"
Edit = Callable[[h5py.File], None]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return one small network in every file format."""
    keras.utils.clear_session()  # reset the counters in default names
    layers: list[Any] = []
    for convs in (1, 1, 2, 2, 2):  # as in vgg11
        layers += [*(conv() for _ in range(convs)), L.MaxPooling2D()]
    model = sequential(*layers, *gap())
    randomize(model)
    model.name = "small"
    folder = tmp_path_factory.mktemp("small")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(folder / "w.keras")
        model.save(folder / "w.h5")
        model.save_weights(folder / "w.weights.h5")
    return {form: (folder / f"w.{form}").read_bytes() for form in FORMS}


def refused(path: Path, text: str | None = None) -> None:
    """Check that reading ``path`` raises one line that begins with the path."""
    with pytest.raises(WeightsError, match=text) as caught:
        load_weights(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 700


def entries(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(content: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "\\evil", "C:/evil", ".."]
)
def test_names_that_lead_out_of_the_archive(tmp_path: Path, files: Any, name: str) -> None:
    (tmp_path / "w").write_bytes(zipped(entries(files["keras"]) | {name: b"evil"}))
    refused(tmp_path / "w", "refused: the name leads out of the archive")
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
def test_zips(tmp_path: Path, files: Any, make: Any, text: str) -> None:
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
def test_graphs(tmp_path: Path, files: Any, config: bytes, text: str) -> None:
    (tmp_path / "w").write_bytes(with_config(files["keras"], config))
    refused(tmp_path / "w", text)


def replaced(name: str, value: Any, **arguments: Any) -> Edit:
    def edit(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=value, **arguments)

    return edit


def soft(file: h5py.File) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.SoftLink("/layers/conv2d/vars/0")


def soft_group(file: h5py.File) -> None:
    del file["layers/conv2d_1"]
    file["layers/conv2d_1"] = h5py.SoftLink("/layers/conv2d_2")


def external(file: h5py.File) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink("other.h5", KERNEL)


def external_group(file: h5py.File) -> None:
    del file["layers"]
    file["layers"] = h5py.ExternalLink("other.h5", "layers")


def virtual(file: h5py.File) -> None:
    shape = file[KERNEL].shape
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource("other.h5", KERNEL, shape)
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def external_storage(file: h5py.File) -> None:
    shape = file[KERNEL].shape
    del file[KERNEL]
    file.create_dataset(KERNEL, shape, "f4", external=[("other.bin", 0, h5py.h5f.UNLIMITED)])


def references(file: h5py.File) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (1,), h5py.ref_dtype)


def texts(file: h5py.File) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, data=["a", "b"], dtype=h5py.string_dtype())


def claims(file: h5py.File) -> None:
    """Claim a terabyte that was never written."""
    del file[KERNEL]
    file.create_dataset(KERNEL, (3, 3, 1 << 18, 1 << 18), "f4")


def claims_in_chunks(file: h5py.File) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (3, 3, 1 << 18, 1 << 18), "f4", chunks=(1, 1, 64, 64))


def empty(file: h5py.File) -> None:
    del file[KERNEL]
    file[KERNEL] = h5py.Empty("f4")


def cycle(file: h5py.File) -> None:
    """Make a group that contains itself."""
    file["layers/functional/layers"] = file["layers"]


def a_group(file: h5py.File) -> None:
    del file[KERNEL]
    file.create_group(KERNEL)


def gone(name: str) -> Edit:
    def edit(file: h5py.File) -> None:
        del file[name]

    return edit


def swapped(file: h5py.File) -> None:
    """Swap two layers' variables: only the name differs."""
    file.move("layers/conv2d_1", "layers/other")
    file.move("layers/conv2d_2", "layers/conv2d_1")
    file.move("layers/other", "layers/conv2d_2")


ODD: dict[str, tuple[Edit, str]] = {
    "soft-link": (soft, "refused: a link to another place"),
    "soft-link-to-a-group": (soft_group, "refused: a link to another place"),
    "external-link": (external, "refused: a link to another place"),
    "external-link-to-a-group": (external_group, "refused: a link to another place"),
    "virtual": (virtual, "data are in another file"),
    "external-storage": (external_storage, "data are in another file"),
    "references": (references, "expected floating-point numbers"),
    "texts": (texts, "expected floating-point numbers"),
    "integers": (replaced(KERNEL, np.ones((3, 3, 8, 8), np.int8)), "got dtype int8"),
    "complex": (replaced(KERNEL, np.ones((3, 3, 8, 8), np.complex64)), "got dtype complex64"),
    "compressed": (
        replaced(KERNEL, np.ones((3, 3, 8, 8), np.float32), compression="gzip"),
        "expected an uncompressed array",
    ),
    "claims": (claims, "expected an array inside the file"),
    "claims-in-chunks": (claims_in_chunks, "expected an array inside the file"),
    "empty": (empty, "expected an uncompressed array"),
    "a-group": (a_group, "missing: layers/conv2d_1/vars/0|expected"),
    "no-kernel": (gone(KERNEL), "conv2d_1|expected|missing"),
    "another-width": (
        replaced(KERNEL, np.ones((3, 3, 7, 8), np.float32)),
        r"conv2d_1.*: kernel: expected \[K, 3, 3, 8\], got \[8, 3, 3, 7\]",
    ),
    "another-size": (
        replaced(KERNEL, np.ones((5, 5, 8, 8), np.float32)),
        r"conv2d_1.*: kernel: expected \[K, 3, 3, 8\], got \[8, 5, 5, 8\]",
    ),
    "another-bias": (
        replaced("layers/conv2d_1/vars/1", np.ones(7, np.float32)),
        r"conv2d_1.*: bias: expected \[8\], got \[7\]",
    ),
    "another-rank": (replaced(KERNEL, np.ones(8, np.float32)), r"conv2d_1"),
    "no-numbers": (
        replaced(KERNEL, np.full((3, 3, 8, 8), np.nan, np.float32)),
        "conv2d_1: kernel: expected finite|conv2d_1.*: weight: expected finite",
    ),
    "beyond-float32": (
        replaced(KERNEL, np.full((3, 3, 8, 8), 1e300)),
        "conv2d_1.*: weight: expected finite",
    ),
    "one-too-many": (
        lambda file: file.create_dataset("layers/conv2d_1/vars/2", data=np.ones(8, np.float32)),
        r"conv2d_1.*(expected 2 variables \(kernel, bias\), got 3|expected a layer of a VGG)",
    ),
    "no-layers": (gone("layers"), "missing|an HDF5 file of Keras"),
}  # fmt: skip


@pytest.mark.parametrize("form", ["keras", "weights.h5"])
@pytest.mark.parametrize(("edit", "text"), ODD.values(), ids=ODD)
def test_broken_hdf5(tmp_path: Path, files: Any, edit: Edit, text: str, form: str) -> None:
    other = entries(files["keras"])["model.weights.h5"]
    (tmp_path / "other.h5").write_bytes(other)  # a valid file that must not be read
    (tmp_path / "other.bin").write_bytes(np.ones((3, 3, 8, 8), np.float32).tobytes())
    inner = tmp_path / "inner.h5"
    inner.write_bytes(other)
    with h5py.File(inner, "r+") as file:
        edit(file)
    if form == "keras":
        content = entries(files["keras"]) | {"model.weights.h5": inner.read_bytes()}
        (tmp_path / "w").write_bytes(zipped(content))
    else:
        shutil.copy(inner, tmp_path / "w")
    refused(tmp_path / "w", text)


def test_variables_of_another_layer(tmp_path: Path, files: Any) -> None:
    inner = tmp_path / "inner.h5"
    inner.write_bytes(entries(files["keras"])["model.weights.h5"])
    with h5py.File(inner, "r+") as file:
        swapped(file)
    content = entries(files["keras"]) | {"model.weights.h5": inner.read_bytes()}
    (tmp_path / "w").write_bytes(zipped(content))
    refused(
        tmp_path / "w", r"conv2d_\d+: .* at layers/conv2d_1/vars, found variables of conv2d_\d+"
    )


def test_groups_that_hold_themselves(tmp_path: Path, files: Any) -> None:
    (tmp_path / "w").write_bytes(files["weights.h5"])
    with h5py.File(tmp_path / "w", "r+") as file:
        cycle(file)
    refused(tmp_path / "w", "fewer nested levels|inside the file")


def test_hard_links_count_every_time(tmp_path: Path, files: Any) -> None:
    """Hard links repeat an array: all arrays together must fit in the file's size."""
    (tmp_path / "w").write_bytes(files["weights.h5"])
    with h5py.File(tmp_path / "w", "r+") as file:
        file["layers/dense/vars/big"] = np.ones((256, 256), np.float32)
        big = file["layers/dense/vars/big"]
        for i in range(20):
            name = f"layers/dense_{i + 1}/vars/0"
            file[name] = big
        del file["layers/dense/vars/big"]
    refused(tmp_path / "w", "expected an array inside the file")


def legacy_edits(file: h5py.File) -> dict[str, Callable[[], None]]:
    weights = file["model_weights"]
    first = next(name for name in weights if name.startswith("conv2d"))
    names = [
        name.decode() if isinstance(name, bytes) else name
        for name in weights[first].attrs["weight_names"]
    ]

    def link() -> None:
        del weights[f"{first}/{names[0]}"]
        weights[f"{first}/{names[0]}"] = h5py.ExternalLink("other.h5", "x")

    def numbers() -> None:
        weights[first].attrs["weight_names"] = np.arange(3.0)

    def swollen() -> None:
        file.attrs["model_config"] = b"{" + b" " * 60_000

    def lost() -> None:
        del weights[first]

    def fewer() -> None:
        weights[first].attrs["weight_names"] = [names[0].encode()]

    def upward() -> None:
        weights[first].attrs["weight_names"] = [b"../../x", names[1].encode()]

    return {
        "link": link, "numbers": numbers, "swollen": swollen, "lost": lost, "fewer": fewer,
        "upward": upward,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        ("link", "refused: a link to another place"),
        ("numbers", "weight_names: expected"),
        ("swollen", "expected a valid config"),
        ("lost", "missing: the weights of conv2d"),
        ("fewer", r"expected 2 variables \(kernel, bias\), got 1"),
        ("upward", "missing: model_weights/conv2d"),
    ],
)
def test_broken_older_files(tmp_path: Path, files: Any, edit: str, text: str) -> None:
    (tmp_path / "w").write_bytes(files["h5"])
    with h5py.File(tmp_path / "w", "r+") as file:
        legacy_edits(file)[edit]()
    refused(tmp_path / "w", text)


def test_other_hdf5_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w", "w") as file:
        file["x"] = np.ones(3)
    refused(tmp_path / "w", "expected an HDF5 file of Keras")


def test_other_zips_are_not_keras(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(zipped({"a.txt": b"a"}))
    refused(tmp_path / "w", "expected a zip file of torch.save")


@pytest.mark.parametrize("form", FORMS)
def test_truncated_files(tmp_path: Path, files: Any, form: str) -> None:
    content = files[form]
    cuts = np.linspace(1, len(content) - 1, 60).astype(int).tolist()
    for cut in {*cuts, 4, 8, 9, 16, 96, 512, 2048, len(content) - 2, len(content) - 22}:
        (tmp_path / "w").write_bytes(content[:cut])
        refused(tmp_path / "w")


FUZZ = """
import sys
from pathlib import Path
import numpy as np
from vgg_cuda.weights import WeightsError, load_weights
content, path = bytearray(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2])
rng = np.random.default_rng(0)
refused = 0
for _ in range(int(sys.argv[3])):
    data = bytearray(content)
    for at in rng.integers(0, len(data), rng.integers(1, 9)):
        data[at] = rng.integers(256)
    for at in rng.integers(0, min(len(data), 4096), rng.integers(0, 4)):
        data[at] = rng.choice([0, 1, 127, 255])
    path.write_bytes(data)
    try:
        load_weights(path)
    except WeightsError as error:
        refused += 1
        assert "\\n" not in str(error), error
print(refused)
"""


@pytest.mark.parametrize("form", FORMS)
def test_files_with_wrong_bytes(tmp_path: Path, files: Any, form: str) -> None:
    """Run in a new process, since a library may crash."""
    (tmp_path / "good").write_bytes(files[form])
    command = [sys.executable, "-c", FUZZ, str(tmp_path / "good"), str(tmp_path / "w"), "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 0


def test_endless_heap_of_texts(tmp_path: Path, files: Any) -> None:
    """libhdf5 walks a heap of texts by the stated sizes, and loops forever on a size of 0."""
    content = bytearray(files["weights.h5"])
    at = content.index(b"GCOL")
    end, here = at + int.from_bytes(content[at + 8 : at + 16], "little"), at + 16
    while int.from_bytes(content[here : here + 2], "little"):
        here += 16 + (int.from_bytes(content[here + 8 : here + 16], "little") + 7) // 8 * 8
    assert here < end
    content[here + 8 : here + 16] = bytes(8)
    (tmp_path / "w").write_bytes(content)
    refused(tmp_path / "w", "a heap of texts with an end")
    (tmp_path / "w").write_bytes(content[:at] + b"GCOL\1\0\0\0" * 100_000)  # heaps in heaps
    refused(tmp_path / "w", "a heap of texts with an end|not a readable")


def test_command_line_prints_one_line(tmp_path: Path, files: Any) -> None:
    (tmp_path / "w.keras").write_bytes(files["keras"][:-100])
    command = [sys.executable, "-m", "vgg_cuda", "convert", "w.keras", "out.safetensors"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "w.keras" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["w.keras"]


AMBIGUOUS: dict[str, tuple[Callable[[], Any], str]] = {
    "nine-convolutions": (
        lambda: sequential(*(conv() for _ in range(9)), L.MaxPooling2D(), *gap()),
        "expected 8, 10, 13, 16 convolutions.*found 9",
    ),
    "pools-elsewhere": (
        lambda: sequential(*(conv() for _ in range(8)), L.MaxPooling2D(), *gap()),
        "expected 5 pools after 8 convolutions, found 1",
    ),
    "average-pools": (
        lambda: sequential(*(conv() for _ in range(8)), L.AveragePooling2D(2), *gap()),
        "average_pooling2d: expected the layers of a VGG",
    ),
    "one-norm": (
        lambda: sequential(*(conv() for _ in range(8)), L.BatchNormalization(), *gap()),
        "8 convolutions, 1 batch norms",
    ),
    "norms-after-relus": (
        lambda: sequential(
            *(layer for _ in range(8) for layer in (conv(), L.BatchNormalization())),
            *(L.MaxPooling2D() for _ in range(5)),
            *gap(),
        ),
        "a batch norm and then a ReLU layer after every convolution.*0 activation layers",
    ),
    "rescaling": (
        lambda: sequential(L.Rescaling(0.5), *(conv() for _ in range(8)), *gap()),
        "rescaling: expected the layers of a VGG",
    ),
    "another-layer-with-weights": (
        lambda: sequential(*(conv() for _ in range(8)), L.PReLU(), *gap()),
        "p_re_lu.*: expected",
    ),
}


@pytest.mark.parametrize(("make", "text"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_ambiguous_weights_are_refused(tmp_path: Path, make: Any, text: str) -> None:
    model = make()
    path = tmp_path / "w.weights.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_weights(path)
    refused(path, text)


def test_norms_without_names_are_refused(tmp_path: Path) -> None:
    layers = []
    for _ in range(8):
        layers += [conv(activation=None), L.BatchNormalization(scale=False), L.ReLU()]
    pools = [L.MaxPooling2D() for _ in range(5)]
    path = tmp_path / "w.weights.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sequential(*layers, *pools, *gap()).save_weights(path)
        refused(path, "gamma, beta, moving_mean and moving_variance, got 3 variables")
