"""Hostile and broken weight files: one clear error each, no execution, bounded memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support.torch_vgg import TorchVGG
from support.weight_files import SMALL, Bytes, legacy, refused, state, zipped

from vgg_cuda.weights import WeightsError, load_weights

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)


def plain(value: Any) -> bytes:
    return pickle.dumps(value, 2)


def after_magic(value: Any) -> bytes:
    """Return a pickle in the place of the legacy format's state dict."""
    return MAGIC + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + pickle.dumps(value, 2)


class Creates:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path, call: str) -> None:
        self.path, self.call = path, call

    def __reduce__(self) -> tuple[Any, ...]:
        if self.call == "system":
            return os.system, (f"touch {self.path}",)
        if self.call == "exec":
            return exec, (f"import os; os.mkdir({str(self.path)!r})",)
        return eval, (f"__import__('os').mkdir({str(self.path)!r})",)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w"])
@pytest.mark.parametrize("call", ["system", "exec", "eval"])
@pytest.mark.parametrize("dumps", [zipped, legacy, plain, after_magic])
def test_pickle_does_not_run_code(tmp_path: Path, dumps: Bytes, call: str, name: str) -> None:
    proof = tmp_path / "proof"
    evil = {"evil": Creates(proof, call), **state()}
    content = dumps(evil)
    message = refused(tmp_path, content, name)
    assert not proof.exists()
    assert (f"{call}, which may run code" if dumps is not plain else "can run code") in message
    if dumps is zipped:  # check that an unsafe reader runs the code
        torch.load(io.BytesIO(content), weights_only=False)
        assert proof.exists()


def test_environment_cannot_disable_protection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    proof = tmp_path / "proof"
    assert "run code" in refused(tmp_path, zipped({"features.0.weight": Creates(proof, "system")}))
    assert not proof.exists()


def test_pickled_module_names_the_remedy(tmp_path: Path) -> None:
    message = refused(tmp_path, zipped(TorchVGG(SMALL, hidden=8, num_classes=2)))
    assert "torch_vgg.TorchVGG" in message
    assert "model.state_dict()" in message


@pytest.mark.parametrize("dumps", [zipped, legacy, safetensors.torch.save])
def test_truncated_files_are_refused(tmp_path: Path, dumps: Bytes) -> None:
    content = dumps(state())
    for cut in (len(content) - 1, len(content) // 2, 1000, 100, 20, 9, 5):
        refused(tmp_path, content[:cut])


def stored(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return out.getvalue()


ODD = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello, I am a text file", "expected a weights file"),
    "zip-of-something": (stored({"a.txt": b"a"}), "expected a zip file of torch.save"),
    "zip-magic-alone": (b"PK\x03\x04" + bytes(40), "not a readable zip file"),
    "list": (zipped([1, 2]), "expected a state dict"),
    "number": (legacy(3), "expected a state dict"),
    "no-tensor": (zipped({"features.0.weight": 3}), "expected a tensor, got int"),
    "names": (zipped({3: torch.zeros(2)}), "expected names of tensors, got int"),
    "nothing": (zipped({}), "no tensors at all"),
    "another-network": (zipped({"layer1.conv.weight": torch.zeros(2)}), "got layer1.conv.weight"),
    "sparse": (zipped({"features.0.weight": torch.eye(3).to_sparse()}), "dense tensor"),
    "complex": (zipped({"features.0.weight": torch.zeros(2, dtype=torch.cfloat)}), "real numbers"),
    "bool": (zipped({"features.0.weight": torch.zeros(2, dtype=torch.bool)}), "expected numbers"),
    "float8": (zipped({"features.0.weight": torch.zeros(2).to(torch.float8_e5m2)}), "float8_e5m2"),
    "meta": (zipped({"features.0.weight": torch.zeros(2, device="meta")}), "dense tensor"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "text"), ODD.values(), ids=ODD.keys())
def test_files_without_a_vgg_are_refused(tmp_path: Path, content: bytes, text: str) -> None:
    assert text in refused(tmp_path, content)


def test_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="regular file"):
        load_weights(tmp_path / "pipe")


