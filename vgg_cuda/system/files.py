"""File output in which an interrupted run leaves no partial file."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

unfinished: set[Path] = set()
"""Temporary files and folders that exist now; a signal handler removes them."""


def remove_unfinished() -> None:
    """Remove the files and folders in :data:`unfinished`; safe in a signal handler."""
    for path in list(unfinished):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Make a temporary folder, which is also removed if a signal ends the program."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        path = Path(name)
        unfinished.add(path)
        try:
            yield path
        finally:
            unfinished.discard(path)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path``, and rename it to ``path`` if the block succeeds.

    Links are followed, and a replaced file keeps its mode. If the block fails, the temporary file
    is removed. Raises ``OSError`` before the block runs if ``path`` is a folder, a device or a
    pipe, or if its folder is missing or not writable.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder; pass a file name")
    if target.exists() and not target.is_file():
        raise OSError(f"cannot write {path}: it is not a regular file; pass another name")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {target.parent}")
    temporary = target.parent / f".{secrets.token_hex(8)}.part"
    unfinished.add(temporary)
    try:
        _create(temporary, path)
        mode = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
        yield temporary
        temporary.chmod(mode)  # the writer may have replaced the file
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
        unfinished.discard(temporary)


def _create(temporary: Path, path: str | Path) -> None:
    """Create an empty file with the user's default mode (files of ``tempfile`` are private)."""
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error.strerror}") from None


def check_writable(path: str | Path) -> None:
    """Raise ``OSError`` if ``path`` cannot be written; leaves no file behind."""
    with contextlib.suppress(_AbandonedError), replacing(path):
        raise _AbandonedError


class _AbandonedError(Exception):
    """Raised to leave a block of :func:`replacing` without a result."""
