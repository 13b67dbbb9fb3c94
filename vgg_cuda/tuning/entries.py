"""Results of tuning for one operation, and the cache file that keeps them for a device."""

from __future__ import annotations

from typing import Any

import msgspec

from ..backends.kernels import KernelBackend
from ..backends.verdicts import EMULATOR, device_header
from ..system.cache import CacheError, CacheFile
from ..system.notices import warn_once


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fastest variant of one operation, and what else was found.

    - ``op``, ``sizes``, ``options``: the operation, as ``_C.plan_<op>(*sizes, **options)``.
    - ``variant``: the fastest; ``planned``: the plan's own choice, with the lowest estimate.
    - ``times``: microseconds by variant, on the emulator cycles; ``cycles``: estimates by variant.
    - ``candidates``: number of variants, including those skipped because of their estimate.
    - ``dropped``: reasons by variant, for refused launches and wrong results.
    """

    op: str
    sizes: tuple[int, ...]
    options: dict[str, str | bool]
    variant: str
    planned: str
    times: dict[str, float]
    cycles: dict[str, float]
    candidates: int
    dropped: dict[str, str] = {}

    @property
    def time(self) -> float:
        """Time of the chosen variant."""
        return self.times[self.variant]

    @property
    def planned_time(self) -> float | None:
        """Time of the plan's own choice; None if it was dropped."""
        return self.times.get(self.planned)


class Entries:
    """The entries of one device, by key, from its cache file and since.

    ``header`` is the result of :func:`header_of` or :func:`~vgg_cuda.backends.verdicts.
    device_header`. If ``required``, an entry that cannot be written is an error, not a warning.
    """

    def __init__(self, header: dict[str, str | int], *, required: bool = False) -> None:
        self.file = CacheFile("tuning", header, Entry)
        self.unit = "cycles" if header["gpu"] == EMULATOR else "us"
        self._known = self.file.read() or {}
        self._required = required
        self._written: dict[str, Entry] = {}

    def __iter__(self) -> Any:
        return iter(self._known.values())

    def get(self, key: str) -> Entry | None:
        entry = self._known.get(key)
        # a file that was edited by hand
        return entry if entry is not None and entry.variant in entry.times else None

    def add(self, key: str, entry: Entry) -> None:
        """Keep an entry, also in the file.

        If the file cannot be written, warn once, or raise
        :class:`~vgg_cuda.system.cache.CacheError` if the file is ``required``.
        """
        self._known[key] = entry
        try:
            self.file.merge({key: entry})
            self._written[key] = entry
        except CacheError as error:
            if self._required:
                raise CacheError(f"{error} ({self.written} entries were kept)") from None
            warn_once(f"tuning lasts only as long as this process: {error}")

    @property
    def written(self) -> int:
        """Number of entries that were measured and written to the file since."""
        return len(self._written)

    def is_new(self, entry: Entry) -> bool:
        """Return whether ``entry`` was measured and written since, not read from the file."""
        return any(entry is each for each in self._written.values())

    def require_writable(self) -> None:
        """Raise :class:`~vgg_cuda.system.cache.CacheError` if the file cannot be written."""
        self.file.merge({})


def header_of(backend: KernelBackend) -> dict[str, str | int]:
    """Return the header of the cache files of a backend's device and architecture."""
    return device_header(backend.gpu, backend.arch.name)
