"""Files in the user's cache folder: headers, damage, and processes that write at once."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vgg_cuda import DeviceWarning
from vgg_cuda.system import cache, notices
from vgg_cuda.system.cache import CacheError, CacheFile, cache_folder

HEADER = {"gpu": "NVIDIA H200", "driver": "580.65", "commit": "abc"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VGG_CUDA_CACHE", str(tmp_path / "cache"))
    notices.forget()
    return tmp_path / "cache"


def file(**header: str) -> CacheFile[int]:
    return CacheFile("times", {**HEADER, **header}, int)


def test_entries_are_merged_under_one_header(folder: Path) -> None:
    assert file().read() is None
    file().merge({"a": 1, "b": 2})
    file().merge({"b": 3})
    file(driver="590.1").merge({"c": 4})
    assert file().read() == {"a": 1, "b": 3}
    assert file(driver="590.1").read() == {"c": 4}
    assert file(commit="other").read() is None
    assert file().path.parent == folder
    assert file().path.name.startswith("times-nvidia-h200-")


def test_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VGG_CUDA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/vgg_cuda")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("~/.cache/vgg_cuda").expanduser()


def test_user_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VGG_CUDA_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["no such user"])
    assert file().read() is None
    with pytest.raises(CacheError, match="no home folder for cache files; set VGG_CUDA_CACHE to"):
        file().merge({"a": 1})


def test_forked_process_does_not_keep_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is forked during a write inherits the open file, like a duplicate here."""
    inherited: list[int] = []
    replacing = cache.replacing

    def forked(path: Path) -> Any:
        opened = {os.readlink(link): int(link.name) for link in Path("/proc/self/fd").iterdir()
                  if link.is_symlink()}  # fmt: skip
        inherited.append(os.dup(opened[str(path.with_suffix(".lock"))]))
        return replacing(path)

    monkeypatch.setattr(cache, "replacing", forked)
    file().merge({"a": 1})
    try:
        with open(file().path.with_suffix(".lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(inherited[0])


@pytest.mark.parametrize("content", [b"", b"{", b'{"header": {}}', b"\xff\x00", b"[" * 100_000])
def test_corrupt_file_is_ignored_then_replaced(content: bytes) -> None:
    file().merge({"a": 1})
    file().path.write_bytes(content)
    with pytest.warns(DeviceWarning, match="is ignored: it is corrupt"):
        assert file().read() is None
    assert file().read() is None  # no second warning
    file().merge({"b": 2})
    assert file().read() == {"b": 2}


def test_entry_of_another_type_is_corrupt() -> None:
    CacheFile("times", HEADER, str).merge({"a": "one"})
    with pytest.warns(DeviceWarning, match="corrupt"):
        assert file().read() is None


def test_file_with_another_header_is_kept() -> None:
    file().merge({"a": 1})
    content = json.loads(file().path.read_text())
    content["header"]["driver"] = "1.0"
    foreign = json.dumps(content)
    file().path.write_text(foreign)
    with pytest.warns(DeviceWarning, match="written for another driver"):
        assert file().read() is None
    with pytest.raises(
        CacheError, match=r"another driver; delete that file, or set VGG_CUDA_CACHE"
    ):
        file().merge({"b": 2})
    assert file().path.read_text() == foreign


def test_unwritable_folder_is_one_clear_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.parent.joinpath("file").write_text("")
    monkeypatch.setenv("VGG_CUDA_CACHE", str(folder.parent / "file" / "cache"))
    with pytest.raises(CacheError, match=r"cannot write the cache file .*Not a directory; set"):
        file().merge({"a": 1})
    assert folder.parent.joinpath("file").read_text() == ""


def test_variable_that_names_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.touch()
    for value, reason in ((str(folder), "which is a file"), ("~nosuchuser/x", "whose home folder")):
        monkeypatch.setenv("VGG_CUDA_CACHE", value)
        assert file().read() is None
        with pytest.raises(CacheError, match=f"VGG_CUDA_CACHE: expected a folder, got .*{reason}"):
            file().merge({"a": 1})


def test_folder_at_the_lock_is_named() -> None:
    lock = file().path.with_suffix(".lock")
    lock.mkdir(parents=True)
    with pytest.raises(CacheError, match=rf"{lock}: Is a directory; set"):
        file().merge({"a": 1})


def test_files_have_the_users_default_mode(folder: Path) -> None:
    mask = os.umask(0o022)
    try:
        file().merge({"a": 1})
    finally:
        os.umask(mask)
    assert stat.S_IMODE(file().path.stat().st_mode) == 0o644
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".lock"]


def test_processes_that_write_at_once_lose_nothing() -> None:
    program = (
        "import sys; from vgg_cuda.system.cache import CacheFile\n"
        f"file = CacheFile('times', {HEADER!r}, int)\n"
        "for i in range(40): file.merge({f'{sys.argv[1]}{i}': i})"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, name]) for name in "abc"]
    assert [child.wait(60) for child in running] == [0, 0, 0]
    entries = file().read()
    assert entries is not None
    assert len(entries) == 120
