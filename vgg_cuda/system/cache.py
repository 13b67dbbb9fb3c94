"""JSON files in the user's cache folder that hold what was measured on one device.

A file has a header, which names the device, its driver and the build, and entries by name. A file
with another header is never used and never overwritten. Several processes may write at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from ..text import one_line
from .files import replacing
from .notices import warn_once

VARIABLE = "VGG_CUDA_CACHE"
FORMAT = 1

Header = Mapping[str, str | int]
Entry = TypeVar("Entry")


class CacheError(OSError):
    """Raised if a cache file cannot be written or has no folder, with what to do."""


class _ForeignError(ValueError):
    """Raised for a file with another header."""


class _Content(msgspec.Struct, Generic[Entry], forbid_unknown_fields=True):
    header: dict[str, str | int]
    entries: dict[str, Entry]


def cache_folder() -> Path:
    """Return the folder of cache files: ``VGG_CUDA_CACHE``, else one in the user's cache folder.

    The default is ``$XDG_CACHE_HOME/vgg_cuda``, by default ``~/.cache/vgg_cuda``. The folder need
    not exist. Raises :class:`CacheError` if a home folder is unknown, or if the variable names a
    file.
    """
    named, base = os.environ.get(VARIABLE), os.environ.get("XDG_CACHE_HOME")
    try:
        if named:
            return _named_folder(named)
        return (Path(base) if base else Path("~/.cache").expanduser()) / "vgg_cuda"
    except RuntimeError:  # as for a user of a container without HOME
        raise CacheError(
            f"there is no home folder for cache files; set {VARIABLE} to a folder"
        ) from None


def _named_folder(named: str) -> Path:
    expected = f"{VARIABLE}: expected a folder, got {named!r}"
    try:
        folder = Path(named).expanduser()
    except RuntimeError:  # "~user/..." without such a user
        raise CacheError(f"{expected}, whose home folder is unknown") from None
    if folder.is_file():
        raise CacheError(f"{expected}, which is a file")
    return folder


def unusable(folder: Path) -> str | None:
    """Return why cache files cannot be written to ``folder``, which need not exist, or None."""
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        return f"{existing} is a file"
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"{existing} is not writable"
    return None


class CacheFile(Generic[Entry]):
    """The file of one ``kind`` ("tuning") for one ``header``, with entries of type ``entry``.

    ``header`` must name everything that the entries depend on. Its value "gpu" is a part of the
    file's name.
    """

    def __init__(self, kind: str, header: Header, entry: type[Entry]) -> None:
        self._header = {"format": FORMAT, "kind": kind, **header}
        self._decoder = msgspec.json.Decoder(_Content[entry])  # type: ignore[valid-type]
        digest = hashlib.sha256(msgspec.json.encode(self._header, order="sorted")).hexdigest()
        gpu = re.sub(r"\W+", "-", str(header.get("gpu", ""))).strip("-").lower()
        self._name = "-".join(filter(None, (kind, gpu, digest[:12]))) + ".json"

    @property
    def path(self) -> Path:
        """The file, which need not exist; raises :class:`CacheError` without a folder for it."""
        return cache_folder() / self._name

    def read(self) -> dict[str, Entry] | None:
        """Return the entries, or None without a usable file.

        A file that is corrupt, unreadable or has another header is ignored with one warning.
        """
        try:
            return self._read()
        except (FileNotFoundError, CacheError):
            return None
        except (OSError, ValueError) as error:
            warn_once(f"cache file {self.path} is ignored: {_reason(error)}")
            return None

    def merge(self, entries: Mapping[str, Entry]) -> None:
        """Add ``entries`` to the file, replacing entries with the same names.

        A corrupt file is replaced. Raises :class:`CacheError` if the file cannot be written, or if
        it has another header.
        """
        path = self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                try:
                    known = self._read()
                except FileNotFoundError:
                    known = {}
                except msgspec.DecodeError:
                    known = {}
                content = _Content(self._header, {**known, **entries})
                text = msgspec.json.format(msgspec.json.encode(content), indent=1)
                with replacing(path) as temporary:
                    temporary.write_bytes(text + b"\n")
        except (OSError, ValueError) as error:
            foreign = isinstance(error, _ForeignError)
            at = getattr(error, "filename", None)
            failed = at if isinstance(at, str) and at.endswith(".lock") else path
            raise CacheError(
                f"cannot write the cache file {failed}: {_reason(error)}; "
                f"{'delete that file, or ' if foreign else ''}set {VARIABLE} to another folder"
            ) from None

    def _read(self) -> dict[str, Entry]:
        content: _Content[Entry] = self._decoder.decode(self.path.read_bytes())
        differing = [key for key in self._header if content.header.get(key) != self._header[key]]
        if differing or len(content.header) != len(self._header):
            raise _ForeignError(
                f"it was written for another {', '.join(differing) or 'version of the program'}"
            )
        return content.entries

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the file's lock, for which other processes and threads wait."""
        with open(self.path.with_suffix(".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield
            finally:  # a process that another thread has forked keeps the file open
                fcntl.flock(lock, fcntl.LOCK_UN)


def _reason(error: Exception) -> str:
    if isinstance(error, msgspec.DecodeError):
        return f"it is corrupt ({one_line(error, 80)})"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