def header(declared: dict[str, Any]) -> bytes:
    text = json.dumps(declared).encode()
    return struct.pack("<Q", len(text)) + text


def expanded() -> bytes:
    """Return terabytes by a stride of 0."""
    return zipped({"features.0.weight": torch.zeros(1).expand(1 << 20, 1 << 20)})


def claims(dumps: Bytes, elements: int) -> bytes:
    """Return a pickle that claims more elements than its storage has."""
    content = dumps({"features.0.weight": torch.zeros(7777)})
    short, long = b"M" + struct.pack("<H", 7777), b"J" + struct.pack("<i", elements)
    if dumps is zipped:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        return stored({name: data.replace(short, long) for name, data in entries.items()})
    assert content.count(short) == 2
    return content.replace(short, long)


def grown() -> bytes:
    """Return a legacy storage of a GiB, and a larger tensor, for which torch copies it."""
    content = legacy({"features.0.weight": torch.zeros(7777)})
    short = b"M" + struct.pack("<H", 7777)
    for elements in (1 << 28, (1 << 28) + 1000):
        content = content.replace(short, b"J" + struct.pack("<i", elements), 1)
    return content


def bomb() -> bytes:
    with zipfile.ZipFile(io.BytesIO(zipped(state()))) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    [pickled] = [name for name in entries if name.endswith("data.pkl")]
    entries[pickled] += bytes(400_000_000)
    return stored(entries, zipfile.ZIP_DEFLATED)


GREEDY = {
    "safetensors-header-length": lambda: struct.pack("<Q", 90_000_000) + b"{" + bytes(50),
    "safetensors-header-length-2": lambda: struct.pack("<Q", 1 << 60) + b"{" + bytes(50),
    "safetensors-tensor": lambda: header(
        {"features.0.weight": {"dtype": "F32", "shape": [1 << 31], "data_offsets": [0, 1 << 33]}}
    ),
    "safetensors-empty-but-wide": lambda: header(
        {"features.0.weight": {"dtype": "F32", "shape": [0, 1 << 62], "data_offsets": [0, 0]}}
    ),
    "expanded": expanded,
    "zip-storage": lambda: claims(zipped, 1 << 30),
    "legacy-storage": lambda: claims(legacy, 1 << 30),
    "legacy-storage-grown": grown,
    "zip-bomb": bomb,
    "deep-json": lambda: safetensors.torch.save(state(), {"vgg_cuda": "[" * 100_000}),
}  # fmt: skip

CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from support.memory import peak_kib, reset_peak
import torch  # before the measurement
from vgg_cuda.weights import WeightsError, load_weights
for path in sys.argv[2:]:
    reset_peak()
    before = peak_kib()
    try:
        load_weights(path)
    except WeightsError as error:
        grown = peak_kib() - before
        print(grown, error)
"""


def test_memory_is_bounded_by_the_file_size(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in GREEDY]
    for path, make in zip(paths, GREEDY.values(), strict=True):
        path.write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parents[2]), *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths), done.stdout
    for line, path in zip(lines, paths, strict=True):
        grown, _, message = line.partition(" ")
        assert message.startswith(str(path))
        assert int(grown) < 100_000, f"{path.name} took {grown} KiB: {message}"


# The only call that weights_only allows and that allocates memory: bytearray(4e9)
BOMB = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + (4 * 10**9).to_bytes(5, "little") + b"\x85R."


@pytest.mark.parametrize("kind", ["zip", "legacy", "legacy keys"])
def test_pickle_cannot_allocate_memory(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", BOMB)
            archive.writestr("archive/version", b"3\n")
    else:
        torch.save({}, buffer, _use_new_zipfile_serialization=False)
        pickles, rest = [], io.BytesIO(buffer.getvalue())
        for _ in range(5):
            start = rest.tell()
            list(pickletools.genops(rest))
            pickles.append(buffer.getvalue()[start : rest.tell()])
        pickles[3 if kind == "legacy" else 4] = BOMB
        buffer = io.BytesIO(b"".join(pickles))
    assert "bytearray" in refused(tmp_path, buffer.getvalue())
