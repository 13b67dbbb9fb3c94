"""Writing files so that an interrupted run leaves no half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

unfinished: set[Path] = set()
"""Temporary files and folders that exist now; a program that is told to stop removes them."""


def remove_unfinished() -> None:
    """Removes what is in :data:`unfinished`; safe in a signal handler."""
    for path in list(unfinished):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to; it becomes ``path`` when the block succeeds.

    A link is followed; a file that is replaced keeps its mode. The temporary file is made at once,
    so that a folder that is not there or cannot be written to raises ``OSError`` before any work,
    as does a ``path`` that is a folder, a device or a pipe. It is removed when the block fails.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a file name")
    if target.exists() and not target.is_file():
        raise OSError(f"{path} is no regular file; expected the name of one, or a new name")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {target.parent}")
    temporary = target.parent / f".{secrets.token_hex(8)}.part"
    unfinished.add(temporary)
    try:
        _create(temporary, path)
        mode = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
        yield temporary
        temporary.chmod(mode)  # writers may have made a file of their own in its place
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
        unfinished.discard(temporary)


def _create(temporary: Path, path: str | Path) -> None:
    """An empty file with the mode that any file of the user's gets; tempfile's are private."""
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error.strerror}") from None


def check_writable(path: str | Path) -> None:
    """Raises ``OSError`` where ``path`` cannot be written; leaves nothing behind."""
    with contextlib.suppress(_AbandonedError), replacing(path):
        raise _AbandonedError


class _AbandonedError(Exception):
    """Ends a block of :func:`replacing` without a result."""
