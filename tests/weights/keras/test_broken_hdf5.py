"""Broken and hostile HDF5 files of Keras: one error each, bounded memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.keras_files import FORMS, entries, refused, zipped

KERNEL = "layers/conv2d_1/vars/0"
Edit = Callable[[h5py.File], None]


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
    "soft-link": (soft, "expected data in this place, got a link"),
    "soft-link-to-a-group": (soft_group, "expected data in this place, got a link"),
    "external-link": (external, "expected data in this place, got a link"),
    "external-link-to-a-group": (external_group, "expected data in this place, got a link"),
    "virtual": (virtual, "got virtual or external data"),
    "external-storage": (external_storage, "got virtual or external data"),
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
def test_broken_hdf5_is_refused(
    tmp_path: Path, files: Any, edit: Edit, text: str, form: str
) -> None:
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


def test_variables_of_another_layer_are_refused(tmp_path: Path, files: Any) -> None:
    inner = tmp_path / "inner.h5"
    inner.write_bytes(entries(files["keras"])["model.weights.h5"])
    with h5py.File(inner, "r+") as file:
        swapped(file)
    content = entries(files["keras"]) | {"model.weights.h5": inner.read_bytes()}
    (tmp_path / "w").write_bytes(zipped(content))
    refused(
        tmp_path / "w", r"conv2d_\d+: .* at layers/conv2d_1/vars, found variables of conv2d_\d+"
    )


def test_group_that_contains_itself_is_refused(tmp_path: Path, files: Any) -> None:
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
        ("link", "expected data in this place, got a link"),
        ("numbers", "weight_names: expected"),
        ("swollen", "expected a valid config"),
        ("lost", "missing: the weights of conv2d"),
        ("fewer", r"expected 2 variables \(kernel, bias\), got 1"),
        ("upward", "missing: model_weights/conv2d"),
    ],
)
def test_broken_older_file_is_refused(tmp_path: Path, files: Any, edit: str, text: str) -> None:
    (tmp_path / "w").write_bytes(files["h5"])
    with h5py.File(tmp_path / "w", "r+") as file:
        legacy_edits(file)[edit]()
    refused(tmp_path / "w", text)


def test_hdf5_of_another_program_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w", "w") as file:
        file["x"] = np.ones(3)
    refused(tmp_path / "w", "expected an HDF5 file of Keras")


@pytest.mark.parametrize("form", FORMS)
def test_truncated_file_is_refused(tmp_path: Path, files: Any, form: str) -> None:
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
def test_file_with_wrong_bytes_is_refused(tmp_path: Path, files: Any, form: str) -> None:
    """Run in a new process, since a library may crash."""
    (tmp_path / "good").write_bytes(files[form])
    command = [sys.executable, "-c", FUZZ, str(tmp_path / "good"), str(tmp_path / "w"), "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 0


def test_endless_heap_of_texts_is_refused(tmp_path: Path, files: Any) -> None:
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
