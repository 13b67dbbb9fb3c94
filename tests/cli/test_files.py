"""Atomic file output: links, modes, devices, folders, failures."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vgg_cuda.system.files import check_writable, replacing


def test_replacing_follows_links_and_keeps_modes(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real.name)
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.json", "real.json"]


def test_check_writable_refuses_devices_and_pipes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/null"):
        before = os.stat(path)
        with pytest.raises(OSError, match="not a regular file"):
            check_writable(path)
        assert stat.S_IFMT(os.stat(path).st_mode) == stat.S_IFMT(before.st_mode)


def test_check_writable_names_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"r\.json: there is no folder .*gone"):
        check_writable(tmp_path / "gone" / "r.json")


def test_check_writable_accepts_long_names(tmp_path: Path) -> None:
    check_writable(tmp_path / ("n" * 250 + ".json"))


def test_replacing_keeps_the_old_file_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
