"""Choices of tuning in the subcommand ``plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..forward.inputs import check_dtype
from .tune import image_dtype, kernel_backend

if TYPE_CHECKING:
    from .. import _C
    from ..backends.operations import Planner
    from ..forward.graph import Network


class Choices:
    """Choices of tuning on ``device`` for the kernels of ``arch``, by default as ``tune``.

    ``command`` is the command that measures what is missing.
    """

    def __init__(self, device: str, arch: str | None, command: str) -> None:
        from ..tuning import Entries, header_of

        self._command = command
        self._on: Any = kernel_backend(device, arch)
        self.arch: _C.Arch = self._on.arch
        self._entries = Entries(header_of(self._on))

    def image_dtype(self, dtype: str) -> str:
        """Return the dtype on the device of images that were preprocessed in host memory."""
        return image_dtype(self._on, check_dtype(self._on, dtype))

    def planner(self, network: Network) -> Planner:
        """Return a planner that uses what was found, and measures nothing."""
        from ..tuning import TunedPlanner
        from ..tuning.report import Rows

        self._rows = Rows({**network.convs, **network.dense})
        return TunedPlanner(self.arch, self._entries, report=self._rows)

    def table(self) -> str:
        """Return the choices as aligned text, with the file they are from."""
        from .tune_table import RANKED, table

        missing = sum(row.entry is None for row in self._rows)
        if missing == len(self._rows.rows):
            return f"nothing is tuned for this network, batch and device: run `{self._command}`"
        lines = [table(self._rows.rows, self._entries)]
        if self._entries.unit == "cycles":
            lines.append(RANKED)
        if missing:
            lines.append(f"{missing} layers are not tuned: run `{self._command}`")
        return "\n".join([*lines, f"from {self._entries.file.path}"])

    def as_dict(self) -> dict[str, Any]:
        """Return the choices as JSON-ready values."""
        from .tune_table import as_dict

        path = self._entries.file.path
        return {
            "file": str(path) if path.exists() else None,
            "unit": self._entries.unit,
            "layers": as_dict(self._rows.rows, self._entries),
        }
