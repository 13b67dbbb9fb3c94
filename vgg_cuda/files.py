"""Writing files so that an interrupted run leaves no half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to; it becomes ``path`` when the block succeeds.

    The temporary file is made at once, so that a folder that cannot be written to raises
    ``OSError`` before any work. It is removed when the block fails.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder; expected a file name")
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # temporary files are private; a result is as readable as any file the user makes
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raises ``OSError`` where ``path`` cannot be written; leaves nothing behind."""
    with contextlib.suppress(_AbandonedError), replacing(path):
        raise _AbandonedError


class _AbandonedError(Exception):
    """Ends a block of :func:`replacing` without a result."""
